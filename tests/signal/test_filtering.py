from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from ecg_hf.errors import ConfigurationError, SamplingRateError, SignalError
from ecg_hf.signal.filtering import bandpass, highpass, lowpass, notch

TIME = np.arange(5000) / 500.0


def tone(frequency: float) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * TIME)


def gain_at(filtered: np.ndarray, frequency: float) -> float:
    middle = slice(1000, 4000)
    return float(2 * np.mean(filtered[middle] * tone(frequency)[middle]))


@pytest.mark.parametrize(
    ("apply", "kept", "removed"),
    [
        (lambda x: highpass(x, 500, 0.5), (2, 10, 60), (0.1,)),
        (lambda x: lowpass(x, 500, 40), (1, 10, 20), (80, 150)),
        (lambda x: bandpass(x, 500, 0.5, 40), (2, 10, 20), (0.1, 80)),
        (lambda x: notch(x, 500, 50), (10, 40, 60), (50,)),
    ],
)
def test_keeps_and_removes_without_delay(apply, kept, removed):
    for frequency in kept:  # the product with the unshifted tone is 1 only if there is no delay either
        assert gain_at(apply(tone(frequency)), frequency) == pytest.approx(1.0, abs=0.02)
    for frequency in removed:
        assert abs(gain_at(apply(tone(frequency)), frequency)) < 0.02


@pytest.mark.parametrize("order", [1, 4, 5])
def test_edges_are_those_of_scipy(order: int):
    """A filter of odd order has fewer coefficients than its sections hold, and reflects fewer samples."""
    signal = np.random.default_rng(0).normal(size=300).cumsum()
    sections = butter(order, 0.67, "highpass", fs=250, output="sos")
    expected = sosfiltfilt(sections, signal)
    np.testing.assert_allclose(highpass(signal, 250, 0.67, order=order), expected, atol=1e-5)


def test_shape_type_and_missing_samples():
    batch = np.random.default_rng(0).standard_normal((2, 3, 1000)).astype(np.float32)
    before = batch.copy()
    result = bandpass(batch, 500, 0.5, 40)
    assert result.shape == batch.shape
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[1, 2], bandpass(batch[1, 2], 500, 0.5, 40), atol=1e-6)
    assert np.array_equal(batch, before)
    batch[0, 0, 100:110] = np.nan
    result = bandpass(batch, 500, 0.5, 40)
    assert np.flatnonzero(np.isnan(result[0, 0])).tolist() == list(range(100, 110))
    assert np.isfinite(result[1]).all()


@pytest.mark.parametrize(
    "apply",
    [
        lambda x: highpass(x, 500, 0),
        lambda x: highpass(x, 500, 250),
        lambda x: lowpass(x, 500, 300),
        lambda x: lowpass(x, 500, float("nan")),
        lambda x: bandpass(x, 500, 40, 0.5),
        lambda x: notch(x, 100, 50),
        lambda x: notch(x, 500, 50, quality=0),
        lambda x: lowpass(x, 500, 40, order=0),
        lambda x: lowpass(x, 500, 40, order=99),
        lambda x: lowpass(x[:10], 500, 40),
    ],
)
def test_impossible_filters(apply):
    with pytest.raises(ConfigurationError):
        apply(tone(10))


def test_impossible_signals():
    with pytest.raises(SamplingRateError):
        highpass(tone(10), 0, 1)
    with pytest.raises(SignalError):
        highpass(tone(10).astype(complex), 500, 1)
