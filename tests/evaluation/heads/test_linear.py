"""The probe as a protocol: scaling, choice of C, classes that cannot be learnt."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.heads.linear import DEFAULT_C_GRID, LinearProbe

from .test_logistic import correlated


def split(n: int = 600, d: int = 20, k: int = 3) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    x, y = correlated(n, d, k)
    x = x * np.linspace(0.01, 100, d) + 7.0
    return tuple((x[part], y[part]) for part in (slice(0, 200), slice(200, 400), slice(400, None)))


def test_grid_is_the_protocols() -> None:
    assert DEFAULT_C_GRID[0] == 1e-5
    assert DEFAULT_C_GRID[-1] == 10.0
    assert len(DEFAULT_C_GRID) == 13


def test_equals_a_loop_over_sklearn() -> None:
    (x, y), (x_val, y_val), (x_test, _) = split()
    grid = (1e-3, 1e-1, 10.0)
    probe = LinearProbe(c_grid=grid).fit(x, y, x_val, y_val)
    centre, scale = x.mean(axis=0), x.std(axis=0)

    def scaled(values: np.ndarray) -> np.ndarray:
        return np.clip((values - centre) / scale, -10, 10)

    quality, scores = {}, {}
    for c in grid:
        models = [
            LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit(scaled(x), y[:, k]) for k in range(3)
        ]
        columns = np.stack([m.decision_function(scaled(x_val)) for m in models], axis=1)
        quality[c] = roc_auc_score(y_val, columns)
        scores[c] = np.stack([m.decision_function(scaled(x_test)) for m in models], axis=1)
    assert probe.c == max(quality, key=lambda c: quality[c])
    for c in grid:
        assert probe.validation_auroc[c] == pytest.approx(quality[c], abs=2e-4)
    np.testing.assert_allclose(probe.decision_function(x_test), scores[probe.c], atol=0.02)


def test_scale_is_learnt_on_training_records_alone_and_clipped() -> None:
    (x, y), (x_val, y_val), (x_test, _) = split()
    probe = LinearProbe().fit(x, y, x_val, y_val)
    wild = x_test.copy()
    wild[0, 0] = 1e9
    bounded = probe.decision_function(wild)[0] - probe.decision_function(x_test)[0]
    assert (np.abs(bounded) <= 20 * np.abs(probe.coef).max()).all()
    shifted = LinearProbe().fit(x, y, x_val + 0.0, y_val)
    np.testing.assert_array_equal(shifted.coef, probe.coef)


def test_constant_feature_carries_no_weight() -> None:
    (x, y), (x_val, y_val), (x_test, _) = split()
    for part in (x, x_val):
        part[:, 3] = 4.2
    probe = LinearProbe().fit(x, y, x_val, y_val)
    before = probe.decision_function(x_test)
    x_test = x_test.copy()
    x_test[:, 3] = 1e6
    np.testing.assert_array_equal(probe.decision_function(x_test), before)


def test_classes_without_positives_are_constant_and_named() -> None:
    (x, y), (x_val, y_val), (x_test, _) = split()
    y = y.copy()
    y[:, 1] = False
    probe = LinearProbe().fit(x, y, x_val, y_val, class_names=["a", "b", "c"])
    assert list(probe.unfitted) == ["b"]
    assert "no positive record among 200" in probe.unfitted["b"]
    scores = probe.decision_function(x_test)
    assert (scores[:, 1] == 0).all()
    assert np.isnan(probe.predict_proba(x_test)[:, 1]).all()
    alone = LinearProbe().fit(x, y[:, [0, 2]], x_val, y_val[:, [0, 2]])
    np.testing.assert_allclose(scores[:, [0, 2]], alone.decision_function(x_test))
    assert probe.c == alone.c


def test_single_c_needs_no_validation_and_several_do() -> None:
    (x, y), *_ = split()
    assert LinearProbe(c_grid=(0.1,)).fit(x, y).c == 0.1
    with pytest.raises(ConfigurationError, match="validation"):
        LinearProbe().fit(x, y)


def test_edge_of_the_grid_is_said() -> None:
    (x, y), (x_val, y_val), _ = split()
    assert LinearProbe(c_grid=(1e-9, 1e-8)).fit(x, y, x_val, y_val).c_at_edge
    assert not LinearProbe(c_grid=(0.1,)).fit(x, y).c_at_edge


@pytest.mark.parametrize("problem", ["nan", "width", "labels", "constant", "validation"])
def test_typed_errors(problem: str) -> None:
    (x, y), (x_val, y_val), _ = split()
    if problem == "nan":
        x[5, 2] = np.nan
    elif problem == "width":
        x_val = x_val[:, :-1]
    elif problem == "labels":
        y = y.astype(int) * 3
    elif problem == "constant":
        y = np.zeros_like(y)
    else:
        y_val = np.zeros_like(y_val)
    with pytest.raises(ConfigurationError):
        LinearProbe().fit(x, y, x_val, y_val)


def test_unfitted_probe_refuses() -> None:
    with pytest.raises(ConfigurationError, match="not been fitted"):
        LinearProbe().decision_function(np.zeros((1, 2)))


@pytest.mark.slow
def test_ptbxl_sized_probe_takes_seconds() -> None:
    x, y = correlated(17_084, 768, 5)
    start = time.process_time()
    for n in (170, 1708, 17_084):
        LinearProbe().fit(x[:n].astype(np.float32), y[:n], x[:2000], y[:2000])
    assert time.process_time() - start < 30
