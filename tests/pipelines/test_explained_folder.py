"""Explanations in a folder: those of one recording, kept by the same call, in any number of processes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb
from fsspec.implementations.memory import MemoryFileSystem

from ecg_hf.data import build_dataset, export_parquet, load_built
from ecg_hf.data.row_pieces import open_divisible
from ecg_hf.engine import Engine
from ecg_hf.errors import ConfigurationError, DatasetBuildError
from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER, pretrained_folder
from ecg_hf.pipelines import explained_folder as module
from ecg_hf.pipelines.explained_folder import ExplainedFolder, explain_in_folder, explanation_name
from ecg_hf.pipelines.explanation import explain
from ecg_hf.signal import STANDARD_LEADS, EcgRecord, read_record
from ecg_hf.signal.synthetic import simulate

OPTIONS: dict[str, Any] = {"label": "AFIB", "patch_s": 5.0, "progress": False}


@pytest.fixture(scope="module")
def model() -> Path:
    return pretrained_folder(DEFAULT_CLASSIFIER)


@pytest.fixture
def records(tmp_path: Path) -> list[Path]:
    """Two WFDB records of one name at 100 Hz, and one that is not there."""
    for folder, signal in zip("ab", simulate(2, seed=3, sampling_rate=100.0).signal, strict=True):
        (tmp_path / folder).mkdir()
        wfdb.wrsamp(
            "one",
            fs=100,
            units=["mV"] * 12,
            sig_name=list(STANDARD_LEADS),
            p_signal=signal.T.astype(np.float64),
            fmt=["16"] * 12,
            write_dir=str(tmp_path / folder),
        )
    return [tmp_path / "a" / "one", tmp_path / "missing", tmp_path / "b" / "one"]


def test_names_are_safe_and_different():
    paths = [
        "a/one",
        "b/one",
        "a/one.csv",
        "a/../../etc",
        "a/\n; rm -rf ~",
        "a/.hidden",
        "ä" * 200,
        "c/" + "x" * 200,
    ]
    names = [explanation_name(path) for path in paths]
    assert len(set(names)) == len(paths)
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}", name) for name in names)
    assert explanation_name("a/one.hea") == explanation_name(Path("a/one").absolute()) == names[0]


@pytest.mark.parametrize("num_proc", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_each_is_that_of_one_recording(model: Path, records: list[Path], tmp_path: Path, num_proc: int):
    out = tmp_path / "out"
    report = explain_in_folder(model, records, out, engine=Engine(num_proc=num_proc), **OPTIONS)
    assert (report.records, report.explained, report.reused) == (3, 2, 0)
    assert list(report.unexplained) == [str(records[1])]
    pipe = module._loaded(str(model.resolve()), "ecg-classification", "cpu")
    for record in (records[0], records[2]):
        assert (out / f"{explanation_name(record)}.png").read_bytes().startswith(b"\x89PNG")
        found = json.loads((out / f"{explanation_name(record)}.json").read_text(encoding="utf-8"))
        assert found.pop("path") == str(record)
        assert found.pop("model") == model.name
        assert found.pop("made_from")
        expected = json.loads(json.dumps(explain(pipe, read_record(record), "AFIB", patch_s=5.0).as_dict()))
        assert found.keys() == expected.keys()
        np.testing.assert_allclose(found["occlusion"], expected["occlusion"], atol=1e-3)
        assert found["record"] == "one"
    assert len(list(out.iterdir())) == 4


def test_a_run_goes_on_and_other_explanations_are_refused(
    model: Path, records: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    explain_in_folder(model, records, out, **OPTIONS)
    before = {path.name for path in out.iterdir()}
    maps = out / f"{explanation_name(records[0])}.json"
    maps.unlink()
    (out / f".{maps.name}.0.tmp").write_bytes(b"half")
    monkeypatch.chdir(tmp_path)
    again = explain_in_folder(model, ["a/one", "b/one", "a/one.hea"], out, **OPTIONS)
    assert again == ExplainedFolder(2, 2, 1, {})
    assert {path.name for path in out.iterdir()} == before
    header = Path("a/one.hea")
    header.write_text(header.read_text() + "# changed\n")
    with pytest.raises(ConfigurationError, match="another model"):
        explain_in_folder(model, records, out, **OPTIONS)
    header.write_text("no header")
    report = explain_in_folder(model, records, out, overwrite=True, **OPTIONS)
    assert (report.explained, report.reused) == (1, 1)
    assert not maps.exists()
    assert not maps.with_suffix(".png").exists()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"label": "nonsense"}, "nonsense"), ({"patch_s": 0.0}, "seconds"), ({"start_s": -1.0}, "seconds")],
)
def test_what_no_recording_can_have_is_said_before_any_is_read(
    model: Path, records: list[Path], tmp_path: Path, wrong: dict[str, Any], named: str
):
    with pytest.raises(ConfigurationError, match=named):
        explain_in_folder(model, records, tmp_path / "out", **{**OPTIONS, **wrong})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["build", "export"])
def test_rows_of_a_dataset_are_explained_by_their_names(model: Path, tmp_path: Path, kind: str):
    place = tmp_path / "built"
    build_dataset("synthetic", None, place, records=3, progress=False)
    rows = load_built(place)
    if kind == "export":
        export_parquet(place, tmp_path / "export", progress=False)
        place = tmp_path / "export"
    out = tmp_path / "out"
    report = explain_in_folder(model, open_divisible(place), out, **OPTIONS)
    assert (report.explained, report.unexplained) == (3, {})
    found = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("*.json")]
    assert {one["path"] for one in found} == set(rows["record_id"][:])
    pipe = module._loaded(str(model.resolve()), "ecg-classification", "cpu")
    for row in rows:
        record = EcgRecord(**row["ecg"], record_id=row["record_id"])
        (one,) = (one for one in found if one["path"] == row["record_id"])
        assert one["score"] == pytest.approx(explain(pipe, record, "AFIB", patch_s=5.0).score, abs=1e-5)
    assert explain_in_folder(model, open_divisible(place), out, **OPTIONS).reused == 3


def test_names_of_a_remote_build_are_not_fetched_for(
    model: Path, built_path: Path, tmp_path: Path, empty_store: MemoryFileSystem
):
    empty_store.put(str(built_path), "/store/built", recursive=True)
    with pytest.raises(DatasetBuildError, match="export"):
        explain_in_folder(model, open_divisible("memory://store/built"), tmp_path / "out", **OPTIONS)
