"""Hand-made features: what they measure, what they do without, and their place behind the interface."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.evaluation.baselines import describe_features, feature_names, get_baseline
from ecg_hf.evaluation.baselines.handmade import HandmadeFeatures
from ecg_hf.signal.beats.measures import handmade_features
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.resampling import resample
from ecg_hf.signal.synthetic import simulate
from tests.evaluation.built import built_rows

NAMES = feature_names()
COLUMN = {name: column for column, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def batch():
    return simulate(24, seed=3, sampling_rate=100.0)


@pytest.fixture(scope="module")
def measured(batch) -> np.ndarray:
    return np.stack([handmade_features(x, 100.0, STANDARD_LEADS) for x in batch.signal])


def test_names_and_descriptions() -> None:
    assert len(NAMES) == len(set(NAMES)) == 359
    assert feature_names(demographics=True) == (*NAMES, "age_years", "is_female")
    assert all(describe_features(demographics=True).values())
    assert {"rate_bpm", "V2_st_80_mv", "aVL_log_noise", "qrs_ms", "qrs_axis_cos"} <= set(NAMES)


def test_rate_interval_and_axis_of_simulated_hearts(batch, measured) -> None:
    facts = batch.measurements
    rate = np.array([f.heart_rate_bpm for f in facts])
    # The mean rate: the median interval is another thing in an irregular rhythm.
    assert np.median(np.abs(60e3 / measured[:, COLUMN["rr_mean_ms"]] - rate)) < 2.0
    qrs = np.array([f.qrs_ms for f in facts])
    assert np.median(np.abs(measured[:, COLUMN["qrs_ms"]] - qrs)) < 25.0
    angle = np.degrees(np.arctan2(measured[:, COLUMN["qrs_axis_sin"]], measured[:, COLUMN["qrs_axis_cos"]]))
    off = (angle - np.array([f.axis_deg for f in facts]) + 180.0) % 360.0 - 180.0
    assert np.median(np.abs(off)) < 15.0


def test_gain_scales_millivolts_and_nothing_else(batch, measured) -> None:
    doubled = handmade_features(2.0 * batch.signal[0], 100.0, STANDARD_LEADS)
    linear = np.array(
        [name.endswith(("_mv", "_area_mv_ms", "_product_mv_ms", "_mv_per_s")) for name in NAMES]
    )
    np.testing.assert_allclose(doubled[linear], 2.0 * measured[0, linear], rtol=1e-3, atol=1e-4)
    free = np.array(
        [n.startswith(("rr_", "rate_")) or n in ("qrs_ms", "qt_ms", "pr_ms", "qrs_axis_cos") for n in NAMES]
    )
    np.testing.assert_allclose(doubled[free], measured[0, free], rtol=1e-3, atol=1e-3)


def test_the_sampling_rate_does_not_matter(batch, measured) -> None:
    for rate in (257.0, 500.0):
        other = handmade_features(resample(batch.signal[0], 100.0, rate), rate, STANDARD_LEADS)
        for name, tolerance in {
            "rate_bpm": 0.5,
            "qrs_ms": 9.0,
            "pr_ms": 9.0,
            "qt_ms": 9.0,
            "V2_r_mv": 0.05,
        }.items():
            assert other[COLUMN[name]] == pytest.approx(measured[0, COLUMN[name]], abs=tolerance), (
                rate,
                name,
            )


def test_lead_order_and_spelling_do_not_matter(batch, measured) -> None:
    order = np.random.default_rng(0).permutation(12)
    shuffled = handmade_features(
        batch.signal[0][order], 100.0, [f"lead {STANDARD_LEADS[i].lower()}" for i in order]
    )
    np.testing.assert_array_equal(shuffled, measured[0])


def test_absent_leads(batch, measured) -> None:
    kept = [0, 1, *range(6, 11)]  # I, II, V1-V5: four limb leads follow, V6 does not
    part = handmade_features(batch.signal[0][kept], 100.0, [STANDARD_LEADS[i] for i in kept])
    gone = np.isnan(part) & ~np.isnan(measured[0])
    assert {NAMES[i] for i in np.flatnonzero(gone)} >= {n for n in NAMES if n.startswith("V6_")} - {
        n for n, missing in zip(NAMES, np.isnan(measured[0]), strict=True) if missing
    }
    assert all(n.startswith("V6_") or n in ("v6_r_balance", "transition_lead") for n in np.array(NAMES)[gone])
    assert part[COLUMN["rate_bpm"]] == pytest.approx(measured[0, COLUMN["rate_bpm"]], abs=0.5)
    nan_lead = batch.signal[0].copy()
    nan_lead[11] = np.nan
    np.testing.assert_array_equal(
        np.isnan(handmade_features(nan_lead, 100.0, STANDARD_LEADS)), np.isnan(part)
    )


def test_single_lead(batch) -> None:
    alone = handmade_features(batch.signal[0][1:2], 100.0, ["II"])
    assert np.isfinite(alone[[COLUMN["rate_bpm"], COLUMN["II_r_mv"], COLUMN["qrs_ms"]]]).all()
    assert np.isnan(alone[COLUMN["sokolow_lyon_mv"]])


def test_gaps_are_bridged(batch, measured) -> None:
    holed = batch.signal[0].copy()
    holed[:, 500:505] = np.nan
    part = handmade_features(holed, 100.0, STANDARD_LEADS)
    assert part[COLUMN["rate_bpm"]] == pytest.approx(measured[0, COLUMN["rate_bpm"]], rel=0.05)


@pytest.mark.parametrize("kind", ["flat", "short", "empty leads"])
def test_what_holds_no_beats_is_undefined(kind: str) -> None:
    samples = {"flat": 1000, "short": 60, "empty leads": 1000}[kind]
    signal = np.full((12, samples), np.nan if kind == "empty leads" else 0.0)
    features = handmade_features(signal, 100.0, STANDARD_LEADS)
    assert np.isnan(features[COLUMN["rate_bpm"]])
    assert np.isnan(features[COLUMN["V1_r_mv"]])
    if kind != "flat":
        assert np.isnan(features).all()


def test_noise_raises_no_warning_and_no_infinity() -> None:
    noise = np.random.default_rng(0).normal(size=(12, 1000))
    with np.errstate(all="raise"):
        features = handmade_features(noise, 100.0, STANDARD_LEADS)
    assert not np.isinf(features).any()


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(SignalError, match="leads, samples"):
        handmade_features(np.zeros(1000), 100.0, ["II"])


def test_gaps_are_filled_with_training_medians_alone(batch, measured) -> None:
    signals = [batch.signal[0], batch.signal[1], batch.signal[2], np.zeros((12, 1000)), batch.signal[3][:2]]
    dataset = built_rows(signals)
    baseline = get_baseline("handmade")
    baseline.fit(dataset, [0, 1, 2], progress=False)
    features = baseline.transform(dataset, progress=False)
    medians = np.nanmedian(measured[:3], axis=0)
    defined = ~np.isnan(medians)
    assert features.dtype == np.float32
    assert features.shape == (5, 359)
    assert np.isfinite(features).all()
    assert features[3, COLUMN["rate_bpm"]] == pytest.approx(medians[COLUMN["rate_bpm"]], rel=1e-3)
    assert features[4, COLUMN["V3_s_mv"]] == pytest.approx(medians[COLUMN["V3_s_mv"]], abs=5e-3)
    # The stored samples are rounded to a microvolt; medians of NaN become 0.
    close = np.isclose(
        features[:3], np.where(np.isnan(measured[:3]), medians, measured[:3]), rtol=0.02, atol=0.02
    )
    assert close[:, defined].mean() > 0.97
    np.testing.assert_array_equal(baseline.transform(dataset, [4, 1], progress=False), features[[4, 1]])


def test_processes_rates_and_memory_do_not_change_the_result(batch, monkeypatch) -> None:
    monkeypatch.setattr("ecg_hf.evaluation.baselines.handmade._RECORDS_PER_JOB", 2)
    signals = [*batch.signal[:4], resample(batch.signal[4], 100.0, 500.0)]
    dataset = built_rows(signals, rates=[100.0] * 4 + [500.0])
    one, two = HandmadeFeatures(), HandmadeFeatures(num_proc=2)
    first = one.measure(dataset, progress=False)
    np.testing.assert_array_equal(two.measure(dataset, progress=False), first)
    np.testing.assert_array_equal(one.measure(dataset, [3, 0], progress=False), first[[3, 0]])
    shuffled = dataset.select([2, 4])
    np.testing.assert_array_equal(one.measure(shuffled, progress=False), first[[2, 4]])


def test_demographics_are_an_option(batch) -> None:
    dataset = built_rows(list(batch.signal[:2]))
    baseline = HandmadeFeatures(demographics=True)
    baseline.fit(dataset, [0, 1], progress=False)
    features = baseline.transform(dataset, progress=False)
    assert features.shape == (2, 361)
    assert features[:, 359:].tolist() == [[50.0, 1.0], [50.0, 1.0]]
    with pytest.raises(ConfigurationError, match="'age'"):
        baseline.measure(dataset.remove_columns("age"), progress=False)


def test_fingerprint_and_misuse(batch) -> None:
    assert HandmadeFeatures().fingerprint() == HandmadeFeatures(num_proc=2).fingerprint()
    assert HandmadeFeatures().fingerprint() != HandmadeFeatures(demographics=True).fingerprint()
    dataset = built_rows([batch.signal[0]])
    with pytest.raises(ConfigurationError, match="fit"):
        HandmadeFeatures().transform(dataset)
    with pytest.raises(ConfigurationError, match="row numbers"):
        HandmadeFeatures().measure(dataset, [1])
    with pytest.raises(ConfigurationError, match="num_proc"):
        HandmadeFeatures(0)
