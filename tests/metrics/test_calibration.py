"""Calibration figures against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from ecg_hf.errors import ConfigurationError
from ecg_hf.metrics.calibration import (
    assess_calibration,
    brier_score,
    expected_calibration_error,
    log_loss,
    reliability,
)


def predicted(n: int = 4000, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the log-odds they come with."""
    rng = np.random.default_rng(seed)
    logits = 2.0 * rng.normal(size=(n, k)) - np.arange(k)
    return rng.random((n, k)) < expit(logits), logits


def test_equal_to_sklearn() -> None:
    labels, logits = predicted()
    p = expit(1.7 * logits)
    for k in range(3):
        assert brier_score(labels, p)[k] == pytest.approx(brier_score_loss(labels[:, k], p[:, k]), abs=1e-9)
        assert log_loss(labels, logits)[k] == pytest.approx(
            sklearn_log_loss(labels[:, k], expit(logits[:, k])), abs=1e-9
        )
        observed, mean = calibration_curve(labels[:, k], p[:, k], n_bins=15)
        ours = reliability(labels[:, k], p[:, k])
        filled = ours.count > 0
        np.testing.assert_allclose(ours.observed[filled], observed, atol=1e-9)
        np.testing.assert_allclose(ours.predicted[filled], mean, atol=1e-9)


def test_expected_error_by_hand() -> None:
    p, y = np.array([0.0, 0.1, 0.6, 0.9, 1.0, 0.5]), np.array([0, 1, 1, 1, 1, 0])
    # (0, .5]: mean .2, observed 1/3; (.5, 1]: mean 2.5/3, observed 1.
    expected = 0.5 * abs(0.2 - 1 / 3) + 0.5 * abs(2.5 / 3 - 1)
    assert expected_calibration_error(y, p, bins=2)[0] == pytest.approx(expected)
    assert reliability(y, p, bins=2).largest_error == pytest.approx(1 - 2.5 / 3)


def test_bins_of_equal_mass_keep_ties_together() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(1000) ** 4
    table = reliability(rng.random(1000) < p, p, bins=10, binning="mass")
    assert table.count.sum() == 1000
    assert table.count.min() >= 99
    tied = reliability(rng.random(1000) < 0.5, np.repeat([0.2, 0.5], [900, 100]), bins=10, binning="mass")
    assert sorted(tied.count[tied.count > 0]) == [100, 900]


def test_calibrated_predictions_have_little_error_and_overconfident_ones_more() -> None:
    labels, logits = predicted(20_000)
    good, bad = assess_calibration(labels, expit(logits)), assess_calibration(labels, expit(3 * logits))
    assert good.macro_error < 0.015 < 0.05 < bad.macro_error
    assert good.micro_brier < bad.micro_brier
    rows = good.table()
    assert [row["name"] for row in rows] == ["class_0", "class_1", "class_2", "micro"]
    assert rows[-1]["n"] == 60_000
    assert good.macro_brier == pytest.approx(good.brier.mean())


def test_unknown_labels_do_not_count() -> None:
    labels, logits = predicted(500)
    given = labels.astype(float)
    given[200:, 1] = np.nan
    given[:, 2] = np.nan
    p = expit(logits)
    result = assess_calibration(given, p)
    assert result.brier[1] == pytest.approx(brier_score(labels[:200], p[:200])[1])
    assert np.isnan(result.brier[2])
    assert np.isnan(result.error[2])
    assert result.macro_error == pytest.approx(np.mean(result.error[:2]))
    assert result.micro.count.sum() == 700


def test_bad_input_is_a_typed_error() -> None:
    labels, logits = predicted(10)
    with pytest.raises(ConfigurationError, match="sigmoid"):
        brier_score(labels, logits)
    with pytest.raises(ConfigurationError):
        reliability(labels, expit(logits), bins=0)
    with pytest.raises(ConfigurationError):
        assess_calibration(labels, expit(logits), ["a"])
