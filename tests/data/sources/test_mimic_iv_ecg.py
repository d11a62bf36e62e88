"""MIMIC-IV-ECG in its exact layout: reports, joins, splits, lead order, broken recordings."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.data.building import build_dataset, load_built
from ecg_hf.data.decoding import decode_batch
from ecg_hf.data.sources import assemble_report, create_source
from ecg_hf.errors import ConfigurationError, DatasetBuildError
from ecg_hf.signal import STANDARD_LEADS
from tests.data.conftest import MIMIC_LEADS

GOOD = ["Sinus rhythm", "Normal ECG"]


@pytest.fixture
def mimic_folder(tmp_path: Path, write_record):
    """Builds the folder from ``{study: report lines}``; every two studies share a patient."""

    def make(reports: dict[int, list[str] | None], *, shuffle_reports: bool = False) -> Path:
        root = tmp_path / "mimic"
        root.mkdir()
        records, measurements = [], []
        for i, (study, lines) in enumerate(reports.items()):
            patient = 10_000_032 + i // 2
            path = f"files/p{str(patient)[:4]}/p{patient}/s{study}/{study}"
            write_record(
                root,
                path,
                samples=5000,
                rate=500,
                gain="200.0(0)/mV",
                leads=MIMIC_LEADS,
                seed=study,
                comments=(),
            )
            records.append([patient, study, study, "2180-07-23 08:44:00", path])
            if lines is not None:
                cells = [*lines, *[""] * (18 - len(lines))]
                measurements.append(
                    [patient, study, 6848296, "2180-07-23 08:44:00", *cells, "0.005-150 Hz", 659]
                )
        if shuffle_reports:
            measurements.reverse()
        with (root / "record_list.csv").open("w", newline="") as file:
            csv.writer(file).writerows(
                [["subject_id", "study_id", "file_name", "ecg_time", "path"], *records]
            )
        header = ["subject_id", "study_id", "cart_id", "ecg_time", *[f"report_{i}" for i in range(18)]]
        with (root / "machine_measurements.csv").open("w", newline="") as file:
            csv.writer(file).writerows([[*header, "bandwidth", "rr_interval"], *measurements])
        return root

    return make


@pytest.mark.fixtures
def test_reports_equal_the_published_preparation(shared_fixtures: Path):
    cases = json.loads((shared_fixtures / "merl" / "report_cases.json").read_text())
    assert cases
    for case in cases:
        text, words = assemble_report(case["reports"])
        assert (text, words) == (case["total_report"], case["n_words"])
        assert (words >= 4) == case["kept"]


def test_report_lines_that_are_no_text_are_missing():
    assert assemble_report([float("nan"), "EKG normal\tnow ok", None]) == ("ecg normal now ok.", 4)


def test_leads_are_stored_as_filed_and_given_by_name(mimic_folder, tmp_path: Path):
    root = mimic_folder({40_689_238: GOOD, 2: GOOD})
    report = build_dataset("mimic_iv_ecg", root, tmp_path / "out", progress=False)
    assert report.kept == 2
    rows = load_built(tmp_path / "out")
    assert rows[0]["record_id"] == "40689238"
    assert rows[0]["patient_id"] == "10000032"
    assert rows[0]["report"] == "sinus rhythm. normal ecg."
    assert rows[0]["ecg"]["lead_names"] == MIMIC_LEADS
    raw = rows[0]["ecg"]["signal"]
    batch = decode_batch(rows, [0], lead_names=STANDARD_LEADS)
    assert np.array_equal(batch.signal[0, 4], raw[5])
    assert np.array_equal(batch.signal[0, 5], raw[4])


def test_reports_are_joined_by_study_not_by_row(mimic_folder, tmp_path: Path):
    root = mimic_folder({i: [f"Report number {i} here"] for i in range(1, 6)}, shuffle_reports=True)
    build_dataset("mimic_iv_ecg", root, tmp_path / "out", progress=False)
    assert load_built(tmp_path / "out")["report"][:] == [f"report number {i} here." for i in range(1, 6)]


def test_what_is_dropped_and_counted(mimic_folder, tmp_path: Path, write_record):
    root = mimic_folder(
        {1: GOOD, 2: ["Sinus bradycardia"], 3: None, 4: [], 5: GOOD, 6: GOOD, 7: GOOD, 8: GOOD}
    )
    folder = {i: next(root.glob(f"files/*/*/s{i}")) for i in range(1, 9)}
    (folder[5] / "5.hea").unlink()
    (folder[6] / "6.dat").write_bytes((folder[6] / "6.dat").read_bytes()[: 2 * 32_768])
    write_record(folder[7], "7", values=np.full((12, 5000), 17, np.int16), rate=500, leads=MIMIC_LEADS)
    write_record(folder[8], "8", values=np.full((12, 5000), -32768, np.int16), rate=500, leads=MIMIC_LEADS)
    report = build_dataset("mimic_iv_ecg", root, tmp_path / "out", progress=False)
    assert report.kept == 1
    assert report.dropped == {
        "SignalError": 1,
        "TruncatedSignal": 1,
        "constant_signal": 1,
        "file_not_there": 1,
        "no_report": 1,
        "report_too_short": 2,
    }
    assert report.seen == 8


def test_paths_that_leave_the_folder(mimic_folder, tmp_path: Path, write_record):
    root = mimic_folder({1: GOOD, 2: GOOD})
    write_record(tmp_path, "secret")
    table = root / "record_list.csv"
    lines = table.read_text().splitlines()
    lines[1] = lines[1].rsplit(",", 1)[0] + ",../secret"
    table.write_text("\n".join(lines) + "\n")
    assert create_source("mimic_iv_ecg", root, {}).plan().tally.dropped == {"UnsafePath": 1}


def test_patient_split_keeps_patients_together_record_split_does_not(mimic_folder):
    root = mimic_folder(dict.fromkeys(range(1, 41), GOOD))
    plans = {
        split: create_source("mimic_iv_ecg", root, {"split": split, "validation_fraction": 0.25}).plan()
        for split in ("patient", "record", "merl")
    }
    assert plans["record"].entries == plans["merl"].entries
    sides: dict[str, dict[str, set[str]]] = {}
    for split, plan in plans.items():
        assert sum(e.split == "validation" for e in plan.entries) == 10
        for entry in plan.entries:
            sides.setdefault(split, {}).setdefault(entry.patient_id or "", set()).add(entry.split)
    assert all(len(where) == 1 for where in sides["patient"].values())
    assert any(len(where) == 2 for where in sides["merl"].values())


def test_record_split_leak_is_reported(mimic_folder, tmp_path: Path):
    root = mimic_folder(dict.fromkeys(range(1, 21), GOOD))
    report = build_dataset(
        "mimic_iv_ecg", root, tmp_path / "out", progress=False, split="merl", validation_fraction=0.3
    )
    assert report.patients_in_two_splits > 0


def test_bad_tables_and_options(mimic_folder):
    root = mimic_folder({1: GOOD})
    with pytest.raises(ConfigurationError, match="split"):
        create_source("mimic_iv_ecg", root, {"split": "random"})
    with pytest.raises(ConfigurationError, match="validation_fraction"):
        create_source("mimic_iv_ecg", root, {"validation_fraction": 1.5})
    (root / "machine_measurements.csv").unlink()
    with pytest.raises(DatasetBuildError, match="missing"):
        create_source("mimic_iv_ecg", root, {}).plan()
