"""Answers in parts: the rows of the table in order, continued after a kill, in any number of processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import wfdb
from fsspec.implementations.memory import MemoryFileSystem

from ecg_hf.data import Ecg, export_parquet, load_built
from ecg_hf.data.row_pieces import open_divisible
from ecg_hf.engine import Engine
from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER, pretrained_folder
from ecg_hf.pipelines import predicted_parts as module
from ecg_hf.pipelines.interpretation import Interpreter
from ecg_hf.pipelines.predicted_parts import answer_columns, answer_row, predict_in_parts
from ecg_hf.signal import STANDARD_LEADS, EcgRecord
from ecg_hf.signal.synthetic import simulate

OPTIONS: dict[str, Any] = {"records_per_part": 2, "batch_size": 2, "progress": False}


@pytest.fixture(scope="module")
def model() -> Path:
    return pretrained_folder(DEFAULT_CLASSIFIER)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five WFDB records at 100 Hz; the fourth is not there."""
    folder = tmp_path_factory.mktemp("recordings")
    signals = simulate(5, seed=3, sampling_rate=100.0).signal
    for number in (0, 1, 2, 4):
        wfdb.wrsamp(
            f"r{number}",
            fs=100,
            units=["mV"] * 12,
            sig_name=list(STANDARD_LEADS),
            p_signal=signals[number].T.astype(np.float64),
            fmt=["16"] * 12,
            write_dir=str(folder),
        )
    return [folder / f"r{number}" for number in range(5)]


@pytest.fixture(scope="module")
def interpreter(model: Path) -> Interpreter:
    return module._loaded(str(model.resolve()), model.name, "cpu")


@pytest.mark.parametrize(
    ("num_proc", "window"), [(1, None), (1, 4.0), pytest.param(2, None, marks=pytest.mark.slow)]
)
def test_parts_are_the_table_in_order(
    model: Path,
    recordings: list[Path],
    interpreter: Interpreter,
    tmp_path: Path,
    num_proc: int,
    window: float | None,
):
    report = predict_in_parts(
        model, recordings, tmp_path / "out", engine=Engine(num_proc=num_proc), window_s=window, **OPTIONS
    )
    columns = answer_columns(interpreter.model.config.id2label.values(), windows=window is not None)
    answers = list(interpreter(recordings, batch_size=2, window_s=window))
    assert (report.records, report.rows, report.unread) == (5, len(answers), 1)
    assert (report.parts, report.reused) == (3, 0)
    table = pq.read_table(tmp_path / "out")
    assert table.column_names == list(columns)
    for found, answer in zip(table.to_pylist(), answers, strict=True):
        for name, value in zip(columns, answer_row(answer, list(columns)), strict=True):
            assert found[name] == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value)


def test_a_run_goes_on_and_other_recordings_are_refused(
    model: Path, recordings: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    first = predict_in_parts(model, recordings[:3], out, **OPTIONS)
    assert (first.parts, first.reused) == (2, 0)
    (out / "part-00001.parquet").unlink()
    (out / ".part-00001.parquet.0.tmp").write_bytes(b"half")
    monkeypatch.chdir(recordings[0].parent)
    assert predict_in_parts(model, recordings[:3], out, **OPTIONS).reused == 1
    assert {path.name for path in out.iterdir()} == {"part-00000.parquet", "part-00001.parquet"}
    header = recordings[0].with_suffix(".hea")
    header.write_text(header.read_text() + "# changed\n")
    with pytest.raises(ConfigurationError, match="other records"):
        predict_in_parts(model, recordings[:3], out, **OPTIONS)
    assert predict_in_parts(model, recordings[:3], out, overwrite=True, **OPTIONS).reused == 1


def test_nothing_half_written_is_left_after_a_worker_died(
    model: Path, recordings: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    answer = module._answer_part

    def half_before(part: module._Answers) -> dict[str, Any]:
        (Path(part.folder) / f".{part.name}.0.tmp").write_bytes(b"half")
        return answer(part)

    monkeypatch.setattr(module, "_answer_part", half_before)
    predict_in_parts(model, recordings[:3], tmp_path / "out", **OPTIONS)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "part-00000.parquet",
        "part-00001.parquet",
    }


def test_rows_call_recordings_as_they_were_given(
    model: Path, recordings: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(recordings[0].parent)
    predict_in_parts(model, ["r0", "r1", "r0"], tmp_path / "out", model_name="mine", **OPTIONS)
    table = pq.read_table(tmp_path / "out")
    assert table["record"].to_pylist() == ["r0", "r1", "r0"]
    assert set(table["model"].to_pylist()) == {"mine"}
    assert set(table["error"].to_pylist()) == {None}


@pytest.mark.parametrize("kind", ["build", "export", "stored"])
def test_rows_of_a_dataset_are_answered_by_their_names(
    model: Path, interpreter: Interpreter, built_path: Path, tmp_path: Path, kind: str,
    empty_store: MemoryFileSystem,
):  # fmt: skip
    place = str(built_path)
    if kind != "build":
        export_parquet(built_path, tmp_path / "export", progress=False)
        place = str(tmp_path / "export")
    if kind == "stored":
        place = "memory://store/built"
        empty_store.put(str(built_path), "/store/built", recursive=True)
    whole = open_divisible(place)
    few = replace(whole, rows=5)
    report = predict_in_parts(model, few, tmp_path / "out", **OPTIONS)
    assert (report.records, report.rows, report.unread, report.parts) == (5, 5, 0, 3)
    with whole.piece(0, 5).opened() as rows:
        records = [EcgRecord(**row["ecg"], record_id=row["record_id"]) for row in rows]
    columns = list(answer_columns(interpreter.model.config.id2label.values(), windows=False))
    expected = [answer_row(one, columns) for one in interpreter(records, batch_size=2)]
    assert (
        list(map(list, zip(*pq.read_table(tmp_path / "out").to_pydict().values(), strict=True))) == expected
    )
    assert predict_in_parts(model, few, tmp_path / "out", **OPTIONS).reused == 3


def test_a_row_that_is_no_recording_stops_one_row(
    model: Path, built_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    few = replace(open_divisible(built_path), rows=3)
    real = Ecg.decode_example

    def failing(self: Ecg, value: dict[str, Any], **named: Any) -> Any:
        count.append(1)
        if len(count) == 2:
            raise SignalError("no samples")
        return real(self, value, **named)

    count: list[int] = []
    monkeypatch.setattr(Ecg, "decode_example", failing)
    report = predict_in_parts(model, few, tmp_path / "out", **OPTIONS)
    assert (report.rows, report.unread) == (3, 1)
    rows = pq.read_table(tmp_path / "out").to_pylist()
    names = load_built(built_path)["record_id"][:3]
    assert [row["record"] for row in rows] == names
    assert [row["error"] for row in rows] == [None, f"{names[1]}: no samples", None]
