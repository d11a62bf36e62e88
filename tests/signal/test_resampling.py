from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError, SamplingRateError, SignalError
from ecg_hf.signal import resampling
from ecg_hf.signal.resampling import polyphase_factors, rate_ratio, resample, resampled_length

RATES = [
    (500, 250),
    (500, 100),
    (100, 500),
    (360, 500),
    (257, 500),
    (1000, 500),
    (400, 500),
    (128.5, 250),
    (500, 333.3),
]


@pytest.mark.parametrize("method", ["polyphase", "fft"])
@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_a_slow_wave_keeps_its_place_and_size(rate_in, rate_out, method):
    samples = int(10 * rate_in)
    # Whole periods, so that the Fourier method's assumption holds too.
    wave = np.sin(2 * np.pi * 10 * np.arange(samples) / samples)
    result = resample(wave[None], rate_in, rate_out, method)
    length = round(samples * rate_out / rate_in)
    assert result.shape == (1, length)
    assert result.dtype == np.float32
    expected = np.sin(2 * np.pi * 10 * np.arange(length) * rate_in / rate_out / samples)
    # Only the Fourier method knows how the wave goes on behind its last sample.
    inside = slice(None, None if method == "fft" else -round(4 * max(1, rate_out / rate_in)))
    np.testing.assert_allclose(result[0, inside], expected[inside], atol=0.01)


def test_frequencies_above_the_new_limit_are_removed():
    time = np.arange(5000) / 500
    wave = np.sin(2 * np.pi * 120 * time)[None]
    assert np.abs(resample(wave, 500, 100)[0, 20:-20]).max() < 0.01


def test_offset_does_not_ring_at_the_edges():
    drift = np.linspace(3.0, 4.0, 1000)[None]
    np.testing.assert_allclose(resample(drift, 500, 250)[0], np.linspace(3.0, 4.0, 1000)[::2], atol=1e-3)


def test_batches_equal_single_rows_and_input_is_untouched():
    batch = np.random.default_rng(0).standard_normal((3, 2, 500)).astype(np.float32)
    before = batch.copy()
    result = resample(batch, 500, 360)
    assert result.shape == (3, 2, 360)
    np.testing.assert_allclose(result[1, 1], resample(batch[1, 1], 500, 360), atol=1e-6)
    assert np.array_equal(batch, before)
    assert resample(batch, 500, 500) is batch


@pytest.mark.parametrize(("rate_in", "rate_out"), [(500, 100), (100, 250), (360, 100), (100, 50), (257, 100)])
def test_bits_do_not_depend_on_what_is_resampled_beside(rate_in, rate_out):
    signal = np.random.default_rng(0).standard_normal((9, 12, 700)).astype(np.float32)
    whole = resample(signal, rate_in, rate_out)
    for some in (np.s_[:1], np.s_[3:5], np.s_[2:9], np.s_[4, :1], np.s_[8, 5:8]):
        assert np.array_equal(resample(signal[some], rate_in, rate_out), whole[some])


def test_missing_samples():
    signal = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    signal[0, 400:500] = np.nan
    result = resample(signal, 500, 250)
    assert np.flatnonzero(np.isnan(result[0])).tolist() == list(range(200, 250))
    assert not np.isnan(result[1]).any()
    assert np.isnan(resample(np.full((1, 100), np.nan), 500, 250)).all()


@pytest.mark.parametrize(
    "rates", [(0, 500), (500, 0), (-1, 500), (float("nan"), 500), (500, float("inf")), (100000, 0.001)]
)
def test_impossible_rates(rates):
    with pytest.raises(SamplingRateError):
        resample(np.zeros((1, 100)), *rates)


def tone(frequency: float, rate: float, samples: int) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(samples) / rate + 0.3)


FRACTIONAL = [62.4725, 249.89, 499.37, 128.113, 360.0001, 512.844, 500 / 3, 1000.37]


@pytest.mark.parametrize(
    ("rate_in", "rate_out"), [(500, 100), (500, 250), (1000, 240), (360, 257), (499.37, 100), (512.844, 250)]
)
def test_the_filter_is_sharp(rate_in, rate_out):
    """Nothing above 1.1 times the new Nyquist frequency, everything below 0.9 of it."""
    samples, nyquist = int(20 * rate_in), rate_out / 2
    inner = slice(200, -200)
    for factor in (1.1, 1.13, 1.2, 1.3):
        if factor * nyquist < rate_in / 2:
            rest = resample(tone(factor * nyquist, rate_in, samples)[None], rate_in, rate_out)[0, inner]
            assert 20 * np.log10(np.abs(rest).max()) < -65
    for factor in (0.1, 0.5, 0.8, 0.9):
        kept = resample(tone(factor * nyquist, rate_in, samples)[None], rate_in, rate_out)[0]
        expected = tone(factor * nyquist, rate_out, kept.size)
        assert abs(20 * np.log10(np.std(kept[inner]) / np.std(expected[inner]))) < 0.01
        np.testing.assert_allclose(kept[inner], expected[inner], atol=1e-3)


