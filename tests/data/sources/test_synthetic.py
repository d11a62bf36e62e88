"""The synthetic source: deterministic, labelled, patients on one side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecg_hf.data.building import build_dataset, load_built
from ecg_hf.data.decoding import decode_batch
from ecg_hf.data.labels import unknown_codes
from ecg_hf.data.sources import SOURCES, list_sources
from ecg_hf.data.splits import check_patient_leak
from ecg_hf.errors import EcgError
from ecg_hf.signal.synthetic import simulate


def test_rows_are_the_simulation_to_one_microvolt(tmp_path: Path):
    build_dataset(
        "synthetic", None, tmp_path / "out", records=30, seed=5, records_per_shard=7, progress=False
    )
    rows = load_built(tmp_path / "out")
    truth = simulate(30, seed=5, sampling_rate=100.0, duration_s=10.0)
    assert rows["record_id"][:] == truth.record_ids
    assert rows["report"][:] == truth.reports
    assert [tuple(x) for x in rows["labels"]] == [tuple(c) for c in truth.codes]
    assert np.abs(decode_batch(rows).signal - truth.signal).max() <= 0.00051
    assert rows[3]["r_peaks"] == truth.r_peaks[3].tolist()
    assert unknown_codes(rows["labels"]) == {}


def test_patients_stay_on_one_side_and_all_splits_exist(tmp_path: Path):
    report = build_dataset("synthetic", None, tmp_path / "out", records=200, duration_s=5, progress=False)
    rows = load_built(tmp_path / "out")
    assert check_patient_leak(rows).patients == 0
    assert set(report.splits) == {"train", "validation", "test"}
    assert report.patients < 200
    assert {"train": range(1, 9), "validation": [9], "test": [10]}[rows[0]["split"]].count(
        rows[0]["fold"]
    ) == 1


def test_a_longer_build_begins_with_the_shorter_one(tmp_path: Path):
    build_dataset("synthetic", None, tmp_path / "a", records=5, progress=False)
    build_dataset("synthetic", None, tmp_path / "b", records=9, progress=False)
    a, b = load_built(tmp_path / "a"), load_built(tmp_path / "b")
    assert np.array_equal(decode_batch(a).signal, decode_batch(b, range(5)).signal)


def test_wrong_options():
    for options in (
        {"records": 0},
        {"train_folds": "0-x"},
        {"duration_s": 1},
        {"sampling_rate": 0},
        {"seed": -1},
        {"records": "many"},
        {"records": True},
        {"seed": None},
    ):
        with pytest.raises(EcgError):
            SOURCES["synthetic"].create(None, options)


def test_every_source_describes_itself():
    sources = list_sources()
    names = [
        "synthetic",
        "ptbxl",
        "mimic_iv_ecg",
        "csn",
        "code15",
        "cpsc2018",
        "challenge2021",
        "ludb",
        "wfdb_folder",
        "folder",
    ]
    assert [s.name for s in sources] == names
    for info in sources:
        assert all((info.title, info.expects, info.labels, info.drops, info.licence))
        assert set(info.options) == set(SOURCES[info.name].parameters())
