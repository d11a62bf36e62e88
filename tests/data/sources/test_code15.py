"""CODE-15%: HDF5 parts made of the genuine recordings, and parts of every wrong kind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from ecg_hf.data.building import build_dataset, load_built
from ecg_hf.data.decoding import decode_batch
from ecg_hf.data.feature import Ecg
from ecg_hf.data.sources import create_source
from ecg_hf.data.sources.code15 import parse_scale
from ecg_hf.data.splits import check_patient_leak
from ecg_hf.errors import ConfigurationError, DatasetBuildError, EcgError, UnknownUnit, UnsafePath
from ecg_hf.signal import STANDARD_LEADS, read_record

ALL_TRAIN = {"train_folds": "1-10", "validation_folds": "", "test_folds": ""}
HEADER = "exam_id,age,is_male,nn_predicted_age,1dAVb,RBBB,LBBB,SB,ST,AF,patient_id,death,timey,normal_ecg,trace_file"
ROWS = 4096


def exam(exam_id: int, part: str, *, patient: int | str = "", flags: str = "F,F,F,F,F,F") -> str:
    flags = flags.replace("F", "False").replace("T", "True")
    return f"{exam_id},54,True,50.1,{flags},{patient or exam_id},False,1.5,{'True' not in flags},{part}"


def padded(signal: np.ndarray, rows: int = ROWS) -> np.ndarray:
    """``(leads, samples)`` centred in ``(rows, leads)`` of zeros, as the dataset stores it."""
    stored = np.zeros((rows, len(signal)), np.float32)
    start = (rows - signal.shape[1]) // 2
    stored[start : start + signal.shape[1]] = signal.T
    return stored


def write_part(path: Path, ids: Sequence[int], tracings: np.ndarray, **chunks) -> None:
    with h5py.File(path, "w") as file:
        file["exam_id"] = np.asarray([*ids, 0])
        filler = np.zeros_like(tracings[:1])
        file.create_dataset("tracings", data=np.concatenate([tracings, filler]), **chunks)


@pytest.fixture
def code15_folder(tmp_path: Path) -> Path:
    """Two parts of ten exams each of twelve patients, of unequal lengths, and a third that is not there."""
    root = tmp_path / "code15"
    root.mkdir()
    rng = np.random.default_rng(0)
    lines = [HEADER]
    for part in (0, 10, 2):
        name = f"exams_part{part}.hdf5"
        ids = [1000 * (part + 1) + i for i in range(10)]
        lines += [
            exam(i, name, patient=i % 12 + 1, flags="F,T,F,F,F,T" if i % 2 else "F,F,F,F,F,F") for i in ids
        ]
        lengths = [2934 if i % 3 else ROWS for i in range(10)]
        signals = [rng.normal(0, 0.4, (12, n)).astype(np.float32) for n in lengths]
        if part != 2:
            write_part(root / name, ids, np.stack([padded(s) for s in signals]))
    (root / "exams.csv").write_text("\n".join(lines) + "\n")
    return root


def build(folder: Path, output: Path, **options):
    return build_dataset("code15", folder, output, **{"progress": False, "records_per_shard": 6, **options})


def dataset_bytes(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != "build_report.json"}


def test_rows_are_exact_and_in_the_order_of_the_parts(code15_folder: Path, tmp_path: Path):
    report = build(code15_folder, tmp_path / "out", **ALL_TRAIN)
    assert report.dropped == {"filler_row": 2, "part_not_there": 10}
    assert report.seen == report.kept + 12 == 32
    assert report.notes == {"zero_padding_trimmed": 12}
    rows = load_built(tmp_path / "out")
    assert rows["record_id"][:] == [*map(str, range(1000, 1010)), *map(str, range(11000, 11010))]
    assert rows[0]["labels"] == ["normal_ecg"]
    assert rows[1]["labels"] == ["RBBB", "AF"]
    assert (rows[0]["age"], rows[0]["sex"], rows[0]["patient_id"]) == (54.0, "male", "5")
    with h5py.File(code15_folder / "exams_part0.hdf5") as file:
        tracings = file["tracings"][:10]
    for i in range(10):
        stored = rows.cast_column("ecg", Ecg(decode=False))[i]["ecg"]
        samples = np.frombuffer(stored["samples"], "<f4").reshape(stored["shape"])
        start = (ROWS - samples.shape[1]) // 2
        assert samples.shape[1] == (2934 if i % 3 else ROWS)
        assert np.array_equal(samples, tracings[i, start : start + samples.shape[1]].T)
        assert stored["dtype"] == "float32"
    batch = decode_batch(rows, range(10), lead_names=STANDARD_LEADS)
    assert (batch.sampling_rate, batch.signal.shape) == (400.0, (10, 12, ROWS))


def test_no_patient_is_in_two_splits(code15_folder: Path, tmp_path: Path):
    build(code15_folder, tmp_path / "out")
    leak = check_patient_leak(load_built(tmp_path / "out"))
    assert (leak.patients, leak.distinct_patients) == (0, 12)
    assert len(set(load_built(tmp_path / "out")["split"][:])) > 1


def test_bytes_do_not_depend_on_processes_or_shards_read_at_once(
    code15_folder: Path, tmp_path: Path, monkeypatch
):
    build(code15_folder, tmp_path / "one")
    build(code15_folder, tmp_path / "two", num_proc=2)
    monkeypatch.setattr("ecg_hf.data.sources.code15.ROWS_AT_ONCE", 1)
    build(code15_folder, tmp_path / "single")
    assert (
        dataset_bytes(tmp_path / "one")
        == dataset_bytes(tmp_path / "two")
        == dataset_bytes(tmp_path / "single")
    )


KILLED = """
import os, signal, sys
from ecg_hf.data import building, shards
def dying(job, real=shards.build_shard):
    if job.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(job)
