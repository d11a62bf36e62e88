from __future__ import annotations

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError, SamplingRateError, SignalError
from ecg_hf.signal.resampling import rate_ratio, resample, resampled_length

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
