"""Targets from columns of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from ecg_hf.data.label_columns import read_labels
from ecg_hf.errors import ConfigurationError


def column(values: list[Any], feature: Any = None) -> Dataset:
    features = None if feature is None else Features({"outcome": feature})
    return Dataset.from_dict({"outcome": values}, features=features)


CASES: dict[str, tuple[list[Any], Any, tuple[str, ...], list[Any], dict[str, int]]] = {
    "whole numbers, sorted": ([7, -2, None, 7], None, ("-2", "7"), [1, 0, -1, 1], {"without a label (null)": 1}),
    "text": (["b", "a", "", "b"], None, ("a", "b"), [1, 0, -1, 1], {"without a label (empty)": 1}),
    "truth values": ([True, False, None], None, ("False", "True"), [1, 0, -1], {"without a label (null)": 1}),
    "class label": (
        [2, 0, -1, None], ClassLabel(names=["x", "y", "z"]), ("x", "y", "z"), [2, 0, -1, -1],
        {"without a label (null)": 2},
    ),
    "lists of text": (
        [["b", "a"], [], None, ["b"]], None, ("a", "b"), [[1, 1], [0, 0], [0, 0], [0, 1]],
        {"without a label (null)": 1},
    ),
    "lists of class labels": (
        [[1], [0, 1]], List(ClassLabel(names=["x", "y", "z"])), ("x", "y", "z"), [[0, 1, 0], [1, 1, 0]], {},
    ),
    "lists of numbers": ([[4], [5, 4]], List(Value("int16")), ("4", "5"), [[1, 0], [1, 1]], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_columns(name: str) -> None:
    values, feature, names, targets, left_out = CASES[name]
    found = read_labels(column(values, feature), "outcome")
    assert found.names == names
    assert found.targets.tolist() == targets
    assert found.several is isinstance(targets[0], list)
    assert found.left_out == left_out
    assert (~found.labelled).sum() == sum(left_out.values())
    rows = np.flatnonzero(found.labelled)
    assert found.matrix(rows).shape == (len(rows), len(names))
    if not found.several:
        assert (found.matrix(rows).sum(axis=1) == 1).all()


WRONG: dict[str, tuple[list[Any], Any, str]] = {
    "floats": ([0.0, 1.0], None, "float64"),
    "one value": (["a", "a"], None, "nothing to tell apart"),
    "nothing known": ([None, None], Value("int32"), "no label at all"),
    "identifiers": ([f"r{i}" for i in range(9)], None, "no classes"),
    "many": (list(range(1001)) * 3, None, "1000 classes"),
    "long texts": (["a" * 201, "b"] * 3, None, "201 characters"),
    "zeros and ones": ([[0, 1, 0], [1, 0, 0]], None, "not zeros and ones"),
    "null in a list": ([["a", None]], None, "nulls or empty"),
    "lists of floats": ([[0.5]], None, "List"),
    "lists of lists": ([[["a"]]], None, "List"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_are_no_labels_is_refused(name: str) -> None:
    values, feature, said = WRONG[name]
    with pytest.raises(ConfigurationError, match=said):
        read_labels(column(values, feature), "outcome")


def test_a_column_comes_before_a_label_group_of_its_name() -> None:
    rows = Dataset.from_dict({"labels": [["NORM"], ["AFIB"], ["IMI"]], "super": ["p", "q", "p"]})
    assert read_labels(rows, "super").names == ("p", "q")
    group = read_labels(rows.remove_columns("super"), "super")
    assert group.names == ("NORM", "MI", "STTC", "CD", "HYP")
    assert group.labelled.tolist() == [True, False, True]
    assert group.descriptions()["MI"] == "myocardial infarction"
    with pytest.raises(ConfigurationError, match="no column 'none'"):
        read_labels(rows, "none")
    with pytest.raises(ConfigurationError, match="lacks"):
        read_labels(column([1, 2, 3]), "super")
