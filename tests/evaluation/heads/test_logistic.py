"""The joint solver reaches scikit-learn's optimum."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.heads.linear import LogisticPath, logistic_loss


def correlated(n: int, d: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Strongly correlated features, like an encoder's, and labels from rare to common."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 10))
    x = hidden @ rng.normal(size=(10, d)) + 0.1 * rng.normal(size=(n, d))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    logits = hidden @ rng.normal(size=(10, k)) + rng.normal(size=(n, k)) - np.linspace(0, 3, k)
    return x, logits > 0


@pytest.mark.parametrize(("n", "d"), [(400, 30), (60, 90)], ids=["tall", "wide"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_optimum_equals_sklearn(n: int, d: int, dtype: type) -> None:
    x, y = correlated(n, d, 4)
    x = x.astype(dtype)
    solutions = list(LogisticPath(x, y).solve([10.0, 1e-4, 0.1]))
    assert [s.c for s in solutions] == [1e-4, 0.1, 10.0]
    for solution in solutions:
        assert solution.converged
        ours = logistic_loss(x, y, solution.coef, solution.intercept, solution.c)
        np.testing.assert_allclose(ours, solution.loss, rtol=1e-4)
        for k in range(4):
            reference = LogisticRegression(C=solution.c, tol=1e-9, max_iter=50_000).fit(
                x.astype(float), y[:, k]
            )
            theirs = logistic_loss(x, y[:, [k]], reference.coef_, reference.intercept_, solution.c)[0]
            assert ours[k] == pytest.approx(theirs, rel=1e-4)
            if solution.c < 1:
                margins = x @ solution.coef[k] + solution.intercept[k]
                np.testing.assert_allclose(margins, reference.decision_function(x), atol=0.02)


def test_warm_start_changes_the_cost_not_the_optimum() -> None:
    x, y = correlated(300, 40, 3)
    *_, warm = LogisticPath(x, y).solve(np.geomspace(1e-4, 1.0, 8))
    (cold,) = LogisticPath(x, y).solve([1.0])
    np.testing.assert_allclose(warm.loss, cold.loss, rtol=1e-5)


def test_duplicate_and_constant_columns_do_no_harm() -> None:
    x, y = correlated(200, 12, 2)
    doubled = np.concatenate([x, x, np.zeros((200, 1))], axis=1)
    (solution,) = LogisticPath(doubled, y).solve([1.0])
    np.testing.assert_allclose(solution.coef[:, :12], solution.coef[:, 12:24], atol=1e-5)
    np.testing.assert_allclose(solution.coef[:, 24], 0.0, atol=1e-9)


def test_separable_labels_converge() -> None:
    x, _ = correlated(80, 100, 1)
    y = x[:, :1] > 0
    (solution,) = LogisticPath(x, y).solve([10.0])
    assert solution.converged
    assert ((x @ solution.coef.T + solution.intercept > 0) == y).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [(np.zeros((10, 1)), "positive and a negative"), (np.ones((9, 1)), "need")],
)
def test_bad_input(labels: np.ndarray, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        LogisticPath(np.random.default_rng(0).normal(size=(10, 3)), labels)


def test_bad_c() -> None:
    x, y = correlated(30, 3, 1)
    with pytest.raises(ConfigurationError, match="positive"):
        list(LogisticPath(x, y).solve([0.0, 1.0]))
