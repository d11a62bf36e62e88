"""Ridge against scikit-learn, scores against SciPy, intervals against resampling by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.heads.ridge import RegressionHead, score_regression, spearman
from ecg_hf.metrics.bootstrap import resample_counts


def measured(n: int = 300, d: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * np.linspace(0.1, 10, d) + 3
    w = np.random.default_rng(9).normal(size=(d, 2)) / np.linspace(0.1, 10, d)[:, None]
    return x, x @ w * [40, 0.1] + rng.normal(size=(n, 2)) * [40, 0.1] + [400, 1]


@pytest.mark.parametrize("shape", [(300, 10), (30, 60)], ids=["tall", "wide"])
def test_equals_sklearn(shape: tuple[int, int]) -> None:
    x, y = measured(*shape)
    head = RegressionHead(alphas=(7.0,)).fit(x, y)
    z = (x - x.mean(0)) / x.std(0)
    reference = Ridge(alpha=7.0).fit(z, (y - y.mean(0)) / y.std(0))
    np.testing.assert_allclose(head.predict(x), reference.predict(z) * y.std(0) + y.mean(0), rtol=1e-8)


def test_penalty_is_chosen_per_target_on_validation() -> None:
    (x, y), (x_val, y_val) = measured(40, 30), measured(200, 30, 1)
    grid = (0.1, 10.0, 1000.0)
    head = RegressionHead(alphas=grid).fit(x, y, x_val, y_val, class_names=["rr", "qt"])
    for k, name in enumerate(("rr", "qt")):
        errors = {}
        for alpha in grid:
            single = RegressionHead(alphas=(alpha,)).fit(x, y)
            errors[alpha] = np.abs(single.predict(x_val) - y_val)[:, k].mean() / y[:, k].std()
        assert head.alpha[name] == min(errors, key=lambda a: errors[a])
        assert head.validation_error[name] == pytest.approx(errors)


def test_unknown_targets_are_left_out_of_their_own_fit() -> None:
    x, y = measured()
    given = np.concatenate([y, np.full((300, 1), 5.0)], axis=1)
    given[200:, 1] = np.nan
    head = RegressionHead(alphas=(1.0,)).fit(x, given, class_names=["a", "b", "c"])
    assert list(head.unfitted) == ["c"]
    assert np.isnan(head.predict(x)[:, 2]).all()
    np.testing.assert_allclose(
        head.predict(x)[:, 0], RegressionHead(alphas=(1.0,)).fit(x, y).predict(x)[:, 0]
    )
    z = (x - x.mean(0)) / x.std(0)
    part = Ridge(alpha=1.0).fit(z[:200], (y[:200, 1] - y[:200, 1].mean()) / y[:200, 1].std())
    expected = part.predict(z) * y[:200, 1].std() + y[:200, 1].mean()
    np.testing.assert_allclose(head.predict(x)[:, 1], expected, rtol=1e-8)


def test_scores_equal_scipy_and_intervals_resampling() -> None:
    x, y = measured(80)
    p = RegressionHead(alphas=(1.0,)).fit(x, y).predict(x).round(1)
    y[5, 0] = np.nan
    groups = np.arange(80) // 2
    scores = score_regression(y, p, [2.0, 0.5], ["a", "b"], groups=groups, n_resamples=30, seed=2)
    rows = np.arange(80) != 5
    assert scores[0].n == 79
    assert scores[0].mae.estimate == pytest.approx(np.abs(y - p)[rows, 0].mean())
    assert scores[0].z_mae.estimate == pytest.approx(scores[0].mae.estimate / 2)
    assert scores[0].spearman.estimate == pytest.approx(spearmanr(y[rows, 0], p[rows, 0]).statistic, abs=1e-9)
    counts = np.concatenate(list(resample_counts(80, n_resamples=30, seed=2, groups=groups)), axis=1)
    errors, correlations = [], []
    for column in counts.T.astype(int):
        drawn = np.repeat(np.arange(80), column)
        errors.append(np.abs(y - p)[drawn, 1].mean())
        correlations.append(spearmanr(y[drawn, 1], p[drawn, 1]).statistic)
    assert scores[1].mae.limits == pytest.approx(list(np.quantile(errors, [0.025, 0.975])))
    assert scores[1].spearman.limits == pytest.approx(list(np.quantile(correlations, [0.025, 0.975])))


def test_constant_predictions_have_no_correlation() -> None:
    assert np.isnan(spearman([1, 2, 3], [4, 4, 4]))
    assert spearman([1, 2, 3], [2, 4, 9]) == pytest.approx(1.0)


def test_bad_use_is_a_typed_error() -> None:
    x, y = measured(20)
    for call in (
        lambda: RegressionHead().fit(x, y),
        lambda: RegressionHead(alphas=(0.0,)).fit(x, y),
        lambda: RegressionHead().fit(x, y, x, y[:, :1]),
        lambda: RegressionHead().fit(x, y, x, y * np.nan),
        lambda: RegressionHead(alphas=(1.0,)).fit(x, y * 0),
        lambda: RegressionHead().predict(x),
        lambda: score_regression(y, y[:, :1], [1, 1]),
    ):
        with pytest.raises(ConfigurationError):
            call()
