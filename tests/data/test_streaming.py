"""Parquet exports and the streams of rows read from them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecg_hf.data import build_dataset, decode_batch, export_parquet, load_built, open_parquet
from ecg_hf.data.parquet import _groups, _write
from ecg_hf.data.streaming import RowStream
from ecg_hf.errors import ConfigurationError, DatasetBuildError
from ecg_hf.files import sole_writer

FOLDS = {"train_folds": "1-8", "validation_folds": "9", "test_folds": "10"}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library waits five seconds for its threads whenever a stream is closed."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "one"
    build_dataset("synthetic", None, folder, records=60, records_per_shard=25, progress=False, **FOLDS)
    return folder


@pytest.fixture(scope="module")
def exported(built: Path) -> Path:
    folder = built.with_name("parquet")
    export_parquet(built, folder, rows_per_file=12, progress=False)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("other")
    build_dataset("synthetic", None, root / "built", records=30, seed=5, progress=False, train_folds="1-10",
                  validation_folds="", test_folds="")  # fmt: skip
    export_parquet(root / "built", root / "parquet", rows_per_file=10, progress=False)
    return root / "parquet"


def names(stream: RowStream, epoch: int, count: int, batch_size: int = 5) -> list[str]:
    """First rows of a stream."""
    batches = islice(stream.batches(epoch, batch_size), -(-count // batch_size))
    return [name for rows in batches for name in rows["record_id"][:]][:count]


def train_rows(folder: Path) -> list[str]:
    rows = load_built(folder)
    return [n for n, split in zip(rows["record_id"][:], rows["split"][:], strict=True) if split == "train"]


def test_an_export_is_what_the_hub_expects(built: Path, exported: Path, tmp_path: Path):
    # All rows are read: a stream left half read may abort the process at its exit (apache/arrow#45214).
    script = (
        "import sys, datasets, ecg_hf; d = datasets.load_dataset(sys.argv[1], cache_dir=sys.argv[2]); "
        "s = datasets.load_dataset('parquet', data_dir=sys.argv[1] + '/data', split='train', streaming=True); "
        "assert [row['ecg']['signal'].dtype for row in s] == ['float32'] * len(d['train']); "
        "assert d['train'][0]['ecg']['signal'].dtype == 'float32'; "
        "print(*(f'{k}={len(v)}' for k, v in d.items()), d['train'][0]['ecg']['lead_names'][3])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(exported), str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    count = Counter(load_built(built)["split"][:])
    assert done.stdout.split() == [f"{k}={count[k]}" for k in ("train", "validation", "test")] + ["aVR"]
    source = open_parquet(exported, "train")
    assert source.rows == (12,) * (count["train"] // 12) + (
        (count["train"] % 12,) if count["train"] % 12 else ()
    )
    assert source.texts("record_id") == train_rows(built)


def test_other_readers_need_no_package(exported: Path):
    script = (
        "import sys, pandas; row = pandas.read_parquet(sys.argv[1] + '/data').iloc[0]; "
        "assert not any(m.startswith('ecg_hf') for m in sys.modules); print(row['ecg']['lead_names'][3])"
    )
    command = [sys.executable, "-c", script, str(exported)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "aVR"


def test_row_groups_are_bounded_in_bytes(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = load_built(built)
    size = len(rows.with_format("arrow")[:]["ecg"][0]["samples"].as_py())
    monkeypatch.setattr("ecg_hf.data.parquet.BYTES_PER_GROUP", 2 * size + 1)
    _write(rows.select([5, 1, 2, 8, 3]), tmp_path / "few.parquet")
    with pq.ParquetFile(tmp_path / "few.parquet") as file:
        assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [2, 2, 1]
        assert file.read(["record_id"])["record_id"].to_pylist() == [
            rows["record_id"][i] for i in (5, 1, 2, 8, 3)
        ]
    assert list(_groups([9 * size] * 2)) == [(0, 1), (1, 2)]
    assert list(_groups([0] * 250)) == [(0, 100), (100, 200), (200, 250)]
    assert list(_groups([])) == []


def test_what_files_say_of_their_types_is_not_believed(exported: Path, tmp_path: Path):
    folder = tmp_path / "out"
    shutil.copytree(exported, folder)
    [file, *_] = sorted((folder / "data").glob("train-*"))
    table = pq.read_table(file)
    for text in (
        b"nonsense",
        b'{"info": {"features": {"ecg": {"_type": "Nobody"}}}}',
        b'{"info": {"features": 5}}',
    ):
        pq.write_table(table.replace_schema_metadata({b"huggingface": text}), file)
        rows = next(RowStream.open([folder]).batches(0, 4))
        assert rows[0]["ecg"]["signal"].dtype == "float32"
    for name in ("ecg", "labels"):
        place = table.column_names.index(name)
        pq.write_table(table.set_column(place, name, pa.array([True] * len(table))), file)
        with pytest.raises(DatasetBuildError, match="other columns"):
            RowStream.open([folder])


def test_damaged_files_are_one_error(exported: Path, tmp_path: Path):
    folder = tmp_path / "out"
    shutil.copytree(exported, folder)
    for file in (folder / "data").glob("train-*"):
        content = bytearray(file.read_bytes())
        for start in range(8, len(content) - 8192, 512):
            content[start : start + 64] = b"\xa5" * 64
        file.write_bytes(content)
    stream = RowStream.open([folder])
    with pytest.raises(DatasetBuildError, match="damaged"):
        next(stream.batches(0, 4))
    with pytest.raises(DatasetBuildError, match="damaged"):
        list(stream.reports())


def test_files_that_announce_more_than_they_hold(exported: Path, tmp_path: Path):
    folder = tmp_path / "out"
    shutil.copytree(exported, folder)
    [file, *_] = sorted((folder / "data").glob("train-*"))
    table = pq.read_table(file)
    place = table.column_names.index("report")
    bomb = pa.array([f"{i}" + "x" * 10_000_000 for i in range(len(table))])
    empty = table.set_column(place, "report", bomb).set_column(
        table.column_names.index("ecg"), "ecg", pa.nulls(len(table), table.schema.field("ecg").type)
    )
    pq.write_table(empty, file, compression="zstd", use_dictionary=False)
    with pytest.raises(DatasetBuildError, match="announces"):
        RowStream.open([folder])


def test_one_export_per_folder(built: Path, tmp_path: Path):
    with sole_writer(tmp_path / "out"), pytest.raises(ConfigurationError, match="another process"):
        export_parquet(built, tmp_path / "out", progress=False)


def test_a_killed_export_continues(built: Path, exported: Path, tmp_path: Path):
    script = """
