"""CPSC 2018 in both layouts, LUDB, the Challenge sets: genuine recordings, and invented trees for the mistakes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from ecg_hf.data.building import build_dataset, load_built
from ecg_hf.data.decoding import decode_batch
from ecg_hf.data.feature import Ecg
from ecg_hf.data.sources import create_source, read_ludb_delineations
from ecg_hf.data.sources.challenge2021 import SUB_DATASETS, sub_dataset_of
from ecg_hf.data.sources.ludb import LUDB_LABEL_COLUMNS
from ecg_hf.errors import ConfigurationError, DatasetBuildError, RecordNotFound, TruncatedSignal, UnsafePath
from ecg_hf.signal import STANDARD_LEADS, read_record
from ecg_hf.signal.io.wfdb_annotations import read_annotations

ALL_TRAIN = {"train_folds": "1-10", "validation_folds": "", "test_folds": ""}


def build(source: str, folder: Path, output: Path, **options):
    return build_dataset(source, folder, output, **{"progress": False, **ALL_TRAIN, **options})


def dataset_bytes(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != "build_report.json"}


def write_cpsc(root: Path, name: str, data: np.ndarray) -> None:
    (root / "TrainingSet").mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(root / "TrainingSet" / f"{name}.mat", {"ECG": {"sex": "Male", "age": 5, "data": data}})


def test_cpsc_original_layout_and_its_mistakes(tmp_path: Path) -> None:
    root = tmp_path / "cpsc"
    signals = np.random.default_rng(0).normal(size=(12, 60))
    for name in ("A0001", "A0002", "A0003", "A0004", "A0009"):
        write_cpsc(root, name, signals)
    (root / "REFERENCE.csv").write_text(
        "Recording,First_label,Second_label,Third_label,sex,age\n"
        "A0001,5,2.0,,Male,74\nA0002,1,,,Female,-1\nA0003,12,,,Male,3\nA0004,3,,,Male,\nA0005,1,,,Male,3\n"
    )
    (root / "REFERENCE.validation_set.csv").write_text("Recording,First_label\nA0002,1\nA0004,4\nA0005,1\n")
    report = build("cpsc2018", root, tmp_path / "out")
    assert report.options["layout"] == "original"
    assert report.dropped == {"file_not_there": 1, "labels_unreadable": 1, "not_in_table": 2}
    assert report.notes == {"tables_disagree": 1}
    rows = load_built(tmp_path / "out")
    assert rows["record_id"][:] == ["A0001", "A0002", "A0004"]
    assert rows[0]["labels"] == ["CRBBB", "AFIB"]
    assert (rows[0]["age"], rows[0]["sex"]) == (74.0, "male")
    assert np.isnan(rows[1]["age"])
    assert rows[0]["ecg"]["lead_names"] == STANDARD_LEADS
    np.testing.assert_array_equal(rows[0]["ecg"]["signal"], signals.astype(np.float32))
    assert rows[0]["ecg"]["sampling_rate"] == 500.0
    build("cpsc2018", root, tmp_path / "codes", labels="snomed")
    assert load_built(tmp_path / "codes")[0]["labels"] == ["59118001", "164889003"]
    for options in ({"labels": "icd"}, {"fold_by": "x"}, {"fold_by": "group"}):
        with pytest.raises(ConfigurationError):
            create_source("cpsc2018", root, options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetBuildError, match="neither"):
        build("cpsc2018", tmp_path / "empty", tmp_path / "no")


def test_cpsc_folds_by_group(tmp_path: Path, write_record) -> None:
    root = tmp_path / "cpsc_2018"
    write_record(root, "g1/A0001", comments=["#Dx: 426783006"])
    write_record(root, "g7/A6000", comments=["#Dx: 284470004,999"])
    write_record(root, "A6100", comments=["#Dx: 284470004"])
    report = build("cpsc2018", root, tmp_path / "out", fold_by="group", train_folds="1-6", test_folds="7")
    rows = load_built(tmp_path / "out")
    assert (rows["fold"][:], rows["split"][:]) == ([1, 7], ["train", "test"])
    assert rows["labels"][:] == [["NORM"], ["PAC", "999"]]
    assert report.dropped == {"no_group_folder": 1}
    assert report.notes["code_of_no_class"] == 1


@pytest.mark.realdata
def test_cpsc_layouts_agree(real_data: Path, tmp_path: Path) -> None:
    original = build("cpsc2018", real_data / "cpsc2018_raw", tmp_path / "original")
    assert (original.kept, original.dropped) == (3, {"file_not_there": 6874})
    rows = load_built(tmp_path / "original")
    assert rows["record_id"][:] == ["A1980", "A1981", "A1982"]
    for row in rows:
        path = real_data / "cpsc2018_raw" / "TrainingSet" / f"{row['record_id']}.mat"
        stored = scipy.io.loadmat(path, simplify_cells=True)["ECG"]["data"].astype(np.float32)
        np.testing.assert_array_equal(row["ecg"]["signal"], stored)
        record = read_record(path, sampling_rate=500, lead_names=STANDARD_LEADS, unit="mV")
        np.testing.assert_array_equal(record.signal, stored)
    assert (rows[0]["age"], rows[0]["sex"]) == (52.0, "male")
    challenge = build("cpsc2018", real_data / "challenge2021", tmp_path / "challenge")
    assert (challenge.kept, challenge.dropped) == (7, {"other_dataset": 104})
    assert "code_of_no_class" not in challenge.notes
    # Table and headers are two publications of the same labels.
    table = real_data / "cpsc2018_raw" / "REFERENCE.training_set.csv"
    root = tmp_path / "table"
    for row in load_built(tmp_path / "challenge"):
        write_cpsc(root, row["record_id"], np.ones((12, 9)))
    shutil.copy(table, root)
    build("cpsc2018", root, tmp_path / "again")
    by_table, by_header = load_built(tmp_path / "again"), load_built(tmp_path / "challenge")
    for column in ("record_id", "labels", "age", "sex", "fold"):
        assert by_table[column][:] == by_header[column][:], column


LUDB_HEAD = ",".join(["ID", "Sex", "Age", *LUDB_LABEL_COLUMNS])


def test_ludb_without_annotations(tmp_path: Path, write_record) -> None:
    root = tmp_path / "ludb"
    for name in ("1", "2", "3"):
        write_record(root, f"data/{name}", rate=500)
    (root / "ludb.csv").write_text(
        f'{LUDB_HEAD}\n1,"F\n",">89\n",Sinus rhythm,,,,"A\nB\nA",,,,\n'
        "2,M,51,,,,,,,,,\n3,M,x,,,,,,,,,\n4,M,5,,,,,,,,,\n"
    )
    (root / "data" / "2.ii").write_bytes(b"\x05")
    # One QRS mark at sample 900 of a recording of 200.
    (root / "data" / "3.ii").write_bytes((1 << 10 | 900).to_bytes(2, "little") + b"\0\0")
    report = build("ludb", root, tmp_path / "out")
    assert report.dropped == {"file_not_there": 1}
    assert report.notes == {
        "age_over_89": 1, "annotations_not_there": 1, "annotations_unreadable": 1, "annotations_outside_signal": 1,
    }  # fmt: skip
    rows = load_built(tmp_path / "out")
    assert rows[0]["labels"] == ["Sinus rhythm", "A", "B"]
    assert (rows[0]["age"], rows[0]["sex"], rows[0]["r_peaks"]) == (90.0, "female", [])
    with pytest.raises(RecordNotFound):
        read_ludb_delineations(root, "1")
    with pytest.raises(UnsafePath):
        read_ludb_delineations(root, "../1")
    with pytest.raises(TruncatedSignal):
        read_annotations(root / "data" / "2.ii")


@pytest.mark.realdata
def test_ludb_delineations_equal_the_wfdb_library(recordings: Path, tmp_path: Path) -> None:
    import wfdb

    folder = recordings / "ludb"
    report = build("ludb", folder, tmp_path / "out")
    assert (report.kept, report.dropped) == (10, {})
    rows = load_built(tmp_path / "out")
    peaks = dict(zip(rows["record_id"][:], rows["r_peaks"][:], strict=True))
    waves = 0
    for name in ("1", "7", "8", "34", "40"):
        found = read_ludb_delineations(folder, name)
        assert tuple(found) == STANDARD_LEADS
        for lead, by_wave in found.items():
            library = wfdb.rdann(str(folder / "data" / name), lead.lower())
            samples, symbols = read_annotations(folder / "data" / f"{name}.{lead.lower()}", root=folder)
            np.testing.assert_array_equal(samples, library.sample)
            assert list(symbols) == library.symbol
            for symbol, wave in (("p", "P"), ("N", "QRS"), ("t", "T")):
                marks = by_wave[wave]
                np.testing.assert_array_equal(marks.peak, samples[np.array(symbols) == symbol])
                known = (marks.onset >= 0) & (marks.offset >= 0)
                assert (marks.onset[known] <= marks.peak[known]).all()
                assert (marks.peak[known] <= marks.offset[known]).all()
                waves += len(marks)
        assert peaks[name] == found["II"]["QRS"].peak.tolist()
    assert waves > 1000


def test_annotations_with_long_gaps_and_texts(tmp_path: Path) -> None:
    import wfdb

    samples = np.array([5, 700, 200_000, 200_001])
    wfdb.wrann(
        "x", "atr", samples, ["N", "(", "T", "t"], aux_note=["", "(AFIB", "odd", ""], write_dir=str(tmp_path)
    )
    found, symbols = read_annotations(tmp_path / "x.atr")
    np.testing.assert_array_equal(found, samples)
    assert symbols == ("N", "(", "T", "t")


def test_challenge_sets(tmp_path: Path, write_record) -> None:
    root = tmp_path / "training"
    names = {
        "georgia/g1/E00001": [], "WFDB_PTBXL/HR00001": [], "chapman_shaoxing/g1/JS00001": [], "other/Z1": [],
        "ningbo/g2/JS20001": ["# Age: 61", "# Sex: Female", "# Dx: 426783006, 164889003"], "ptb/S0001": [],
        "ptb/again/S0001": [],
    }  # fmt: skip
    for name, comments in names.items():
        write_record(root, name, comments=comments)
    report = build("challenge2021", root, tmp_path / "default")
    assert report.dropped == {"not_in_a_known_folder": 1, "set_not_selected": 1, "repeated_name": 1}
    rows = load_built(tmp_path / "default")
    assert sorted(rows["record_id"][:]) == ["E00001", "JS00001", "JS20001", "S0001"]
    row = next(row for row in rows if row["record_id"] == "JS20001")
    assert (row["labels"], row["age"], row["sex"]) == (["426783006", "164889003"], 61.0, "female")
    assert report.options["datasets"] == ",".join(name for name in SUB_DATASETS if name != "ptb-xl")
    chosen = build("challenge2021", root, tmp_path / "two", datasets="ptb-xl, georgia")
    assert (chosen.kept, chosen.notes) == (2, {"recording_of_ptbxl": 1})
    assert build("challenge2021", root / "georgia", tmp_path / "one").kept == 1
    for wrong in ("", "kaggle"):
        with pytest.raises(ConfigurationError, match="no set is named"):
            create_source("challenge2021", root, {"datasets": wrong})
    with pytest.raises(DatasetBuildError, match="no header in a folder named"):
        build("challenge2021", root / "other", tmp_path / "no")


@pytest.mark.realdata
def test_genuine_challenge_sets(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "challenge2021"
    report = build("challenge2021", folder, tmp_path / "all", datasets="all")
    assert (report.seen, report.kept, report.notes["recording_of_ptbxl"]) == (111, 111, 10)
    entries = create_source("challenge2021", folder, {"datasets": "all", **ALL_TRAIN}).plan().entries
    assert all(sub_dataset_of(entry.record_id) == entry.path.split("/")[0] for entry in entries)
    rows = load_built(tmp_path / "all")
    assert all(rows["labels"][:])
    # A Georgia header that calls its record E07501.mat.
    assert "E07501" in rows["record_id"][:]
    default = build("challenge2021", folder, tmp_path / "default")
    assert (default.kept, default.dropped) == (101, {"set_not_selected": 10})
    # As plain WFDB records they are the same.
    plain = build_dataset("wfdb_folder", folder, tmp_path / "plain", progress=False, num_proc=2)
    assert (plain.seen, plain.kept) == (111, 111)
    plain_rows = load_built(tmp_path / "plain")
    assert all(plain_rows["labels"][:])
    batch = decode_batch(plain_rows, lead_names=STANDARD_LEADS, sampling_rate=100)
    assert batch.signal.shape[:2] == (111, 12)
    assert batch.lead_mask[:, :2].all()
    assert batch.is_padded
    # Equal names have equal folds in the sources that hold the same recordings.
    cpsc = create_source("cpsc2018", folder, dict(ALL_TRAIN)).plan().entries
    folds = {entry.record_id: entry.fold for entry in entries}
    assert cpsc
    assert all(folds[entry.record_id] == entry.fold for entry in cpsc)
    raw = rows.cast_column("ecg", Ecg(decode=False))[0]["ecg"]
    assert raw["dtype"] == "int16"


KILLED = """
import os, signal, sys
from pathlib import Path
from ecg_hf.data import building, shards
real = shards.build_shard
def dying(job):
    if job.number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(job)
