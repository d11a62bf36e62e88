"""The weighted formulation equals resampling by hand; intervals cover at their nominal rate."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from ecg_hf.errors import ConfigurationError
from ecg_hf.metrics.bootstrap import (
    bootstrap_auroc,
    paired_bootstrap,
    resample_counts,
    two_sided_p,
    weighted_auroc,
)
from tests.metrics.test_ranking import scored_set


def test_weighted_auroc_is_the_auroc_of_the_repeated_records() -> None:
    labels, scores = scored_set(120)
    counts = np.concatenate(list(resample_counts(120, n_resamples=40, seed=3, block=16)), axis=1)
    assert counts.shape == (120, 40)
    areas = weighted_auroc(labels, scores, counts)
    undefined = 0
    for b in range(40):
        rows = np.repeat(np.arange(120), counts[:, b].astype(int))
        for k in range(labels.shape[1]):
            if 0 < labels[rows, k].sum() < len(rows):
                assert areas[b, k] == pytest.approx(roc_auc_score(labels[rows, k], scores[rows, k]), abs=1e-9)
            else:
                undefined += 1
                assert np.isnan(areas[b, k])
    assert undefined > 0, "the rarest class should be missing from some resamples"


def test_macro_leaves_out_the_class_a_resample_lacks() -> None:
    labels, scores = scored_set(60)
    result = bootstrap_auroc(labels, scores, n_resamples=50, seed=1, method="percentile")
    counts = np.concatenate(list(resample_counts(60, n_resamples=50, seed=1)), axis=1)
    by_hand = np.nanmean(weighted_auroc(labels, scores, counts), axis=1)
    np.testing.assert_allclose(result.samples, by_hand, atol=1e-12)
    assert result.defined_share[0] < 1.0
    assert result.macro.low == pytest.approx(np.quantile(by_hand, 0.025))
    assert result.macro.high == pytest.approx(np.quantile(by_hand, 0.975))


def test_counts_draw_every_unit_as_often_as_there_are_units() -> None:
    counts = next(resample_counts(50, n_resamples=10))
    assert (counts.sum(axis=0) == 50).all()
    patients = ["a"] * 20 + ["b"] * 20 + ["c"] * 10
    grouped = next(resample_counts(50, n_resamples=30, groups=patients))
    for block in (grouped[:20], grouped[20:40], grouped[40:]):
        assert (block == block[0]).all(), "a patient's records come together"
    assert (grouped[[0, 20, 40]].sum(axis=0) == 3).all()


def test_records_without_a_patient_are_their_own_unit() -> None:
    result = bootstrap_auroc(
        *scored_set(8), groups=["a", "a", None, None, "", "", float("nan"), "b"], n_resamples=5
    )
    assert result.n_units == 7
    assert result.unit == "patients"


def test_patient_interval_is_wider_when_records_repeat() -> None:
    labels, scores = scored_set(150)
    tripled = np.repeat(labels, 3, axis=0), np.repeat(scores, 3, axis=0)
    patients = np.repeat(np.arange(150), 3)
    by_record = bootstrap_auroc(*tripled, n_resamples=300)
    by_patient = bootstrap_auroc(*tripled, groups=patients, n_resamples=300)
    once = bootstrap_auroc(labels, scores, n_resamples=300)
    width = [r.macro.high - r.macro.low for r in (by_record, by_patient, once)]
    assert width[0] < 0.75 * width[1]
    # Three copies of each record, drawn by patient, are the original test set drawn by record: but for the order in
    # which a BLAS kernel adds.
    for name in ("estimate", "low", "high"):
        assert getattr(by_patient.macro, name) == pytest.approx(getattr(once.macro, name), rel=1e-12)


def test_deterministic_by_seed() -> None:
    labels, scores = scored_set(80)
    assert (
        bootstrap_auroc(labels, scores, n_resamples=30).macro
        == bootstrap_auroc(labels, scores, n_resamples=30).macro
    )
    first, second = (
        bootstrap_auroc(labels, scores, n_resamples=30, seed=seed, method="percentile") for seed in (0, 1)
    )
    assert first.macro.low != second.macro.low


def test_paired_uses_the_same_resamples() -> None:
    labels, scores = scored_set(300)
    worse = scores + np.random.default_rng(5).normal(size=scores.shape) * 1.5
    pair = paired_bootstrap(labels, scores, worse, n_resamples=400, method="percentile")
    alone = [bootstrap_auroc(labels, s, n_resamples=400) for s in (scores, worse)]
    assert pair.difference.estimate == pytest.approx(alone[0].macro.estimate - alone[1].macro.estimate)
    np.testing.assert_allclose(
        pair.difference.limits, np.quantile(alone[0].samples - alone[1].samples, [0.025, 0.975])
    )
    assert pair.difference.low > 0
    assert pair.p_value == pytest.approx(2 / 401)
    same = paired_bootstrap(labels, scores, scores, n_resamples=50)
    assert same.difference.limits == [0.0, 0.0]
    assert same.p_value == 1.0
    flipped = paired_bootstrap(labels, worse, scores, n_resamples=400, method="percentile")
    assert flipped.difference.low == -pair.difference.high


def test_excluded_and_undefined_classes_take_no_part() -> None:
    labels, scores = scored_set(200)
    labels[:, 1] = False
    include = np.arange(9) != 7
    result = bootstrap_auroc(labels, scores, include=include, n_resamples=60)
    kept = [k for k in range(9) if k not in (1, 7)]
    alone = bootstrap_auroc(labels[:, kept], scores[:, kept], n_resamples=60)
    np.testing.assert_allclose(result.samples, alone.samples, atol=1e-12)
    assert result.macro.estimate == pytest.approx(alone.macro.estimate)
    assert np.isnan(result.classes[7].estimate)
    assert np.isnan(result.classes[1].low)


@pytest.mark.parametrize(
    "options", [{"level": 1.0}, {"n_resamples": 0}, {"groups": ["a"]}, {"include": [True]}], ids=str
)
def test_bad_options_are_typed_errors(options: dict[str, object]) -> None:
    labels, scores = scored_set(40)
    with pytest.raises(ConfigurationError):
        bootstrap_auroc(labels, scores, **options)  # type: ignore[arg-type]


def test_a_full_benchmark_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((2198, 71)) < np.geomspace(0.002, 0.5, 71)
    scores = rng.normal(size=labels.shape)
    start = time.process_time()
    bootstrap_auroc(labels, scores, n_resamples=1000)
    assert time.process_time() - start < 5.0


def coverage(repeats: int, n: int, records_per_patient: int) -> float:
    """Share of simulated test sets whose interval holds the true AUROC of two shifted normals."""
    rng = np.random.default_rng(11)
    shift, patient_sd = np.array([0.8, 1.2, 1.6]), 0.7
    truth = norm.cdf(shift / np.sqrt(2.0)).mean()
    hits = 0
    for repeat in range(repeats):
        patients = np.repeat(np.arange(n // records_per_patient), records_per_patient)
        n_patients = patients[-1] + 1
        # Label and part of the noise belong to the patient: records of one patient are alike.
        labels = (rng.random((n_patients, 3)) < (0.15, 0.3, 0.5))[patients]
        shared = rng.normal(size=(n_patients, 3))[patients] * patient_sd
        own = rng.normal(size=labels.shape) * np.sqrt(1 - patient_sd**2)
        groups = patients if records_per_patient > 1 else None
        result = bootstrap_auroc(
            labels, shared + own + labels * shift, groups=groups, n_resamples=400, seed=repeat
        )
        hits += result.macro.low <= truth <= result.macro.high
    return hits / repeats


def rare_set(rng: np.random.Generator, shift: float = 1.8) -> tuple[np.ndarray, np.ndarray]:
    """1,000 records, four of six classes with 2 to 5 positives or so."""
    labels = rng.random((1000, 6)) < np.array([2, 4, 2, 40, 3, 150]) / 1000
    return labels, rng.normal(size=labels.shape) + shift * labels


@pytest.mark.slow
def test_intervals_cover_where_classes_are_rare_and_percentiles_do_not() -> None:
    rng = np.random.default_rng(3)
    truth, repeats = norm.cdf(1.8 / np.sqrt(2.0)), 200
    hits, short, by_class, known = 0, 0, 0, 0
    for repeat in range(repeats):
        labels, scores = rare_set(rng)
        found, plain = (
            bootstrap_auroc(labels, scores, n_resamples=200, seed=repeat, method=method)
            for method in ("auto", "percentile")
        )
        hits += found.macro.low <= truth <= found.macro.high
        short += plain.macro.low <= truth <= plain.macro.high
        rare = [one for one, few in zip(found.classes, labels.sum(axis=0) < 10, strict=True) if few]
        by_class += sum(one.low <= truth <= one.high for one in rare)
        known += sum(np.isfinite(one.estimate) for one in rare)
    # Standard error of a rate of 0.95 in 200: 0.015.
    assert hits / repeats >= 0.93
    assert by_class / known >= 0.95
    assert short / repeats < 0.91, "percentiles would do"


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0.3, 0.95])
def test_differences_cover_where_classes_are_rare(shared: float) -> None:
    rng = np.random.default_rng(4)
    truth, repeats = norm.cdf(1.8 / np.sqrt(2.0)) - norm.cdf(1.5 / np.sqrt(2.0)), 200
    hits, short = 0, 0
    for _ in range(repeats):
        labels, common = rare_set(rng, shift=0.0)
        first, second = (
            np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(size=common.shape) + shift * labels
            for shift in (1.8, 1.5)
        )
        found, plain = (
            paired_bootstrap(labels, first, second, n_resamples=200, method=method)
            for method in ("auto", "percentile")
        )
        hits += found.difference.low <= truth <= found.difference.high
        short += plain.difference.low <= truth <= plain.difference.high
    assert hits / repeats >= 0.93
    assert short / repeats < 0.93, "percentiles would do"


def test_what_made_the_limits_is_said_class_by_class() -> None:
    labels, scores = rare_set(np.random.default_rng(0))
    labels[:, 0] = np.arange(1000) < 3
    scores[:3, 0] = 9.0
    found = bootstrap_auroc(labels, scores, n_resamples=50)
    few = labels.sum(axis=0) < 10
    assert found.method == "floored"
    assert found.class_methods == tuple("floored" if one else "percentile" for one in few)
    assert found.classes[0].estimate == found.classes[0].high == 1.0
    assert found.classes[0].low < 0.8, "three positives do not make a class perfect"
    common = bootstrap_auroc(labels, scores, n_resamples=50, include=~few)
    assert common.method == "percentile"
    assert paired_bootstrap(labels, scores, -scores, n_resamples=20, include=~few).method == "percentile"
    pair = paired_bootstrap(labels, scores, scores, n_resamples=20)
    assert (pair.method, pair.p_value, pair.difference.limits) == ("floored", 1.0, [0.0, 0.0])
    # Every record three times, patients drawn: no more positives than before.
    tripled = bootstrap_auroc(
        np.repeat(labels, 3, axis=0),
        np.repeat(scores, 3, axis=0),
        groups=np.repeat(np.arange(1000), 3),
        n_resamples=5,
    )
    assert tripled.class_methods == found.class_methods


def test_p_values_do_not_hang_on_rounding() -> None:
    assert two_sided_p(np.full(99, 1e-17)) == two_sided_p(np.zeros(99)) == 1.0
    assert two_sided_p(np.full(99, 1e-6)) == pytest.approx(0.02)
    assert np.isnan(two_sided_p(np.full(5, np.nan)))


@pytest.mark.slow
@pytest.mark.parametrize("records_per_patient", [1, 3])
def test_interval_covers_at_its_nominal_rate(records_per_patient: int) -> None:
    # 400 repeats: the standard error of a rate of 0.95 is 0.011, three of them either side; the percentile
    # bootstrap itself runs slightly short on 300 records.
    assert 0.91 <= coverage(400, 300, records_per_patient) <= 0.985
