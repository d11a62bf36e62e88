"""MERL's published tables: every figure of the index, the corrected labels, the download."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError, DownloadError
from ecg_hf.evaluation.benchmark_data import merl_subset
from ecg_hf.evaluation.merl import (
    MERL_COMMIT,
    MERL_TABLES,
    META_COLUMNS,
    download_merl_tables,
    exact_csn_labels,
    merl_prompts_file,
    read_merl_table,
    stack_merl_tables,
)
from ecg_hf.evaluation.zero_shot import load_prompts, prompts_for

SPLITS = {"train": "train", "validation": "val", "test": "test"}
INDEX_NAMES = {
    "ptbxl-super": "ptbxl_super_class",
    "ptbxl-sub": "ptbxl_sub_class",
    "ptbxl-form": "ptbxl_form",
    "ptbxl-rhythm": "ptbxl_rhythm",
    "cpsc2018": "cpsc2018",
    "csn": "csn",
}


@pytest.fixture
def protocol(merl_tables: Path) -> Path:
    return merl_tables


@pytest.fixture
def index(shared_fixtures: Path) -> dict:
    return json.loads((shared_fixtures / "merl" / "benchmark_index.json").read_text())


@pytest.mark.fixtures
@pytest.mark.parametrize("benchmark", INDEX_NAMES)
def test_tables_equal_the_index(protocol: Path, index: dict, benchmark: str) -> None:
    expected = index[INDEX_NAMES[benchmark]]
    assert len(META_COLUMNS[benchmark]) == expected["n_meta_columns"]
    for split, key in SPLITS.items():
        wanted = expected["splits"][key]
        name, digest = MERL_TABLES[benchmark][split]
        assert (f"finetune/data_split/{name}", digest) == (wanted["file"], wanted["sha256"])
        table = read_merl_table(protocol, benchmark, split)
        assert len(table) == wanted["rows"] == len(set(table.record_ids))
        assert list(META_COLUMNS[benchmark]) == wanted["meta_columns"]
        assert list(table.class_names) == wanted["label_columns_in_file_order"]
        totals = dict(zip(table.class_names, table.labels.sum(axis=0).tolist(), strict=True))
        assert totals == wanted["positives"]
    train = read_merl_table(protocol, benchmark, "train")
    for fraction, key in ((0.01, "train_1pct"), (0.1, "train_10pct")):
        chosen = merl_subset(len(train), fraction)
        assert len(chosen) == expected[key]["n"]
        assert chosen[:10].tolist() == expected[key]["first10_row_indices"]
        digest = hashlib.sha256(chosen.astype("<i8").tobytes()).hexdigest()
        assert digest == expected[key]["sha256_of_int64_le_index_array"]
        empty = ~train.labels[chosen].any(axis=0)
        absent = [name for name, none in zip(train.class_names, empty, strict=True) if none]
        assert absent == expected[key]["labels_without_positive"]


@pytest.mark.fixtures
def test_exact_csn_labels(protocol: Path, index: dict) -> None:
    tables = [read_merl_table(protocol, "csn", split) for split in SPLITS]
    expected = index["csn"]["exact_token_positives_for_labels_hit_by_substring_matching"]
    for table, key in zip(tables, SPLITS.values(), strict=True):
        totals = dict(zip(table.class_names, exact_csn_labels(table).sum(axis=0).tolist(), strict=True))
        assert {name: totals[name] for name in expected} == {n: row[key] for n, row in expected.items()}
    whole = stack_merl_tables(tables, "name")
    exact = exact_csn_labels(whole)
    changed = {
        name: int(total)
        for name, total, before in zip(
            whole.class_names, exact.sum(axis=0), whole.labels.sum(axis=0), strict=True
        )
        if total != before
    }
    assert changed == {"VB": 3, "AF": 3340, "AVB": 176, "ST": 5154, "SA": 2107, "CR": 75, "2AVB": 22}
    assert int((whole.labels & ~exact).sum()) == 5125
    assert not (exact & ~whole.labels).any()
    assert int((whole.labels != exact).any(axis=1).sum()) == 3817
    with pytest.raises(ConfigurationError, match="no diagnoses"):
        exact_csn_labels(read_merl_table(protocol, "cpsc2018", "test"))


@pytest.mark.fixtures
def test_position_and_name_differ_in_three_columns_of_one_table(protocol: Path) -> None:
    for benchmark in INDEX_NAMES:
        tables = [read_merl_table(protocol, benchmark, split) for split in SPLITS]
        by_name, by_position = (stack_merl_tables(tables, rule) for rule in ("name", "position"))
        assert by_name.class_names == by_position.class_names == tables[2].class_names
        differ = (by_name.labels != by_position.labels).any(axis=0)
        names = {name for name, yes in zip(by_name.class_names, differ, strict=True) if yes}
        assert names == ({"ISC", "AVB", "RAO/RAE"} if benchmark == "ptbxl-sub" else set())
        held_out = by_name.splits != "train"
        np.testing.assert_array_equal(by_name.labels[held_out], by_position.labels[held_out])


@pytest.mark.realdata
def test_cpsc_tables_hold_the_labels_of_the_original_reference(protocol: Path, real_data: Path) -> None:
    """Fails if records are matched by the tables' ``ecg_id``, a counter of MERL's own, instead of ``filename``."""
    from ecg_hf.data.sources.cpsc2018 import _classes
    from ecg_hf.data.sources.tables import read_table

    reference = read_table(
        real_data / "cpsc2018_raw" / "REFERENCE.training_set.csv",
        ["Recording", "First_label", "Second_label", "Third_label"],
    )
    wanted = {row["Recording"]: set(_classes(row)) for row in reference.to_dict("records")}
    whole = stack_merl_tables([read_merl_table(protocol, "cpsc2018", split) for split in SPLITS], "name")
    assert set(whole.record_ids) == set(wanted)
    for name, row in zip(whole.record_ids, whole.labels, strict=True):
        assert {c for c, yes in zip(whole.class_names, row, strict=True) if yes} == wanted[name], name


@pytest.mark.fixtures
def test_published_prompts_are_read_verbatim_and_cover_every_label(protocol: Path) -> None:
    path = merl_prompts_file(protocol)
    prompts = load_prompts(path)
    assert prompts == json.loads(path.read_text(encoding="utf-8"))
    assert len(prompts) == 131
    labels = {name for b in INDEX_NAMES for name in read_merl_table(protocol, b, "test").class_names}
    assert len(labels) == 86
    assert prompts_for(sorted(labels), prompts) == {name: prompts[name] for name in sorted(labels)}


@pytest.mark.fixtures
def test_another_file_is_refused(protocol: Path, tmp_path: Path) -> None:
    name = MERL_TABLES["cpsc2018"]["test"][0]
    target = tmp_path / name
    target.parent.mkdir(parents=True)
    text = (protocol / "data_split" / name).read_text()
    target.write_text(text + "\n")
    with pytest.raises(ConfigurationError, match="checksum"):
        read_merl_table(tmp_path, "cpsc2018", "test")
    assert len(read_merl_table(tmp_path, "cpsc2018", "test", verify=False)) == 1376
    target.write_text(
        text.replace("A6729", "A6729").replace(",0,0,0,0,0,0,0,0,1\n", ",0,0,0,0,0,0,0,0,2\n", 1)
    )
    with pytest.raises(ConfigurationError, match="zeros and ones"):
        read_merl_table(tmp_path, "cpsc2018", "test", verify=False)
    target.write_text(text.replace("filename", "name", 1))
    with pytest.raises(ConfigurationError, match="published columns"):
        read_merl_table(tmp_path, "cpsc2018", "test", verify=False)


def test_missing_tables_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="download_merl_tables"):
        read_merl_table(tmp_path, "csn", "train")
    with pytest.raises(ConfigurationError, match="publishes no tables"):
        read_merl_table(tmp_path, "georgia", "train")
    with pytest.raises(ConfigurationError, match="CKEPE"):
        merl_prompts_file(tmp_path)


@pytest.fixture
def repository(protocol: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The genuine files behind a loopback server, laid out as in the official repository."""
    root = tmp_path / "served" / MERL_COMMIT
    shutil.copytree(protocol / "data_split", root / "finetune" / "data_split")
    (root / "zeroshot").mkdir()
    shutil.copy(protocol / "CKEPE_prompt.json", root / "zeroshot")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served")))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", root
    server.shutdown()


@pytest.mark.fixtures
def test_download(repository: tuple[str, Path], tmp_path: Path) -> None:
    url, root = repository
    first = download_merl_tables(tmp_path / "got", base_url=url, progress=False)
    assert (first.files, first.downloaded, first.already_there) == (19, 19, 0)
    again = download_merl_tables(tmp_path / "got", base_url=url, progress=False)
    assert (again.downloaded, again.already_there) == (0, 19)
    assert len(read_merl_table(tmp_path / "got", "csn", "train")) == 16546
    assert len(load_prompts(merl_prompts_file(tmp_path / "got"))) == 131
    damaged = root / "zeroshot" / "CKEPE_prompt.json"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.raises(DownloadError, match="checksum"):
        download_merl_tables(tmp_path / "other", base_url=url, progress=False)
    assert not (tmp_path / "other" / "zeroshot" / "CKEPE_prompt.json").exists()