building.build_shard = dying
building.build_dataset(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), progress=False, records_per_shard=2,
    train_folds="1-10", validation_folds="", test_folds="")
"""


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize("source", ["cpsc2018", "ludb", "challenge2021"])
def test_killed_and_resumed(source: str, recordings: Path, tmp_path: Path, write_record) -> None:
    folder = recordings / "ludb" if source == "ludb" else tmp_path / "in"
    for number in range(1, 6):
        if source == "cpsc2018":
            write_cpsc(folder, f"A000{number}", np.random.default_rng(number).normal(size=(12, 60)))
        elif source == "challenge2021":
            write_record(folder, f"georgia/g1/E0000{number}", seed=number, comments=["# Dx: 426783006"])
    if source == "cpsc2018":
        table = "".join(f"A000{number},{number},,\n" for number in range(1, 6))
        (folder / "REFERENCE.csv").write_text("Recording,First_label,Second_label,Third_label\n" + table)
    build(source, folder, tmp_path / "whole", records_per_shard=2)
    run = subprocess.run(
        [sys.executable, "-c", KILLED, source, str(folder), str(tmp_path / "out")],
        env={**os.environ},
        check=False,
    )
    assert run.returncode == -signal.SIGKILL
    report = build(source, folder, tmp_path / "out", records_per_shard=2)
    assert report.shards_reused == 1
    assert dataset_bytes(tmp_path / "out") == dataset_bytes(tmp_path / "whole")
