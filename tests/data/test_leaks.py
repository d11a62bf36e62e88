"""Shared patients and recordings are found, counted, and stop an evaluation."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from datasets import Dataset

from ecg_hf.data.leaks import check_leaks
from ecg_hf.errors import ConfigurationError
from tests.evaluation.built import built_rows

SPLITS = ["train", "train", "train", "validation", "validation", "test", "test", "test"]


def dataset(patients: list[str | None] | None = None, copies: dict[int, int] | None = None) -> Dataset:
    rng = np.random.default_rng(0)
    signals = [rng.normal(size=(12, 300)) for _ in SPLITS]
    for target, source in (copies or {}).items():
        signals[target] = signals[source]
    return built_rows(signals, patients=patients or [f"p{i}" for i in range(8)], splits=SPLITS)


def test_clean_splits() -> None:
    report = check_leaks(dataset())
    assert report.clean
    assert report.records == {"train": 3, "validation": 2, "test": 3}
    assert len(report.leaking_test_rows()) == 0
    assert report.as_dict()["shared_patients"] == []


def test_shared_patients_of_the_test_split_stop() -> None:
    rows = dataset(patients=["a", "a", "b", "c", "a", "a", "d", "c"])
    with pytest.raises(ConfigurationError, match=r"patients: 1 shared by train \(2 records\) and test \(1"):
        check_leaks(rows)
    report = check_leaks(rows, patient_policy="report")
    pairs = {(p.first, p.second): p for p in report.patients}
    assert set(pairs) == {("train", "validation"), ("train", "test"), ("validation", "test")}
    assert pairs["train", "test"].first_rows.tolist() == [0, 1]
    assert pairs["validation", "test"].shared == 2
    assert report.leaking_test_rows().tolist() == [5, 7]


def test_train_and_validation_are_a_warning_only(caplog: pytest.LogCaptureFixture) -> None:
    rows = dataset(patients=["a", "b", "c", "a", "d", "e", "f", "g"])
    with caplog.at_level(logging.WARNING):
        report = check_leaks(rows)
    assert not report.clean
    assert "1 shared by train (1 records) and validation (1 records)" in caplog.text
    assert len(report.leaking_test_rows()) == 0


def test_copies_are_found_across_and_within_splits(caplog: pytest.LogCaptureFixture) -> None:
    rows = dataset(copies={6: 0, 1: 0, 7: 5})
    with caplog.at_level(logging.WARNING):
        report = check_leaks(rows)
    assert "recordings: 1 shared by train (2 records) and test (1 records)" in caplog.text
    assert report.repeated_within == {"train": 1, "test": 1}
    assert report.leaking_test_rows().tolist() == [6]
    assert report.as_dict()["leaking_test_records"] == 1
    with pytest.raises(ConfigurationError, match="recordings"):
        check_leaks(rows, signal_policy="raise")


def test_unknown_patients_and_flat_signals_are_counted_not_matched() -> None:
    rows = dataset(patients=[None, "", "b", None, "c", None, "", "d"])
    report = check_leaks(rows)
    assert report.clean
    assert report.without_patient == {"train": 2, "validation": 1, "test": 2}
    flat = built_rows([np.zeros((12, 100))] * 8, splits=SPLITS)
    assert check_leaks(flat).without_key == 8
    assert check_leaks(flat).clean


def test_a_split_of_ones_own_and_selections() -> None:
    rows = dataset(patients=["a", "b", "c", "d", "e", "f", "g", "a"])
    own = np.array(["train", "", "", "", "", "test", "validation", ""])
    assert check_leaks(rows, own).clean
    part = rows.select([7, 0])
    assert check_leaks(part, ["test", ""]).clean
    with pytest.raises(ConfigurationError, match="test split is not apart"):
        check_leaks(part, ["test", "train"])


@pytest.mark.parametrize(
    "options", [{"patient_policy": "panic"}, {"split": ["train"]}, {"split": ["dev"] * 8}]
)
def test_bad_options_are_typed_errors(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        check_leaks(dataset(), **options)  # type: ignore[arg-type]
