"""The MLP probe learns what a line cannot, reproducibly, and leaves no trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.heads.base import Head
from ecg_hf.evaluation.heads.linear import LinearProbe
from ecg_hf.evaluation.heads.mlp import MlpProbe
from ecg_hf.metrics.ranking import auroc


def rings(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels that depend on the length of the features, and on their first one."""
    x = np.random.default_rng(seed).normal(size=(n, 3)) * 50 + 1000
    z = (x - 1000) / 50
    return x, np.stack([(z**2).sum(axis=1) > 2.4, z[:, 0] > 0], axis=1)


SMALL = {"hidden": (32,), "epochs": 12, "learning_rate": 1e-2, "batch_size": 64}


def test_reads_what_a_line_cannot() -> None:
    (x, y), (x_val, y_val), (x_test, y_test) = (rings(600, s) for s in range(3))
    probe = MlpProbe(**SMALL).fit(x, y, x_val, y_val)
    assert isinstance(probe, Head)
    assert auroc(y_test, probe.decision_function(x_test)).min() > 0.95
    line = LinearProbe().fit(x, y, x_val, y_val)
    assert auroc(y_test, line.decision_function(x_test))[0] < 0.65
    assert probe.epoch == 1 + int(np.argmax(probe.validation_auroc))
    p = probe.predict_proba(x_test)
    assert ((p > 0) & (p < 1)).all()


def test_deterministic_and_without_side_effects() -> None:
    x, y = rings(200)
    torch.manual_seed(3)
    before = torch.rand(2)
    torch.manual_seed(3)
    first = MlpProbe(**SMALL).fit(x, y).decision_function(x)
    assert torch.equal(torch.rand(2), before)
    np.testing.assert_array_equal(first, MlpProbe(**SMALL).fit(x, y).decision_function(x))
    assert not np.array_equal(first, MlpProbe(**SMALL, seed=1).fit(x, y).decision_function(x))


def test_patience_stops() -> None:
    (x, y), (x_val, y_val) = rings(200), rings(200, 1)
    probe = MlpProbe(hidden=(8,), epochs=80, patience=2, learning_rate=0.3).fit(x, y, x_val, y_val)
    assert len(probe.validation_auroc) == probe.epoch + 2 < 80


def test_unknown_and_unlearnable_labels() -> None:
    x, y = rings(300)
    labels = np.concatenate([y, np.zeros((300, 1))], axis=1).astype(float)
    labels[100:, 1] = np.nan
    probe = MlpProbe(**SMALL).fit(x, labels, class_names=["a", "b", "c"])
    assert list(probe.unfitted) == ["c"]
    assert (probe.predict(x)[:, 2] == 0).all()
    assert np.isnan(probe.predict_proba(x)[:, 2]).all()
    assert auroc(y[:, 1], probe.predict(x)[:, 1])[0] > 0.9


def test_bad_use_is_a_typed_error() -> None:
    x, y = rings(50)
    for call in (
        lambda: MlpProbe(hidden=()),
        lambda: MlpProbe(dropout=1.0),
        lambda: MlpProbe().fit(x, y, x),
        lambda: MlpProbe().fit(x, y, x, y[:, :1]),
        lambda: MlpProbe().decision_function(x),
        lambda: MlpProbe(**SMALL).fit(x, y).decision_function(x[:, :2]),
        lambda: MlpProbe().fit(x, y * 0),
    ):
        with pytest.raises(ConfigurationError):
            call()
