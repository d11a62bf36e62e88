"""Any folder of WFDB records, and the real Challenge recordings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.data.building import build_dataset, load_built
from ecg_hf.data.decoding import decode_batch
from ecg_hf.data.sources import create_source
from ecg_hf.data.sources.wfdb_folder import parse_comments
from ecg_hf.signal import STANDARD_LEADS


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["#Age: 63", "#Sex: Female", "#Dx: 426783006,164934002"],
            (63.0, "female", ("426783006", "164934002")),
        ),
        (["# Age: 22", "# Sex: M", "# Dx: 1, 1 ,2"], (22.0, "male", ("1", "2"))),
        (["#Age: NaN", "#Sex: Unknown", "#Dx: Unknown"], (math.nan, None, ())),
        (["#<age>: 51", "#<sex>: F", "#<diagnoses>:"], (51.0, "female", ())),
        (["Age: 40", "#Name: Age: 40", "#Dxx: 5"], (math.nan, None, ())),
    ],
)
def test_comments(lines: list[str], expected: tuple):
    assert str(parse_comments("\n".join(["r 1 100 10", *lines]))) == str(expected)


def test_every_header_below_the_folder(tmp_path: Path, write_record):
    root = tmp_path / "data"
    write_record(root, "b/2", comments=["#Dx: 7", "#Age: 50"])
    write_record(root, "a/deep/1", samples=300)
    write_record(root, "top", leads=("II", "V1"))
    report = build_dataset("wfdb_folder", root, tmp_path / "out", progress=False)
    assert report.kept == 3
    rows = load_built(tmp_path / "out")
    assert rows["record_id"][:] == ["a/deep/1", "b/2", "top"]
    assert rows["patient_id"][:] == rows["record_id"][:]
    assert rows[1]["labels"] == ["7"]
    assert rows[1]["age"] == 50.0
    assert rows[2]["ecg"]["lead_names"] == ("II", "V1")
    assert report.labels == {"7": {rows[1]["split"]: 1}}


def test_records_file_is_respected_and_confined(tmp_path: Path, write_record):
    root = tmp_path / "data"
    for name in ("x/1", "x/2", "y/3"):
        write_record(root, name)
    write_record(tmp_path, "outside")
    (root / "RECORDS").write_text("y/3\nx/1\n../outside\n/etc/passwd\nmissing\ny/3\n")
    plan = create_source(
        "wfdb_folder", root, {"train_folds": "1-10", "validation_folds": "", "test_folds": ""}
    ).plan()
    assert [e.record_id for e in plan.entries] == ["y/3", "x/1"]
    assert plan.tally.dropped == {"UnsafePath": 2, "file_not_there": 1}


def test_a_records_file_of_folders_says_nothing(tmp_path: Path, write_record):
    root = tmp_path / "data"
    write_record(root, "g1/a")
    (root / "RECORDS").write_text("g1/\n")
    assert [e.record_id for e in create_source("wfdb_folder", root, {}).plan().entries] == ["g1/a"]


def test_splits_do_not_change_when_records_are_added(tmp_path: Path, write_record):
    root = tmp_path / "data"
    for i in range(30):
        write_record(root, f"r{i}", samples=20)
    before = {e.record_id: e.split for e in create_source("wfdb_folder", root, {}).plan().entries}
    assert set(before.values()) == {"train", "validation", "test"}
    write_record(root, "a_new_one")
    after = {e.record_id: e.split for e in create_source("wfdb_folder", root, {}).plan().entries}
    assert {k: after[k] for k in before} == before


def test_constant_recordings_are_kept_and_noted(tmp_path: Path, write_record):
    root = tmp_path / "data"
    write_record(root, "flat", values=np.zeros((12, 100), np.int16))
    report = build_dataset("wfdb_folder", root, tmp_path / "out", progress=False)
    assert report.notes["all_flat"] == 1
    assert report.kept == 1


@pytest.mark.realdata
def test_real_challenge_recordings(real_data: Path, tmp_path: Path):
    folder = real_data / "challenge2021"
    report = build_dataset("wfdb_folder", folder, tmp_path / "out", progress=False, num_proc=2)
    assert (report.seen, report.kept) == (111, 111)
    rows = load_built(tmp_path / "out")
    assert all(rows["labels"][:])
    batch = decode_batch(rows, lead_names=STANDARD_LEADS, sampling_rate=100)
    assert batch.signal.shape[:2] == (111, 12)
    assert batch.lead_mask[:, :2].all()
    assert batch.is_padded


@pytest.mark.realdata
def test_real_ludb_names_its_leads_in_lower_case(real_data: Path, tmp_path: Path):
    report = build_dataset("wfdb_folder", real_data / "ludb", tmp_path / "out", progress=False)
    rows = load_built(tmp_path / "out")
    assert report.kept == 40
    assert rows[0]["ecg"]["lead_names"] == STANDARD_LEADS
    assert rows[0]["sex"] in ("female", "male")