building.build_shard = dying
building.build_dataset("code15", sys.argv[1], sys.argv[2], records_per_shard=6, progress=False)
"""


def test_a_killed_build_continues_to_the_same_bytes(code15_folder: Path, tmp_path: Path):
    build(code15_folder, tmp_path / "whole")
    out = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(code15_folder), str(out)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert build(code15_folder, out).shards_reused == 2
    assert dataset_bytes(out) == dataset_bytes(tmp_path / "whole")


def test_filters(code15_folder: Path, tmp_path: Path):
    with h5py.File(code15_folder / "exams_part0.hdf5", "a") as file:
        file["tracings"][0, 100, 3] = np.nan
        file["tracings"][1] = 0.0
        file["tracings"][2, 2000, 3] = np.inf
        file["tracings"][3, 2000] = 0.0  # zeros inside a recording are no padding
    report = build(code15_folder, tmp_path / "all", **ALL_TRAIN)
    assert (report.dropped["all_zero"], report.dropped["NonFiniteSignal"]) == (1, 1)
    assert report.notes["missing_samples"] == 1
    assert np.isnan(load_built(tmp_path / "all")[0]["ecg"]["signal"][3, 100])
    assert load_built(tmp_path / "all")[1]["ecg"]["signal"].shape == (12, ROWS)
    report = build(code15_folder, tmp_path / "jepa", drop="ecg-jepa", **ALL_TRAIN)
    assert report.options["drop"] == "nan,zero_start"
    assert report.dropped["missing_samples"] == 1
    assert report.dropped["zero_start"] == 10
    assert set(report.notes) == set()
    with pytest.raises(ConfigurationError, match="no filter"):
        build(code15_folder, tmp_path / "no", drop="short")


def test_the_unit_is_chosen_and_checked(code15_folder: Path, tmp_path: Path):
    build(code15_folder, tmp_path / "mv", **ALL_TRAIN)
    report = build(code15_folder, tmp_path / "tenth", unit="1e-4V", **ALL_TRAIN)
    assert report.options["unit"] == "1e-4V"
    mv, tenth = (load_built(tmp_path / name)[0]["ecg"]["signal"] for name in ("mv", "tenth"))
    np.testing.assert_allclose(mv, tenth * 10, rtol=1e-6)
    assert build(code15_folder, tmp_path / "v", unit="V", **ALL_TRAIN).notes["amplitude_high"] == 20
    assert build(code15_folder, tmp_path / "uv", unit="uV", **ALL_TRAIN).notes["amplitude_low"] == 20
    with pytest.raises(UnknownUnit):
        build(code15_folder, tmp_path / "no", unit="furlong")


@pytest.mark.parametrize(
    ("unit", "scale"), [("mV", 1.0), ("1e-4V", 0.1), (" 0.5 mV", 0.5), ("µV", 1e-3), ("100uV", 0.1)]
)
def test_scales(unit: str, scale: float):
    assert parse_scale(unit) == pytest.approx(scale)


@pytest.mark.parametrize("unit", ["", "1e-4", "0mV", "-1mV", "1..2V", "MV", "1e999V", 5, None])
def test_wrong_scales(unit):
    with pytest.raises(UnknownUnit):
        parse_scale(unit)


def test_tables_and_parts_that_disagree(code15_folder: Path, tmp_path: Path):
    lines = (code15_folder / "exams.csv").read_text().splitlines()
    extra = [exam(77, "exams_part0.hdf5"), exam(78, ""), exam(79, "../exams_part0.hdf5")]
    kept = [line for line in lines if not line.startswith("1003,")]
    (code15_folder / "exams.csv").write_text("\n".join([*kept, *extra]) + "\n")
    with h5py.File(code15_folder / "exams_part10.hdf5", "a") as file:
        file["exam_id"][1] = 11000
    report = build(code15_folder, tmp_path / "out", **ALL_TRAIN)
    assert report.dropped == {
        "filler_row": 2,
        "not_in_table": 1,
        "part_not_there": 12,
        "repeated_exam": 1,
        "tracing_not_there": 2,
    }
    for path in code15_folder.glob("*.hdf5"):
        path.unlink()
    with pytest.raises(DatasetBuildError, match="none of the parts"):
        build(code15_folder, tmp_path / "no")


@pytest.mark.parametrize("column", ["exam_id", "patient_id", "is_male", "AF", "trace_file"])
def test_a_missing_column_is_named(code15_folder: Path, column: str):
    text = (code15_folder / "exams.csv").read_text().replace(f"{column},", "x,", 1)
    text = text.replace("normal_ecg,trace_file", "normal_ecg,x", 1) if column == "trace_file" else text
    (code15_folder / "exams.csv").write_text(text)
    with pytest.raises(DatasetBuildError, match=rf"exams\.csv.*no column.*{column}"):
        create_source("code15", code15_folder, {}).plan()


def _replace(path: Path, **datasets: np.ndarray) -> None:
    with h5py.File(path, "a") as file:
        for name, values in datasets.items():
            del file[name]
            file[name] = values


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: _replace(path, tracings=np.zeros((11, ROWS, 8), np.float32)), "shape"),
        (lambda path: _replace(path, tracings=np.zeros((11, 12, ROWS), np.float32)), "shape"),
        (lambda path: _replace(path, tracings=np.zeros((11, ROWS), np.float32)), "shape"),
        (lambda path: _replace(path, tracings=np.zeros((11, ROWS, 12), np.int16)), "floating"),
        (lambda path: _replace(path, tracings=np.zeros((9, ROWS, 12), np.float32)), "9 integers"),
        (lambda path: _replace(path, exam_id=np.zeros(11)), "11 integers"),
        (lambda path: h5py.File(path, "a").pop("tracings"), "no dataset named 'tracings'"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "cut short"),
        (lambda path: path.write_bytes(b""), "cut short"),
        (lambda path: path.write_bytes(b"PK\x03\x04 the zip, not unpacked"), "cut short"),
    ],
)
def test_parts_that_are_something_else(code15_folder: Path, tmp_path: Path, damage, message: str):
    damage(code15_folder / "exams_part0.hdf5")
    with pytest.raises(EcgError, match=message) as caught:
        build(code15_folder, tmp_path / "out")
    assert "exams_part0.hdf5" in str(caught.value)
    assert not (tmp_path / "out").exists()


def announce(path: Path, exams: int, samples: int, **options) -> None:
    """A part of which next to nothing was ever written."""
    with h5py.File(path, "w") as file:
        file.create_dataset("exam_id", (exams,), "i8", chunks=(min(exams, 1024),))[0] = 7
        file.create_dataset("tracings", (exams, samples, 12), "f4", **options)


@pytest.mark.parametrize(
    ("exams", "samples", "options", "message"),
    [
        (300_000_000, 4096, {"chunks": (1, 4096, 12)}, "more than is read"),
        (64, 100_000_000, {"chunks": (1, 4096, 12)}, "more than is read"),
        (1000, 4096, {"chunks": (1, 4096, 12)}, "tracings announces 196608000 bytes and the file holds 0"),
        (1000, 4096, {}, "the file holds 0"),
        (1000, 4096, {"chunks": (1, 4096, 12), "compression": "gzip"}, "the file holds 0"),
        (4_000_000, 1, {"chunks": (4096, 1, 12)}, "announces"),
    ],
)
def test_sizes_a_part_does_not_hold_are_refused(code15_folder: Path, exams, samples, options, message):
    announce(code15_folder / "exams_part0.hdf5", exams, samples, **options)
    with pytest.raises(DatasetBuildError, match=message):
        create_source("code15", code15_folder, {}).plan()


def test_huge_chunks_are_refused(code15_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ecg_hf.data.sources.hdf5_parts.MAX_CHUNK_BYTES", 1000)
    path = code15_folder / "exams_part0.hdf5"
    with h5py.File(path) as file:
        ids, tracings = file["exam_id"][:], file["tracings"][:]
    write_part(path, ids[:10], tracings[:10], chunks=(2, ROWS, 12), compression="gzip")
    with pytest.raises(DatasetBuildError, match="too large to read"):
        create_source("code15", code15_folder, {}).plan()


@pytest.mark.parametrize(
    "how", ["external storage", "external link", "soft link", "virtual", "ids", "symlink"]
)
def test_nothing_outside_a_part_is_read(code15_folder: Path, tmp_path: Path, how: str):
    path, outside = code15_folder / "exams_part0.hdf5", tmp_path / "private.hdf5"
    path.rename(outside)
    with h5py.File(outside) as file:
        ids, tracings = file["exam_id"][:], file["tracings"][:]
    if how == "symlink":
        path.symlink_to(outside)
    else:
        with h5py.File(path, "w") as file:
            file["exam_id"] = h5py.ExternalLink(str(outside), "exam_id") if how == "ids" else ids
            if how == "external storage":
                (tmp_path / "raw").write_bytes(tracings.tobytes())
                raw = [(str(tmp_path / "raw"), 0, tracings.nbytes)]
                file.create_dataset("tracings", tracings.shape, tracings.dtype, external=raw)
            elif how == "virtual":
                layout = h5py.VirtualLayout(tracings.shape, tracings.dtype)
                layout[:] = h5py.VirtualSource(outside, "tracings", tracings.shape)
                file.create_virtual_dataset("tracings", layout)
            elif how == "soft link":
                file["away"] = h5py.ExternalLink(str(outside), "/")
                file["tracings"] = h5py.SoftLink("/away/tracings")
            elif how == "external link":
                file["tracings"] = h5py.ExternalLink(str(outside), "tracings")
            else:
                file["tracings"] = tracings
    with pytest.raises(UnsafePath):
        create_source("code15", code15_folder, {}).plan()


def test_tables_are_not_read_through_links_that_leave(code15_folder: Path, tmp_path: Path):
    (code15_folder / "exams.csv").rename(tmp_path / "exams.csv")
    (code15_folder / "exams.csv").symlink_to(tmp_path / "exams.csv")
    with pytest.raises(UnsafePath):
        create_source("code15", code15_folder, {}).plan()


def test_a_damaged_chunk_costs_its_own_recordings_only(code15_folder: Path, tmp_path: Path):
    path = code15_folder / "exams_part0.hdf5"
    with h5py.File(path) as file:
        ids, tracings = file["exam_id"][:10], file["tracings"][:10]
    write_part(path, ids, tracings, chunks=(2, ROWS, 12), compression="gzip")
    with h5py.File(path) as file:
        chunk = file["tracings"].id.get_chunk_info(2)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + 10 : chunk.byte_offset + 2000] = os.urandom(1990)
    path.write_bytes(data)
    report = build(code15_folder, tmp_path / "out", **ALL_TRAIN)
    assert report.dropped["unreadable_tracing"] == 2
    assert report.kept == 18


@pytest.mark.realdata
def test_genuine_recordings(real_data: Path, tmp_path: Path):
    headers = sorted((real_data / "challenge2025").glob("*.hea"), key=lambda path: int(path.stem))
    records = [read_record(header) for header in headers]
    root = tmp_path / "data"
    root.mkdir()
    write_part(
        root / "exams_part0.hdf5",
        [int(header.stem) for header in headers],
        np.stack([padded(record.signal) for record in records]),
    )
    lines = [exam(int(header.stem), "exams_part0.hdf5") for header in headers]
    (root / "exams.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    report = build_dataset("code15", root, tmp_path / "out", progress=False, **ALL_TRAIN)
    assert (report.kept, report.dropped) == (127, {"filler_row": 1})
    # Read as millivolts, next to none is implausible; as tenths of a millivolt, most are.
    assert report.notes.get("amplitude_high", 0) + report.notes.get("amplitude_low", 0) <= 2
    tenth = build_dataset("code15", root, tmp_path / "tenth", progress=False, unit="1e-4V", **ALL_TRAIN)
    assert tenth.notes["amplitude_low"] > 64
    rows = load_built(tmp_path / "out")
    for i, record in enumerate(records):
        inside = np.flatnonzero((record.signal != 0).any(axis=0))
        expected = record.signal[:, inside[0] : inside[-1] + 1]
        assert np.array_equal(rows[i]["ecg"]["signal"], expected)
