"""Nested label subsets, and MERL's published ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import merl_subset, nested_subsets


def test_nested_and_counted() -> None:
    labels = np.random.default_rng(0).random((1000, 4)) < 0.2
    one, ten, all_ = nested_subsets(labels, seed=3)
    assert (one.n, ten.n, all_.n) == (10, 100, 1000)
    assert set(one.indices) < set(ten.indices) < set(all_.indices)
    assert (np.diff(ten.indices) > 0).all()
    np.testing.assert_array_equal(ten.positives, labels[ten.indices].sum(axis=0))
    again = nested_subsets(labels, seed=3)
    np.testing.assert_array_equal(again[0].indices, one.indices)
    assert set(nested_subsets(labels, seed=4)[0].indices) != set(one.indices)


def test_at_least_one_record_and_exact_floors() -> None:
    labels = np.zeros((30, 1))
    assert [s.n for s in nested_subsets(labels, (0.01, 0.1, 0.3))] == [1, 3, 9]
    assert nested_subsets(np.zeros((100, 1)), (0.29,))[0].n == 29


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_bad_fraction(fraction: float) -> None:
    with pytest.raises(ConfigurationError):
        nested_subsets(np.zeros((10, 1)), (fraction,))


def test_merl_keeps_none_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="none"):
        merl_subset(20, 0.01)


@pytest.mark.fixtures
def test_merl_rule_equals_the_published_subsets(shared_fixtures: Path) -> None:
    index = json.loads((shared_fixtures / "merl" / "benchmark_index.json").read_text())
    checked = 0
    for task in index.values():
        if not isinstance(task, dict) or "train_1pct" not in task:
            continue
        n = task["splits"]["train"]["rows"]
        for key, fraction in (("train_1pct", 0.01), ("train_10pct", 0.1)):
            rows = merl_subset(n, fraction)
            assert len(rows) == task[key]["n"]
            assert rows[:10].tolist() == task[key]["first10_row_indices"]
            digest = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
            assert digest == task[key]["sha256_of_int64_le_index_array"]
            checked += 1
    assert checked >= 12
