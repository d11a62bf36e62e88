"""Splits by patient, fold selections, leaks."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from ecg_hf.data.splits import (
    FoldSelection,
    assign_splits,
    check_patient_leak,
    hash_fold,
    parse_folds,
    record_split,
)
from ecg_hf.errors import ConfigurationError, DatasetBuildError


@pytest.mark.parametrize(
    ("text", "folds"),
    [
        ("1-7,9", (1, 2, 3, 4, 5, 6, 7, 9)),
        ("8", (8,)),
        (" 2 , 1-2 ", (1, 2)),
        ("", ()),
        (3, (3,)),
        ([9, 1], (1, 9)),
    ],
)
def test_parse_folds(text, folds):
    assert parse_folds(text) == folds


@pytest.mark.parametrize("text", ["1-", "7-1", "a", "1,,2", "1;2", "-1", "1-2-3"])
def test_parse_folds_refuses(text):
    with pytest.raises(ConfigurationError):
        parse_folds(text)


def test_fold_selection():
    selection = FoldSelection("1-7", "8", "9")
    assert [selection.split_of(f) for f in (1, 7, 8, 9, 10)] == ["train", "train", "validation", "test", None]
    with pytest.raises(ConfigurationError, match="fold 8"):
        FoldSelection("1-8", "8", "9")


@given(st.text(), st.integers(0, 5))
def test_hash_fold_is_stable_and_in_range(patient, seed):
    fold = hash_fold(patient, seed=seed)
    assert 1 <= fold <= 10
    assert fold == hash_fold(patient, seed=seed)


def test_hash_folds_are_even():
    counts = np.bincount([hash_fold(str(i)) for i in range(5000)], minlength=11)[1:]
    assert counts.min() > 400


def test_patients_are_dealt_out_whole():
    patients = [str(i % 100) for i in range(350)]
    splits = assign_splits(patients, {"train": 0.9, "validation": 0.1})
    sides = {p: {s for q, s in zip(patients, splits, strict=True) if q == p} for p in set(patients)}
    assert all(len(where) == 1 for where in sides.values())
    assert sum(where == {"validation"} for where in sides.values()) == 10
    assert splits == assign_splits(patients, {"train": 0.9, "validation": 0.1})
    assert splits != assign_splits(patients, {"train": 0.9, "validation": 0.1}, seed=1)
    with pytest.raises(ConfigurationError):
        assign_splits(patients, {"train": 0.9, "validation": 0.2})


@pytest.mark.parametrize("n", [50, 101, 1234])
def test_record_split_is_the_one_of_the_published_protocol(n):
    _, expected = train_test_split(np.arange(n), test_size=0.02, random_state=42)
    assert np.flatnonzero(record_split(n, 0.02)).tolist() == sorted(expected.tolist())


def test_patient_leak():
    rows = datasets.Dataset.from_dict(
        {
            "patient_id": ["a", "a", "b", "c", "c", "c", None],
            "split": ["train", "train", "test", "train", "test", "validation", "train"],
        }
    )
    leak = check_patient_leak(rows, strict=False)
    assert (leak.patients, leak.records, leak.unknown_patients, leak.distinct_patients) == (1, 3, 1, 3)
    assert leak.pairs == {"train/validation": 1, "train/test": 1, "validation/test": 1}
    with pytest.raises(DatasetBuildError, match="1 patients"):
        check_patient_leak(rows)
    assert check_patient_leak(rows.select([0, 1, 2])).patients == 0
    with pytest.raises(ConfigurationError):
        check_patient_leak(rows, split_column="fold")
