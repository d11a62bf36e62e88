"""R peaks stored at building time are those the feature extractor would detect."""

import json
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.data import build_dataset, load_built
from ecg_hf.data.decoding import BatchDecoder
from ecg_hf.errors import DatasetBuildError
from ecg_hf.processing.r_peaks import NO_PEAK, r_peak_table

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def ptbxl(recordings: Path) -> Path:
    """A PTB-XL folder."""
    return recordings / "ptbxl"


def test_stored_peaks_are_the_detected_ones(ptbxl: Path, tmp_path: Path):
    report = build_dataset("ptbxl", ptbxl, tmp_path / "built", progress=False, detect_r_peaks=True)
    dataset = load_built(tmp_path / "built")
    assert report.notes["r_peaks_detected"] == len(dataset)
    assert report.options["detect_r_peaks"] is True
    batch = BatchDecoder(dataset)(list(range(len(dataset))))
    expected = r_peak_table(batch.signal, batch.sampling_rate, batch.lead_names, max_peaks=60)
    assert batch.r_peaks is not None
    for stored, row in zip(batch.r_peaks, expected, strict=True):
        assert stored.tolist() == row[row != NO_PEAK].tolist()
    assert np.median([len(peaks) for peaks in batch.r_peaks]) > 8


def test_only_the_column_differs(ptbxl: Path, tmp_path: Path):
    for name, detect in (("with", True), ("without", False)):
        build_dataset("ptbxl", ptbxl, tmp_path / name, progress=False, detect_r_peaks=detect)
    with_peaks, without = load_built(tmp_path / "with"), load_built(tmp_path / "without")
    assert with_peaks["record_id"][:] == without["record_id"][:]
    assert not any(without["r_peaks"][:])
    left, right = (BatchDecoder(dataset)([0, 5]).signal for dataset in (with_peaks, without))
    assert np.array_equal(left, right)


def test_processes_and_shards_change_no_byte(ptbxl: Path, tmp_path: Path):
    for name, workers in (("one", 1), ("two", 2)):
        options = {"records_per_shard": 10, "progress": False, "detect_r_peaks": True}
        build_dataset("ptbxl", ptbxl, tmp_path / name, num_proc=workers, **options)
    files = sorted(path.name for path in (tmp_path / "one").glob("*.arrow"))
    assert len(files) > 3
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_build_without_peaks_is_not_taken_for_one_with(ptbxl: Path, tmp_path: Path):
    build_dataset("ptbxl", ptbxl, tmp_path / "built", progress=False)
    with pytest.raises(DatasetBuildError, match="other data or options"):
        build_dataset("ptbxl", ptbxl, tmp_path / "built", progress=False, detect_r_peaks=True)


def test_peaks_the_source_knows_stay(tmp_path: Path):
    for name, detect in (("with", True), ("without", False)):
        build_dataset("synthetic", None, tmp_path / name, progress=False, records=12, detect_r_peaks=detect)
    known, detected = (load_built(tmp_path / name)["r_peaks"][:] for name in ("without", "with"))
    assert known == detected
    notes = json.loads((tmp_path / "with" / "build_report.json").read_text())["notes"]
    assert "r_peaks_detected" not in notes
