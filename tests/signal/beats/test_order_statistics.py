"""Medians and percentiles are numpy's to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_hf.signal.beats.order_statistics import median, median_over_first, percentile


@pytest.mark.parametrize("count", [1, 2, 3, 12, 25])
def test_median_over_the_first_axis(count):
    values = np.random.default_rng(count).standard_normal((count, 3, 7))
    assert np.array_equal(median_over_first(values), np.median(values, axis=0))
    assert np.array_equal(median_over_first(values[:, :, 2:6]), np.median(values[:, :, 2:6], axis=0))


@pytest.mark.parametrize("count", [1, 2, 3, 10, 201])
@pytest.mark.parametrize("percent", [0, 15, 20, 25, 50, 75, 100])
def test_percentiles(count, percent):
    values = np.random.default_rng(count).standard_normal(count)
    before = values.copy()
    assert percentile(values, percent) == np.percentile(values, percent)
    assert np.array_equal(values, before)
    assert median(values) == np.median(values)
