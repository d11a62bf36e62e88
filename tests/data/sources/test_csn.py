"""Chapman-Shaoxing-Ningbo: the official tree, made of the genuine recordings and of small invented ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.data.building import build_dataset, load_built
from ecg_hf.data.decoding import decode_batch
from ecg_hf.data.feature import Ecg
from ecg_hf.data.sources import create_source
from ecg_hf.data.sources.csn import CONDITION_NAMES, condition_acronyms
from ecg_hf.errors import ConfigurationError, DatasetBuildError
from ecg_hf.signal import STANDARD_LEADS
from ecg_hf.signal.io.reading import read_digital

ALL_TRAIN = {"train_folds": "1-10", "validation_folds": "", "test_folds": ""}
TABLE = """Acronym Name,Full Name,Snomed_CT
AFIB,Atrial Fibrillation,164889003
RBBB,right bundle branch block,59118001
TWC,T wave Change,164934002
SB,Sinus Bradycardia,426177001
SR,Sinus Rhythm,426783006
IDC,Interior differences conduction,698252002
IVB,Intraventricular block,698252002
"""


@pytest.fixture
def csn_folder(tmp_path: Path, write_record) -> Path:
    """Twelve records in two folders, as PhysioNet has them: a RECORDS file of folders, one of names in each."""
    root = tmp_path / "csn"
    for i in range(12):
        folder = f"WFDBRecords/{i // 6 + 1:02d}/{i // 6 + 1:02d}0"
        comments = ["#Age: 61", "#Sex: Male", "#Dx: 164889003,59118001,164934002", "#Rx: Unknown"]
        write_record(root, f"{folder}/JS{i:05d}", rate=500, seed=i, comments=comments)
        with (root / folder / "RECORDS").open("a") as file:
            file.write(f"JS{i:05d}\n")
    (root / "RECORDS").write_text("WFDBRecords/01/010/\nWFDBRecords/02/020/\nWFDBRecords/03/030/\n")
    (root / CONDITION_NAMES).write_text(TABLE, encoding="utf-8-sig")
    return root


def build(folder: Path, output: Path, **options):
    return build_dataset("csn", folder, output, **{"progress": False, "records_per_shard": 4, **options})


def dataset_bytes(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != "build_report.json"}


def test_rows(csn_folder: Path, tmp_path: Path):
    report = build(csn_folder, tmp_path / "out")
    assert (report.kept, report.dropped) == (12, {"folder_not_there": 1})
    rows = load_built(tmp_path / "out")
    assert rows["record_id"][:] == [f"JS{i:05d}" for i in range(12)]
    assert not any(rows["patient_id"][:])
    assert rows[0]["labels"] == ["AFIB", "RBBB", "TWC"]
    assert (rows[0]["age"], rows[0]["sex"], rows[0]["report"]) == (61.0, "male", "")
    assert report.options["labels"] == "acronym"
    assert sum(report.splits.values()) == 12


def test_bytes_do_not_depend_on_processes(csn_folder: Path, tmp_path: Path):
    build(csn_folder, tmp_path / "one")
    build(csn_folder, tmp_path / "two", num_proc=2)
    assert dataset_bytes(tmp_path / "one") == dataset_bytes(tmp_path / "two")


def test_vocabularies(csn_folder: Path, tmp_path: Path):
    build(csn_folder, tmp_path / "codes", labels="snomed")
    codes = load_built(tmp_path / "codes")[0]["labels"]
    assert codes == ["164889003", "59118001", "164934002"]
    table = csn_folder / CONDITION_NAMES
    table.write_text(TABLE.replace("TWC,T wave Change,164934002\n", ""))
    report = build(csn_folder, tmp_path / "mixed")
    assert load_built(tmp_path / "mixed")[0]["labels"] == ["AFIB", "RBBB", "164934002"]
    assert report.notes["code_without_acronym"] == 12
    table.unlink()
    assert build(csn_folder, tmp_path / "none").options["labels"] == "snomed"
    with pytest.raises(DatasetBuildError, match="missing"):
        build(csn_folder, tmp_path / "no", labels="acronym")
    with pytest.raises(ConfigurationError, match="auto, acronym, snomed"):
        build(csn_folder, tmp_path / "no", labels="icd")


def test_a_code_has_one_acronym(csn_folder: Path):
    acronyms = condition_acronyms(csn_folder / CONDITION_NAMES)
    assert acronyms["698252002"] == "IDC"
    (csn_folder / CONDITION_NAMES).write_text("Acronym Name,Full Name,Snomed_CT\nX,x,\n")
    with pytest.raises(DatasetBuildError, match="names no condition"):
        condition_acronyms(csn_folder / CONDITION_NAMES)
    (csn_folder / CONDITION_NAMES).write_text("Acronym,Snomed_CT\nX,1\n")
    with pytest.raises(DatasetBuildError, match="no column Acronym Name"):
        create_source("csn", csn_folder, {})


def test_filters_are_counted_whether_on_or_off(csn_folder: Path, tmp_path: Path, write_record):
    values = np.random.default_rng(0).integers(-900, 900, (12, 200)).astype(np.int16)
    first = csn_folder / "WFDBRecords/01/010"
    late, gap, dead = values.copy(), values.copy(), np.zeros_like(values)
    late[:, :15] = 0
    gap[3, 50] = np.iinfo(np.int16).min
    write_record(first, "JS00001", rate=500, values=late)
    write_record(first, "JS00002", rate=500, values=gap)
    write_record(first, "JS00003", rate=500, values=dead)
    almost = values.copy()
    almost[:, :14] = 0
    write_record(first, "JS00004", rate=500, values=almost)
    report = build(csn_folder, tmp_path / "all")
    assert report.kept == 12
    assert {k: report.notes[k] for k in ("zero_start", "missing_samples", "all_flat")} == {
        "zero_start": 2,
        "missing_samples": 1,
        "all_flat": 1,
    }
    report = build(csn_folder, tmp_path / "jepa", drop="ecg-jepa")
    assert report.options["drop"] == "nan,zero_start"
    assert report.dropped == {"folder_not_there": 1, "missing_samples": 1, "zero_start": 2}
    assert load_built(tmp_path / "jepa")["record_id"][:3] == ["JS00000", "JS00004", "JS00005"]
    with pytest.raises(ConfigurationError, match="no filter is named 'flat'"):
        build(csn_folder, tmp_path / "no", drop="nan,flat")


def test_broken_trees(csn_folder: Path, tmp_path: Path, write_record):
    first = csn_folder / "WFDBRecords/01/010"
    (first / "JS00001.hea").write_text("\n")
    (first / "JS00002.dat").write_bytes(b"")
    (first / "JS00003.hea").unlink()
    with (first / "RECORDS").open("a") as file:
        file.write("../../../../outside\n")
    write_record(csn_folder, "WFDBRecords/02/020/JS00000", rate=500)
    with (csn_folder / "WFDBRecords/02/020/RECORDS").open("a") as file:
        file.write("JS00000\n")
    report = build(csn_folder, tmp_path / "out")
    assert report.dropped == {
        "HeaderError": 1,
        "TruncatedSignal": 1,
        "UnsafePath": 1,
        "file_not_there": 1,
        "folder_not_there": 1,
        "repeated_name": 1,
    }
    with pytest.raises(DatasetBuildError, match="WFDBRecords"):
        build(tmp_path, tmp_path / "no")


def test_splits_do_not_change_when_records_are_added(csn_folder: Path, write_record):
    before = {e.record_id: e.split for e in create_source("csn", csn_folder, {}).plan().entries}
    (csn_folder / "WFDBRecords/01/010/RECORDS").unlink()
    write_record(csn_folder, "WFDBRecords/01/010/JS99999", rate=500)
    after = {e.record_id: e.split for e in create_source("csn", csn_folder, {}).plan().entries}
    assert after.keys() == {*before, "JS99999"}
    assert {name: after[name] for name in before} == before


@pytest.fixture
def genuine(real_data: Path, tmp_path: Path) -> Path:
    """The 43 genuine recordings of both hospitals, put into the official tree."""
    root = tmp_path / "ecg-arrhythmia"
    for hospital in ("chapman_shaoxing", "ningbo"):
        for header in sorted((real_data / "challenge2021" / hospital).rglob("*.hea")):
            number = header.stem.removeprefix("JS")
            target = root / "WFDBRecords" / number[:2] / number[:3]
            target.mkdir(parents=True, exist_ok=True)
            for file in (header, header.with_suffix(".mat")):
                shutil.copy(file, target / file.name)
    (root / CONDITION_NAMES).write_text(TABLE)
    return root


@pytest.mark.realdata
def test_genuine_recordings(genuine: Path, tmp_path: Path):
    report = build_dataset("csn", genuine, tmp_path / "out", progress=False, num_proc=2, **ALL_TRAIN)
    assert (report.seen, report.kept, report.splits) == (43, 43, {"train": 43})
    rows = load_built(tmp_path / "out")
    assert all(rows["labels"][:])
    assert not any(label == "" for labels in rows["labels"][:] for label in labels)
    batch = decode_batch(rows, lead_names=STANDARD_LEADS)
    assert batch.signal.shape == (43, 12, 5000)
    assert batch.sampling_rate == 500.0
    assert batch.lead_mask.all()
    # JS00001 of the published dataset: a man of 85 with atrial fibrillation.
    row = rows[0]
    assert (row["record_id"], row["age"], row["sex"]) == ("JS00001", 85.0, "male")
    assert row["labels"] == ["AFIB", "RBBB", "TWC"]
    stored = rows.cast_column("ecg", Ecg(decode=False))[0]["ecg"]
    original = read_digital(genuine / "WFDBRecords/00/000/JS00001.hea")
    assert stored["samples"] == original.samples.astype("<i2").tobytes()