@pytest.mark.parametrize(
    ("rate_in", "rate_out", "method"),
    [*((rate, 100, "polyphase") for rate in FRACTIONAL), (62.4725, 250, "fft"), (100, 62.4725, "fft")],
)
def test_any_rate_keeps_the_time_over_any_length(rate_in, rate_out, method):
    """Ten minutes: the last beats lie within a hundredth of a sample of where they were."""
    seconds = 600.0
    samples = int(seconds * rate_in)
    signal = tone(10.0, rate_in, samples)
    result = resample(signal[None], rate_in, rate_out, method)[0]
    assert result.size == resampled_length(samples, rate_in, rate_out)
    for end in (slice(200, 1200), slice(-1200, -200)):
        found = result[end]
        place = np.arange(result.size)[end] / rate_out
        shifted = [
            np.abs(found - np.sin(2 * np.pi * 10 * (place + s) + 0.3)).max() for s in (0.0, 0.01 / rate_out)
        ]
        assert shifted[0] < 1e-3 < shifted[1]


def test_a_ratio_is_that_of_the_numbers_written():
    assert rate_ratio(62.4725, 100) == Fraction(40000, 24989)
    assert rate_ratio(500 / 3, 500) == 3
    assert rate_ratio(360.0001, 360) == Fraction(3600000, 3600001)
    assert polyphase_factors(500, 250) == (1, 2)
    assert polyphase_factors(512.844, 100) is None


def test_both_ways_to_apply_the_kernel_agree():
    signal = np.random.default_rng(0).standard_normal((2, 3, 2000)).astype(np.float32) + 5
    for rate_in, rate_out in ((500, 100), (100, 250), (257, 360)):
        near = resample(signal, rate_in * (1 + 1e-9), rate_out)
        np.testing.assert_allclose(near, resample(signal, rate_in, rate_out), atol=2e-5)


@pytest.mark.parametrize("rate_out", [100, 499.37])
def test_one_and_two_samples(rate_out):
    assert resample(np.array([[3.0]]), 250, rate_out).tolist() == [[3.0] * resampled_length(1, 250, rate_out)]
    assert np.isfinite(resample(np.array([[3.0, 4.0]]), 250, rate_out)).all()


def test_other_errors():
    with pytest.raises(ConfigurationError, match="polyphase, fft"):
        resample(np.zeros((1, 100)), 500, 250, "linear")
    with pytest.raises(SignalError):
        resample(np.zeros((1, 0)), 500, 250)
    with pytest.raises(SignalError):
        resample(np.zeros((1, 10), dtype=complex), 500, 250)


def test_lengths_and_ratio():
    assert resampled_length(4999, 500, 250) == 2500
    assert resampled_length(1, 500, 100) == 1
    assert rate_ratio(500, 100).denominator == 5
    assert rate_ratio(128.5, 257) == 2


@pytest.mark.parametrize(
    ("rate_in", "rate_out"), [(500, 100), (500, 250), (500, 400), (100, 500), (360, 257)]
)
def test_the_matrix_product_is_the_polyphase_filter(rate_in, rate_out, monkeypatch):
    """The same kernel by scipy, one output sample after the other; offsets and drifts included."""
    generator = np.random.default_rng(0)
    offset = np.array([[0.0], [4.0], [-300.0]])
    signal = (generator.standard_normal((3, 1237)) + offset).astype(np.float32)
    signal += np.linspace(0.0, 5.0, 1237, dtype=np.float32)
    assert resampling._polyphase_matrix(*polyphase_factors(rate_in, rate_out)) is not None
    by_matrix = resample(signal, rate_in, rate_out)
    monkeypatch.setattr(resampling, "_polyphase_matrix", lambda up, down: None)
    by_scipy = resample(signal, rate_in, rate_out)
    assert by_matrix.shape == by_scipy.shape
    scale = np.abs(signal).max(axis=1, keepdims=True) + 1.0
    assert (np.abs(by_matrix - by_scipy) / scale).max() < 1e-6


def test_a_ratio_of_large_integers_is_left_to_scipy():
    assert resampling._polyphase_matrix(*polyphase_factors(999, 1000)) is None
    wave = tone(5.0, 999, 9990)
    assert np.abs(resample(wave[None], 999, 1000)[0, 50:9900] - tone(5.0, 1000, 10000)[50:9900]).max() < 0.01
