"""MiniRocket through its library, and what happens without."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.baselines.minirocket import MiniRocket
from tests.evaluation.built import built_rows


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    return built_rows([rng.normal(size=(12, 100)), rng.normal(size=(12, 140)), rng.normal(size=(3, 100))])


def test_without_the_library(dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    baseline = MiniRocket(num_kernels=84, duration_s=1.0)
    with pytest.raises(ConfigurationError, match=r"ecg-hf\[baselines\]"):
        baseline.fit(dataset, [0])
    with pytest.raises(ConfigurationError, match="fit"):
        baseline.transform(dataset)


def test_settings() -> None:
    assert MiniRocket().dim == 9996
    assert (
        MiniRocket().fingerprint() == MiniRocket(num_proc=2).fingerprint() != MiniRocket(seed=1).fingerprint()
    )
    with pytest.raises(ConfigurationError, match="num_kernels"):
        MiniRocket(num_kernels=10)
    with pytest.raises(ConfigurationError, match="nine samples"):
        MiniRocket(duration_s=0.01)


@pytest.mark.slow
def test_features_are_shares_and_depend_on_the_seed_alone(dataset) -> None:
    pytest.importorskip("numba")
    pytest.importorskip("sktime")
    first = MiniRocket(num_kernels=200, duration_s=1.0)
    first.fit(dataset, [0, 1])
    features = first.transform(dataset, progress=False)
    assert features.shape == (3, 168)
    assert features.dtype == np.float32
    assert 0.0 <= features.min() < features.max() <= 1.0
    again = MiniRocket(num_kernels=200, duration_s=1.0)
    again.fit(dataset, [1, 0])
    np.testing.assert_array_equal(again.transform(dataset, [2, 0], progress=False), features[[2, 0]])
    other = MiniRocket(num_kernels=200, duration_s=1.0, seed=1)
    other.fit(dataset, [0, 1])
    assert not np.array_equal(other.transform(dataset, progress=False), features)
