"""Any folder of WFDB records, and the real Challenge recordings."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.data.building import build_dataset, load_built
from ecg_hf.data.sources import create_source
from ecg_hf.data.sources.wfdb_folder import parse_comments
from ecg_hf.data.splits import check_patient_leak
from ecg_hf.errors import ConfigurationError
from ecg_hf.signal import STANDARD_LEADS

ALL_TRAIN = {"train_folds": "1-10", "validation_folds": "", "test_folds": ""}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["#Age: 63", "#Sex: Female", "#Dx: 426783006,164934002"],
            (63.0, "female", ("426783006", "164934002"), ()),
        ),
        (["# Age: 22", "# Sex: M", "# Dx: 1, 1 ,2"], (22.0, "male", ("1", "2"), ())),
        (["#Age: NaN", "#Sex: Unknown", "#Dx: Unknown"], (math.nan, None, (), ())),
        (["#<age>: 51", "#<sex>: F", "#<diagnoses>:"], (51.0, "female", (), ())),
        (["Age: 40", "#Name: Age: 40", "#Dxx: 5"], (math.nan, None, (), ())),
        (
            ["#Age: 300", "#Dx: AFIB,1AVB,NORM"],
            (math.nan, None, ("AFIB", "1AVB", "NORM"), ("age_implausible",)),
        ),
        # Whatever is no code may be somebody's name.
        (["#Dx: Maria Lopez (born 1950), AFIB"], (math.nan, None, ("AFIB",), ("diagnosis_is_no_code",))),
        (["#Dx: LOPEZ,1"], (math.nan, None, ("1",), ("diagnosis_is_no_code",))),
        (["#Dx: Müller;AF"], (math.nan, None, (), ("diagnosis_is_no_code",))),
        (["#Dx: " + "1" * 19], (math.nan, None, (), ("diagnosis_is_no_code",))),
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


def in_segments(write_record, root: Path, name: str, parts: str = "ab") -> None:
    """A recording of several segments, each with a header of its own."""
    for part in parts:
        write_record(root, f"{name}{part}")
    stem = name.rpartition("/")[2]
    lines = [f"{stem}/{len(parts)} 12 100 {200 * len(parts)}", *(f"{stem}{part} 200" for part in parts)]
    (root / f"{name}.hea").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("source", "place", "name"),
    [
        ("wfdb_folder", "deep/down", "p{}"),
        ("csn", "WFDBRecords/01/010", "JS0000{}"),
        ("cpsc2018", "g1", "A000{}"),
        ("challenge2021", "georgia", "E0000{}"),
    ],
)
def test_segments_are_no_recordings(source: str, place: str, name: str, tmp_path: Path, write_record):
    root = tmp_path / "data"
    for number in range(4):
        in_segments(write_record, root, f"{place}/{name.format(number)}")
    plan = create_source(source, root, ALL_TRAIN).plan()
    assert [e.record_id.rpartition("/")[2] for e in plan.entries] == [name.format(n) for n in range(4)]
    assert plan.tally.dropped == {"segment_of_a_record": 8}
    assert not any(e.patient_id for e in plan.entries)
    # A header that can't be read still tells whose segments are.
    (root / place / f"{name.format(0)}.hea").write_text(f"{name.format(0)}/2 x\n{name.format(0)}a\n")
    assert create_source(source, root, ALL_TRAIN).plan().tally.dropped["segment_of_a_record"] == 7


def test_recordings_that_share_samples_share_a_split(tmp_path: Path, write_record):
    root = tmp_path / "data"
    for number in range(12):
        in_segments(write_record, root, f"p{number}", "abc")
        write_record(root, f"q{number}")
        (root / f"another{number}.hea").write_text((root / f"q{number}.hea").read_text())
    listed = [f"p{number}{part}" for number in range(12) for part in "cab"]
    (root / "RECORDS").write_text("\n".join([*listed, *(f"./another{n}\nq{n}\nq{n}" for n in range(12))]))
    plan = create_source("wfdb_folder", root, ALL_TRAIN).plan()
    assert len(plan.entries) == 60
    assert not plan.tally.dropped
    folds: dict[str, set[int]] = {}
    for entry in plan.entries:
        key = (
            entry.record_id.rstrip("abc") if entry.record_id[0] == "p" else entry.record_id.lstrip("anotherq")
        )
        folds.setdefault(key, set()).add(entry.fold)
    assert len(folds) == 24
    assert all(len(found) == 1 for found in folds.values())


def test_patients_are_what_the_user_says_or_unknown(tmp_path: Path, write_record):
    root = tmp_path / "data"
    for person in range(4):
        for record in range(8):
            write_record(root, f"ward/{person}/s{record}", samples=20, seed=record)
    write_record(root, "top", samples=20)
    unknown = build_dataset("wfdb_folder", root, tmp_path / "unknown", progress=False)
    assert (unknown.patients, unknown.without_patient) == (0, 33)
    assert "patients are not known" in unknown.summary()
    assert "-o patients=folder" in unknown.summary()
    leak = check_patient_leak(load_built(tmp_path / "unknown"))
    assert (leak.distinct_patients, leak.unknown_patients) == (0, 33)
    told = build_dataset("wfdb_folder", root, tmp_path / "told", progress=False, patients="folder:2")
    rows = load_built(tmp_path / "told")
    assert (told.patients, told.patients_in_two_splits, told.without_patient) == (4, 0, 1)
    assert {p: s for p, s in zip(rows["patient_id"], rows["split"], strict=True) if p} == {
        p: s for p, s in zip(rows["patient_id"][::-1], rows["split"][::-1], strict=True) if p
    }
    assert set(rows["patient_id"][:]) == {None, *(f"ward/{person}" for person in range(4))}
    assert "the patient of 1 of 33 recordings is not known" in told.summary()
    every = create_source("wfdb_folder", root, {"patients": "record", "pseudonyms": True}).plan()
    assert all(e.patient_id == e.record_id and len(e.record_id) == 16 for e in every.entries)
    for wrong in ("folders", "folder:0", 1):
        with pytest.raises(ConfigurationError, match="patients must be"):
            create_source("wfdb_folder", root, {"patients": wrong})


def test_odd_names_cost_their_own_record_only(tmp_path: Path, write_record):
    root = tmp_path / "data"
    for name in ("good", "spare"):
        write_record(root, name)
    header = os.fsencode(root / "good.hea")
    os.link(header, os.fsencode(root) + b"/M\xfcller.hea")
    os.link(header, os.fsencode(root) + b"/two\nlines.hea")
    os.mkdir(os.fsencode(root) + b"/Stra\xdfe")
    os.link(header, os.fsencode(root) + b"/Stra\xdfe/r0.hea")
    report = build_dataset("wfdb_folder", root, tmp_path / "out", progress=False, **ALL_TRAIN)
    assert (report.kept, report.dropped) == (2, {"odd_name": 3})
    assert report.examples["odd_name"] == ["M\\udcfcller", "Stra\\udcdfe/r0", "two\\x0alines"]
    (root / "RECORDS").write_bytes(b"good\nM\xfcller\n" + b"x" * 300 + b"\n")
    report = build_dataset("wfdb_folder", root, tmp_path / "listed", progress=False, **ALL_TRAIN)
    assert report.kept == 1
    assert report.dropped == {"file_not_there": 1, "odd_name": 1}


@pytest.mark.realdata
def test_real_ludb_names_its_leads_in_lower_case(recordings: Path, tmp_path: Path):
    report = build_dataset("wfdb_folder", recordings / "ludb", tmp_path / "out", progress=False)
    rows = load_built(tmp_path / "out")
    assert report.kept == 10
    assert rows[0]["ecg"]["lead_names"] == STANDARD_LEADS
    assert rows[0]["sex"] in ("female", "male")
