"""The ``evaluate`` wrappers, offline and instantiated directly."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ecg_hf.hub import evaluate_metrics as hf_metrics
from ecg_hf.metrics.bootstrap import bootstrap_auroc
from ecg_hf.metrics.calibration import expected_calibration_error
from ecg_hf.metrics.delong import paired_delong
from tests.metrics.test_ranking import scored_set


def test_auroc_with_interval() -> None:
    labels, scores = scored_set(150)
    labels[:, 3] = False
    names = list("abcdefghi")
    result = hf_metrics.MacroAuroc().compute(
        predictions=scores, references=labels.astype(int), class_names=names, n_resamples=100
    )
    kept = [k for k in range(9) if k != 3]
    assert result["macro_auroc"] == pytest.approx(roc_auc_score(labels[:, kept], scores[:, kept]))
    expected = bootstrap_auroc(labels, scores, n_resamples=100)
    assert (result["ci_low"], result["ci_high"]) == (expected.macro.low, expected.macro.high)
    assert result["undefined"] == ["d"]
    assert result["positives"]["e"] == labels[:, 4].sum()


def test_batches_add_up() -> None:
    labels, scores = scored_set(60)
    metric = hf_metrics.MacroAuprc()
    for part in (slice(0, 40), slice(40, 60)):
        metric.add_batch(predictions=scores[part], references=labels[part].astype(int))
    result = metric.compute()
    assert result["macro_auprc"] == pytest.approx(average_precision_score(labels, scores))
    assert result["chance"]["class_0"] == pytest.approx(labels[:, 0].mean())


def test_without_interval() -> None:
    labels, scores = scored_set(60)
    result = hf_metrics.MacroAuroc().compute(predictions=scores, references=labels.astype(int), n_resamples=0)
    assert result["ci_low"] is None
    assert np.isfinite(result["macro_auroc"])


def test_paired_difference() -> None:
    labels, scores = scored_set(120)
    result = hf_metrics.PairedMacroAuroc().compute(
        predictions=scores, references=labels.astype(int), second=(-scores).tolist()
    )
    expected = paired_delong(labels, scores, -scores)
    assert result["difference"] == expected.macro.estimate
    assert result["p_value"] == expected.macro_p_value
    assert result["p_values"]["class_3"] == expected.p_values[3]


def test_calibration() -> None:
    labels, scores = scored_set(120)
    p = 1 / (1 + np.exp(-scores))
    result = hf_metrics.CalibrationError().compute(predictions=p, references=labels.astype(int), bins=5)
    assert list(result["error"].values()) == pytest.approx(expected_calibration_error(labels, p, bins=5))
    assert result["macro_brier"] == pytest.approx(((p - labels) ** 2).mean())


def test_regression_and_retrieval() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(40, 2))
    guess = truth + 0.1
    result = hf_metrics.RegressionError().compute(
        predictions=guess, references=truth, target_names=["qt", "pr"], n_resamples=10
    )
    assert result["qt"]["mae"] == pytest.approx(0.1)
    assert result["pr"]["spearman"] == pytest.approx(1.0)
    found = hf_metrics.ReportRetrieval().compute(
        predictions=guess, references=truth, strict=True, n_resamples=5
    )
    assert found["n"] == 40
    assert 0 <= found["ecg_to_text"]["recall_at_5"]["value"] <= 1
