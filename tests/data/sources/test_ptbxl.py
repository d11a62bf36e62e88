"""PTB-XL: rows, folds, ages, texts, hostile tables, and the real recordings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.data.building import build_dataset, load_built
from ecg_hf.data.decoding import decode_batch
from ecg_hf.data.sources import create_source
from ecg_hf.data.sources.ptbxl import parse_scp_codes
from ecg_hf.data.splits import check_patient_leak
from ecg_hf.errors import ConfigurationError, DatasetBuildError
from ecg_hf.signal import read_record


def set_row(folder: Path, ecg_id: int, **cells: str) -> None:
    """Replace cells of one row of the table."""
    import pandas as pd

    table = pd.read_csv(folder / "ptbxl_database.csv", dtype=str)
    for column, value in cells.items():
        table.loc[table.ecg_id == str(ecg_id), column] = value
    table.to_csv(folder / "ptbxl_database.csv", index=False)


def entries(folder: Path, **options):
    plan = create_source("ptbxl", folder, options).plan()
    return {e.record_id: e for e in plan.entries}, plan.tally


def test_row(ptbxl_folder: Path):
    row = entries(ptbxl_folder)[0]["7"]
    assert (row.patient_id, row.age, row.sex, row.fold, row.split) == ("7", 37.0, "female", 8, "train")
    assert row.labels == ("NORM", "SR")
    assert row.report == "sinus rhythm nr 7"


def test_official_and_chosen_folds(ptbxl_folder: Path):
    rows, _ = entries(ptbxl_folder)
    assert {e.fold: e.split for e in rows.values()} == {
        **dict.fromkeys(range(1, 9), "train"),
        9: "validation",
        10: "test",
    }
    rows, tally = entries(ptbxl_folder, train_folds="1-7", validation_folds="8", test_folds="9")
    assert {e.fold: e.split for e in rows.values()}[9] == "test"
    assert tally.dropped == {"fold_not_selected": 3}
    with pytest.raises(ConfigurationError, match="fold 9"):
        entries(ptbxl_folder, train_folds="1-9")


def test_age_300_means_over_89(ptbxl_folder: Path):
    set_row(ptbxl_folder, 1, age="300.0")
    set_row(ptbxl_folder, 2, age="")
    rows, _ = entries(ptbxl_folder)
    assert rows["1"].age == 90.0
    assert rows["1"].notes == ("age_over_89",)
    assert math.isnan(rows["2"].age)


@pytest.mark.parametrize(
    ("cell", "report", "notes"),
    [
        ("", "", ()),
        ("***", "", ("report_without_words",)),
        ("  sinus\r\nrhythm ", "sinus  rhythm".replace("  ", " "), ()),
        ("a\x07b", "a b", ("report_control_characters",)),
        ("❤️ ekg " + "wort " * 10_000, ("❤️ ekg " + "wort " * 10_000).strip(), ()),
    ],
)
def test_reports(ptbxl_folder: Path, cell: str, report: str, notes: tuple):
    set_row(ptbxl_folder, 1, report=cell)
    row = entries(ptbxl_folder)[0]["1"]
    assert (row.report, row.notes) == (report, notes)


@pytest.mark.parametrize(
    "path",
    [
        "../x/records100/00000/00001_lr",
        "/etc/passwd",
        "records100\\00000\\00001_lr",
        "records100/../../secret",
        "",
    ],
)
def test_paths_that_leave_the_folder_are_not_read(ptbxl_folder: Path, path: str, write_record):
    write_record(ptbxl_folder.parent, "secret")
    set_row(ptbxl_folder, 1, filename_lr=path)
    rows, tally = entries(ptbxl_folder)
    assert "1" not in rows
    assert tally.dropped == {"UnsafePath": 1}


def test_links_that_leave_the_folder_are_not_followed(ptbxl_folder: Path, tmp_path: Path, write_record):
    write_record(tmp_path / "elsewhere", "00001_lr")
    for extension in ("dat", "hea"):
        inside = ptbxl_folder / f"records100/00000/00001_lr.{extension}"
        inside.unlink()
        inside.symlink_to(tmp_path / "elsewhere" / f"00001_lr.{extension}")
    report = build_dataset("ptbxl", ptbxl_folder, tmp_path / "out", progress=False)
    assert report.dropped == {"UnsafePath": 1}


@pytest.mark.parametrize(
    ("cell", "codes"),
    [
        ("{'NORM': 100.0, 'SR': 0.0}", ("NORM", "SR")),
        ("{}", ()),
        ("__import__('os').system('true')", None),
        ("{'A': __import__('os')}", None),
        ("['NORM']", None),
        ("{1: 2}", None),
        ("(" * 5000, None),
        (float("nan"), None),
    ],
)
def test_codes_are_literals_never_run(cell, codes):
    assert parse_scp_codes(cell) == codes


def test_rows_without_readable_codes_are_dropped(ptbxl_folder: Path):
    set_row(ptbxl_folder, 3, scp_codes="exec('x')")
    assert entries(ptbxl_folder)[1].dropped == {"labels_unreadable": 1}


def test_bad_tables(ptbxl_folder: Path):
    table = ptbxl_folder / "ptbxl_database.csv"
    table.write_text(table.read_text().replace("strat_fold", "fold"))
    with pytest.raises(DatasetBuildError, match="strat_fold"):
        entries(ptbxl_folder)
    table.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DatasetBuildError):
        entries(ptbxl_folder)
    table.unlink()
    with pytest.raises(DatasetBuildError, match="missing"):
        entries(ptbxl_folder)
    with pytest.raises(ConfigurationError, match="100 and 500"):
        entries(ptbxl_folder, rate=250)


@pytest.mark.realdata
def test_real_recordings(recordings: Path, tmp_path: Path):
    report = build_dataset("ptbxl", recordings / "ptbxl", tmp_path / "out", progress=False, num_proc=2)
    assert (report.seen, report.kept) == (40, 40)
    assert report.dropped == {}
    assert sum(report.splits.values()) == 40
    assert min(report.splits["test"], report.splits["validation"]) >= 8
    rows = load_built(tmp_path / "out")
    assert check_patient_leak(rows).patients == 0
    batch = decode_batch(rows, [0, 20, 39])
    for position, index in enumerate([0, 20, 39]):
        number = int(rows[index]["record_id"])
        path = recordings / "ptbxl" / "records100" / "00000" / f"{number:05d}_lr"
        record = read_record(path)
        assert np.array_equal(batch.signal[position], record.signal)
        assert record.lead_names == batch.lead_names


@pytest.mark.realdata
def test_real_recordings_at_500_hz(recordings: Path, tmp_path: Path):
    report = build_dataset("ptbxl", recordings / "ptbxl", tmp_path / "out", progress=False, rate=500)
    assert (report.kept, report.dropped) == (5, {"file_not_there": 35})
    rows = load_built(tmp_path / "out")
    assert decode_batch(rows, [3, 1]).signal.shape == (2, 12, 5000)
