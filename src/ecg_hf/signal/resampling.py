"""Changing the sampling rate: polyphase by default, Fourier where a published pipeline needs it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy.signal import resample as _resample_fourier
from scipy.signal import resample_poly

from ecg_hf.errors import ConfigurationError, SamplingRateError, SignalError
from ecg_hf.signal.gaps import bridge_gaps
from ecg_hf.signal.record import MAX_SAMPLING_RATE_HZ

__all__ = ["RESAMPLING_METHODS", "rate_ratio", "resample", "resampled_length"]

RESAMPLING_METHODS = ("polyphase", "fft")
# Both factors of the ratio; the filter has 20 taps per unit of the larger one.
_LARGEST_FACTOR = 10_000


def rate_ratio(rate_in: float, rate_out: float) -> Fraction:
    """``rate_out / rate_in`` as an exact fraction of rates written to a millihertz.

    Raises:
        SamplingRateError: if a rate is not in (0, 100000] Hz, or no fraction of manageable numbers is
            within a millionth of the ratio.
    """
    for rate in (rate_in, rate_out):
        if not 0.0 < rate <= MAX_SAMPLING_RATE_HZ:
            raise SamplingRateError(f"sampling rate must be in (0, 100000] Hz, got {rate:g}", value=rate)
    exact = Fraction(rate_out).limit_denominator(1000) / Fraction(rate_in).limit_denominator(1000)
    if max(exact.numerator, exact.denominator) <= _LARGEST_FACTOR:
        return exact
    near = Fraction(rate_out / rate_in).limit_denominator(1000)
    if not near or max(near.numerator, near.denominator) > _LARGEST_FACTOR or abs(near / exact - 1) > 1e-6:
        raise SamplingRateError(
            f"can't resample from {rate_in:g} to {rate_out:g} Hz", value=(rate_in, rate_out)
        )
    return near


def resampled_length(samples: int, rate_in: float, rate_out: float) -> int:
    """Number of samples after resampling: ``samples * rate_out / rate_in`` rounded, at least 1."""
    return max(1, round(samples * rate_ratio(rate_in, rate_out)))


def resample(
    signal: npt.NDArray[np.floating],
    rate_in: float,
    rate_out: float,
    method: str = "polyphase",
) -> npt.NDArray[np.float32]:
    """Resample along the last axis with a zero-phase anti-aliasing filter.

    ``"polyphase"`` is :func:`scipy.signal.resample_poly` (Kaiser window) around the straight line from the
    first to the last sample of each row, so offsets and drifts do not ring at the edges. ``"fft"`` is
    :func:`scipy.signal.resample`, which treats the signal as periodic; several published pipelines use it.

    NaN samples are bridged by linear interpolation for the filter; output samples whose nearest input
    sample was NaN are NaN again.

    Args:
        signal: Real ``(..., samples)``, never modified.
        rate_in: Present rate in Hz.
        rate_out: Wanted rate in Hz.
        method: ``"polyphase"`` or ``"fft"``.

    Returns:
        Float32 ``(..., round(samples * rate_out / rate_in))``. At equal rates, a float32 input is
        returned as it is.

    Raises:
        SamplingRateError: for rates that are not positive or can't be related.
        ConfigurationError: for an unknown method.
        SignalError: for an empty or non-real signal.
    """
    if method not in RESAMPLING_METHODS:
        raise ConfigurationError(f"resampling must be one of {', '.join(RESAMPLING_METHODS)}, got {method!r}")
    if signal.ndim < 1 or 0 in signal.shape or signal.dtype.kind not in "iuf":
        raise SignalError(f"can't resample {signal.dtype} of shape {signal.shape}", value=signal.shape)
    ratio = rate_ratio(rate_in, rate_out)
    single = signal.astype(np.float32, copy=False)
    if ratio == 1:
        return single
    length = max(1, round(signal.shape[-1] * ratio))
    filled, missing = bridge_gaps(single)
    if method == "fft":
        resampled = _resample_fourier(filled, length, axis=-1)
    else:
        resampled = resample_poly(filled, ratio.numerator, ratio.denominator, axis=-1, padtype="line")
        resampled = resampled[..., :length]
    output: npt.NDArray[np.float32] = np.ascontiguousarray(resampled, dtype=np.float32)
    if missing is not None:
        nearest = np.rint(np.arange(length) * float(1 / ratio)).astype(np.int64)
        output[missing[..., np.minimum(nearest, signal.shape[-1] - 1)]] = np.nan
    return output