import os, signal, sys
from ecg_hf.data import parquet
real = parquet._write
def dying(rows, path):
    if path.name.startswith("train-00002"):
        path.with_name(path.name + ".1.tmp").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    real(rows, path)
parquet._write = dying
parquet.export_parquet(sys.argv[1], sys.argv[2], rows_per_file=12, progress=False)
"""
    out = tmp_path / "out"
    assert subprocess.run([sys.executable, "-c", script, str(built), str(out)], check=False).returncode == -9
    with pytest.raises(DatasetBuildError, match="are missing"):
        open_parquet(out, "train")
    first = out / "data" / "train-00000-of-00004.parquet"
    before = first.stat().st_mtime_ns
    export_parquet(built, out, rows_per_file=12, progress=False)
    assert first.stat().st_mtime_ns == before
    assert {p.name: p.read_bytes() for p in (out / "data").iterdir()} == {
        p.name: p.read_bytes() for p in (exported / "data").iterdir()
    }


def test_exports_that_cannot_be(built: Path, exported: Path, other: Path, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="positive"):
        export_parquet(built, tmp_path / "out", rows_per_file=0)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetBuildError, match="something else"):
        export_parquet(built, tmp_path, progress=False)
    for folder, size in ((other, 12), (exported, 13)):
        with pytest.raises(DatasetBuildError, match="another dataset, or one with other files"):
            export_parquet(built, folder, rows_per_file=size, progress=False)


def test_damaged_files_are_typed_errors(built: Path, tmp_path: Path):
    out = tmp_path / "out"
    export_parquet(built, out, rows_per_file=12, progress=False)
    file = out / "data" / "train-00001-of-00004.parquet"
    os.truncate(file, file.stat().st_size - 20)
    with pytest.raises(DatasetBuildError, match=r"train-00001.*can't be read"):
        open_parquet(out, "train")
    file.unlink()
    with pytest.raises(DatasetBuildError, match="are missing"):
        RowStream.open([out])
    with pytest.raises(DatasetBuildError, match="ecg-hf data export"):
        RowStream.open([built])


@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_epoch_is_dealt_out_over_the_processes(built: Path, exported: Path, world: int):
    expected = train_rows(built)
    parts = [
        names(
            RowStream.open([exported], rank=rank, world_size=world, buffer_size=10), 0, len(expected) // world
        )
        for rank in range(world)
    ]
    seen = Counter(name for part in parts for name in part)
    if world == 1:
        assert sorted(seen.elements()) == sorted(expected)
        assert parts[0] != expected
    # Files are of unequal length: a process with fewer rows begins again. None has a row of another's.
    assert sum(map(len, parts)) == len(expected) // world * world
    assert all(not set(a) & set(b) for i, a in enumerate(parts) for b in parts[i + 1 :])
    assert set(seen) <= set(expected)


def test_streams_repeat_exactly_and_epochs_differ(exported: Path, other: Path):
    def draw(epoch: int = 0, **options) -> list[str]:
        return names(RowStream.open([exported, other], buffer_size=10, **options), epoch, 60)

    first = draw()
    assert draw() == first
    assert draw(epoch=1) != first
    assert draw(seed=43) != first
    assert draw(weights=(0.5, 0.5)) != first
    assert draw(rank=1, world_size=2) != draw(rank=0, world_size=2)


def recordings(folder: Path) -> set[tuple[str, float, str]]:
    source = open_parquet(folder, "train")
    ages = [age for file in source.files for age in pq.read_table(file, columns=["age"])["age"].to_pylist()]
    return set(zip(source.texts("record_id"), ages, source.texts("report"), strict=True))


def test_the_end_of_a_pass_is_not_waited_for(exported: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 5)
    waited: list[float] = []
    monkeypatch.setattr(datasets.iterable_dataset.time, "sleep", waited.append)
    rows = RowStream.open([exported], buffer_size=4).batches(0, 16)
    for _ in range(10):  # three passes
        next(rows)
    rows.close()
    assert waited
    assert not any(waited)
    assert datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN == 5


def test_sampling_weights_are_the_shares_of_the_rows(exported: Path, other: Path):
    mine, theirs = recordings(exported), recordings(other)
    assert not mine & theirs
    stream = RowStream.open([exported, other], weights=(9, 1), buffer_size=10)
    assert stream.weights == pytest.approx((0.9, 0.1))
    drawn = [
        [*zip(rows["record_id"][:], rows["age"][:], rows["report"][:], strict=True)]
        for rows in islice(stream.batches(0, 100), 5)
    ]
    share = np.mean([row in theirs for batch in drawn for row in batch])
    assert 0.06 < share < 0.14  # 500 draws: three standard deviations
    assert all(any(row in theirs for row in batch) for batch in drawn)  # mixed row by row, not file by file
    assert RowStream.open([exported, other]).weights == pytest.approx(
        (len(mine) / (len(mine) + 30), 30 / (len(mine) + 30))
    )


@pytest.mark.parametrize(
    "weights", [(1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, float("nan")), (1.0, float("inf"))]
)
def test_impossible_weights(exported: Path, other: Path, weights: tuple[float, ...]):
    with pytest.raises(ConfigurationError, match="weights"):
        RowStream.open([exported, other], weights=weights)


def test_rows_are_those_of_the_build(built: Path, exported: Path):
    rows = next(RowStream.open([exported], buffer_size=20).batches(0, 8))
    whole = load_built(built)
    place = {name: i for i, name in enumerate(whole["record_id"][:])}
    indices = [place[name] for name in rows["record_id"][:]]
    assert rows.features == whole.features
    assert np.array_equal(decode_batch(rows).signal, decode_batch(whole, indices).signal)
    assert rows["report"][:] == [whole[i]["report"] for i in indices]
