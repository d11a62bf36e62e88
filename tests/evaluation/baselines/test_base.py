"""The registry, and features kept by content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.baselines import FrozenBaseline, baseline_features, get_baseline, list_baselines
from tests.evaluation.built import built_rows


class Mean(FrozenBaseline):
    """Mean of every lead minus that of the training records."""

    name = "mean"
    description = "means"

    def __init__(self, factor: float = 1.0) -> None:
        self.factor, self.fits = factor, 0

    def settings(self):
        return {"factor": self.factor}

    def fit(self, dataset, train_rows, *, progress=True):
        self.fits += 1
        self.offset = np.mean([dataset[int(i)]["ecg"]["signal"].mean(axis=1) for i in train_rows], axis=0)

    def transform(self, dataset, rows=None, *, progress=True):
        signals = [dataset[i]["ecg"]["signal"].mean(axis=1) for i in range(len(dataset))]
        return (self.factor * (np.stack(signals) - self.offset)).astype(np.float32)


def rows(n: int = 4, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(n, 2, 50)))


def test_registry() -> None:
    assert set(list_baselines()) == {"handmade", "minirocket", "xresnet1d"}
    for name in list_baselines():
        baseline = get_baseline(name)
        assert baseline.name == name
        assert baseline.description
        assert len(baseline.fingerprint()) == 64
    assert len({get_baseline(name).fingerprint() for name in list_baselines()}) == 3
    with pytest.raises(ConfigurationError, match="handmade, minirocket"):
        get_baseline("hydra")
    with pytest.raises(ConfigurationError, match="widht"):
        get_baseline("xresnet1d", widht=3)


def test_features_are_computed_once_per_content(tmp_path: Path) -> None:
    dataset = built_rows(rows())
    first = Mean()
    features = baseline_features(first, dataset, [0, 1], cache_dir=tmp_path)
    again = Mean()
    np.testing.assert_array_equal(baseline_features(again, dataset, [1, 0], cache_dir=tmp_path), features)
    assert (first.fits, again.fits) == (1, 0)
    others = [
        (Mean(2.0), dataset, [0, 1]),
        (Mean(), dataset, [0, 2]),
        (Mean(), built_rows(rows(seed=1)), [0, 1]),
    ]
    for baseline, data, train in others:
        assert not np.array_equal(baseline_features(baseline, data, train, cache_dir=tmp_path), features)
        assert baseline.fits == 1
    assert len(list(tmp_path.iterdir())) == 4


def test_an_unreadable_file_is_replaced(tmp_path: Path) -> None:
    dataset = built_rows(rows())
    features = baseline_features(Mean(), dataset, [0], cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"half")
    np.testing.assert_array_equal(baseline_features(Mean(), dataset, [0], cache_dir=tmp_path), features)
    assert file.stat().st_size > 4
