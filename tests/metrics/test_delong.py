"""Components against their definition, the variance against resampling, the test against its level."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from ecg_hf.errors import ConfigurationError
from ecg_hf.metrics.bootstrap import bootstrap_auroc, paired_bootstrap
from ecg_hf.metrics.delong import (
    auroc_influence,
    delong_auroc,
    delong_interval,
    hanley_mcneil_variance,
    paired_delong,
)
from ecg_hf.metrics.ranking import auroc
from tests.metrics.test_ranking import scored_set


def naive(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """AUROC of ``first``, its variance, and its covariance with ``second``: DeLong's formulae, pair by pair."""

    def components(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        kernel = np.array(
            [[(p > q) + 0.5 * (p == q) for q in scores[~labels]] for p in scores[labels]], dtype=float
        )
        return kernel.mean(axis=1), kernel.mean(axis=0), kernel.mean()

    (v10, v01, area), (w10, w01, other) = components(first), components(second)
    m, n = labels.sum(), (~labels).sum()

    def covariance(a10: np.ndarray, a01: np.ndarray, a: float) -> float:
        s10 = ((v10 - area) * (a10 - a)).sum() / (m - 1)
        s01 = ((v01 - area) * (a01 - a)).sum() / (n - 1)
        return float(s10 / m + s01 / n)

    return float(area), covariance(v10, v01, area), covariance(w10, w01, other)


def test_equals_the_definition_with_ties() -> None:
    labels, scores = scored_set(90)
    labels[2], labels[3] = True, False
    other = np.roll(scores, 1, axis=0).round(1) + labels
    result = delong_auroc(labels, scores)
    _, influence = auroc_influence(labels, scores)
    _, of_other = auroc_influence(labels, other)
    for k in range(labels.shape[1]):
        area, variance, covariance = naive(labels[:, k], scores[:, k], other[:, k])
        assert result.classes[k].estimate == pytest.approx(area, abs=1e-12)
        assert result.covariance[k, k] == pytest.approx(variance, abs=1e-12)
        assert influence[:, k] @ of_other[:, k] == pytest.approx(covariance, abs=1e-12)
    test = paired_delong(labels, scores, other)
    for k in range(labels.shape[1]):
        a, va, covariance = naive(labels[:, k], scores[:, k], other[:, k])
        b, vb, _ = naive(labels[:, k], other[:, k], scores[:, k])
        z = (a - b) / np.sqrt(va + vb - 2 * covariance)
        assert test.p_values[k] == pytest.approx(2 * norm.sf(abs(z)), abs=1e-10)
        assert test.differences[k].estimate == pytest.approx(a - b, abs=1e-12)


def test_macro_is_the_mean_with_covariances() -> None:
    labels, scores = scored_set(200)
    labels[2], labels[3] = True, False
    result = delong_auroc(labels, scores)
    assert result.macro.estimate == pytest.approx(auroc(labels, scores).mean())
    assert result.macro_standard_error**2 == pytest.approx(result.covariance.mean())
    assert (np.linalg.eigvalsh(result.covariance) > -1e-15).all()
    include = np.arange(9) < 4
    part = delong_auroc(labels, scores, include=include)
    assert part.macro.estimate == pytest.approx(auroc(labels, scores)[:4].mean())
    assert part.macro_standard_error**2 == pytest.approx(result.covariance[:4, :4].mean())


@pytest.mark.parametrize("records_per_patient", [1, 3])
def test_standard_errors_agree_with_the_bootstrap(records_per_patient: int) -> None:
    rng = np.random.default_rng(4)
    patients = np.repeat(np.arange(1500 // records_per_patient), records_per_patient)
    units = patients[-1] + 1
    # Labels that exclude and that accompany each other: covariances between classes of both signs.
    labels = (rng.random((units, 1)) < (0.2, 0.25, 0.5, 0.9))[patients]
    labels[:, 2] ^= labels[:, 0]
    noise = 0.7 * rng.normal(size=(units, 4))[patients] + 0.7 * rng.normal(size=labels.shape)
    first = noise + labels
    second = noise + 0.7 * rng.normal(size=labels.shape) + labels
    groups = patients if records_per_patient > 1 else None
    one = delong_auroc(labels, first, groups=groups)
    samples = bootstrap_auroc(labels, first, groups=groups, n_resamples=2000).samples
    assert one.macro_standard_error == pytest.approx(samples.std(), rel=0.06)
    pair = paired_delong(labels, first, second, groups=groups)
    resampled = paired_bootstrap(labels, first, second, groups=groups, n_resamples=2000)
    width = resampled.difference.high - resampled.difference.low
    assert pair.macro_standard_error == pytest.approx(width / (2 * 1.96), rel=0.07)
    assert pair.macro.estimate == pytest.approx(resampled.difference.estimate)
    if groups is not None:
        assert one.macro_standard_error > 1.2 * delong_auroc(labels, first).macro_standard_error


def test_copies_of_a_patient_add_nothing() -> None:
    labels, scores = scored_set(150)
    tripled = delong_auroc(
        np.repeat(labels, 3, axis=0), np.repeat(scores, 3, axis=0), groups=np.repeat(np.arange(150), 3)
    )
    np.testing.assert_allclose(tripled.covariance, delong_auroc(labels, scores).covariance, atol=1e-14)
    assert tripled.unit == "patients"


def test_unknown_labels_are_left_out_of_their_class_alone() -> None:
    labels, scores = scored_set(200)
    given = labels.astype(float)
    given[100:, 4] = np.nan
    result = delong_auroc(given, scores)
    half, whole = delong_auroc(labels[:100], scores[:100]), delong_auroc(labels, scores)
    assert result.classes[4] == half.classes[4]
    assert result.classes[5] == whole.classes[5]


def test_classes_without_a_variance_take_no_part() -> None:
    labels, scores = scored_set(100)
    labels[:, 1] = False
    labels[:, 2] = np.arange(100) == 7
    result = delong_auroc(labels, scores)
    assert np.isnan(result.classes[1].estimate)
    assert np.isfinite(result.classes[2].estimate)
    assert np.isnan(result.classes[2].low)
    assert not result.included[[1, 2]].any()
    kept = [0, 3, 4, 5, 6, 7, 8]
    assert result.macro == delong_auroc(labels[:, kept], scores[:, kept]).macro
    test = paired_delong(labels, scores, -scores)
    assert np.isnan(test.p_values[[1, 2]]).all()
    nothing = delong_auroc(np.zeros((5, 1)), np.zeros((5, 1)))
    assert np.isnan(nothing.macro.estimate)


def test_floor_is_hanley_and_mcneils_variance() -> None:
    # At chance it is the null variance of the Mann-Whitney statistic.
    assert hanley_mcneil_variance(0.5, 7, 30) == pytest.approx((7 + 30 + 1) / (12 * 7 * 30))
    assert hanley_mcneil_variance(0.3, 7, 30) == hanley_mcneil_variance(0.5, 7, 30)
    labels, scores = scored_set(120)
    labels[:, 1] = np.arange(120) == 5
    labels[:, 2] = False
    plain, floored = delong_auroc(labels, scores), delong_auroc(labels, scores, floor=True)
    positives = labels.sum(axis=0)
    for k in (0, 1, 3, 4, 5, 6, 7, 8):
        least = hanley_mcneil_variance(plain.classes[k].estimate, positives[k], 120 - positives[k])
        own = np.nan_to_num(plain.covariance[k, k])
        rare = min(positives[k], 120 - positives[k]) < 10
        assert floored.covariance[k, k] == pytest.approx(max(own, least) if rare else own)
    assert floored.covariance[3, 7] == plain.covariance[3, 7]
    assert floored.included.tolist() == [True, True, False, *[True] * 6]
    assert floored.macro_standard_error**2 == pytest.approx(
        floored.covariance[np.ix_(floored.included, floored.included)].mean()
    )
    patients = np.repeat(np.arange(120), 2)
    doubled = delong_auroc(
        np.repeat(labels, 2, axis=0), np.repeat(scores, 2, axis=0), groups=patients, floor=True
    )
    np.testing.assert_allclose(doubled.covariance, floored.covariance, atol=1e-14)
    through = bootstrap_auroc(labels, scores, n_resamples=5, method="floored")
    assert through.macro == floored.macro
    without = bootstrap_auroc(labels, scores, n_resamples=5, method="floored", include=np.arange(9) != 4)
    assert np.isnan(without.classes[4].estimate)
    with pytest.raises(ConfigurationError, match="method"):
        bootstrap_auroc(labels, scores, method="basic")  # type: ignore[arg-type]


def test_equal_models_do_not_differ() -> None:
    labels, scores = scored_set(80)
    same = paired_delong(labels, scores, 3.0 * scores + 1.0)
    assert same.macro_p_value == 1.0
    assert (same.p_values[np.isfinite(same.p_values)] == 1.0).all()
    assert same.macro.low == same.macro.high == 0.0


def test_interval_scales() -> None:
    on_logit = delong_interval(0.98, 0.02)
    assert 0.98 - on_logit.low > on_logit.high - 0.98 > 0
    assert on_logit.high < 1 < delong_interval(0.98, 0.02, transform="none").high
    assert delong_interval(0.8, 0.01, level=0.9).low > delong_interval(0.8, 0.01).low
    assert delong_interval(1.0, 0.0).limits == [1.0, 1.0]


@pytest.mark.parametrize("options", [{"level": 1.0}, {"include": [True]}, {"groups": ["a"]}], ids=str)
def test_bad_options_are_typed_errors(options: dict[str, object]) -> None:
    labels, scores = scored_set(40)
    with pytest.raises(ConfigurationError):
        paired_delong(labels, scores, scores, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        delong_interval(0.5, 0.1, transform="log")  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_test_keeps_its_level() -> None:
    rng = np.random.default_rng(2)
    rejected = 0
    for _ in range(1000):
        labels = rng.random((300, 3)) < (0.15, 0.3, 0.5)
        common = rng.normal(size=labels.shape) + 1.2 * labels
        first, second = (common + 0.6 * rng.normal(size=labels.shape) for _ in range(2))
        rejected += paired_delong(labels, first, second).macro_p_value < 0.05
    # Standard error of the rate: 0.007.
    assert 0.03 <= rejected / 1000 <= 0.075


@pytest.mark.slow
@pytest.mark.parametrize("rare", [False, True])
def test_floored_interval_covers_where_classes_are_rare_and_where_they_are_not(rare: bool) -> None:
    rng = np.random.default_rng(11)
    share = np.array([2, 4, 2, 40, 3, 150]) / 1000 if rare else np.array([0.15, 0.3, 0.5])
    n, shift = (1000, 1.8) if rare else (300, 1.2)
    truth, hits, short = norm.cdf(shift / np.sqrt(2.0)), 0, 0
    for _ in range(400):
        labels = rng.random((n, len(share))) < share
        scores = rng.normal(size=labels.shape) + shift * labels
        floored, plain = (delong_auroc(labels, scores, floor=floor).macro for floor in (True, False))
        hits += floored.low <= truth <= floored.high
        short += plain.low <= truth <= plain.high
    # Standard error of a rate of 0.95: 0.011.
    assert 0.92 <= hits / 400 <= 1.0
    if rare:
        assert short / 400 < 0.9, "the floor would not be needed"
