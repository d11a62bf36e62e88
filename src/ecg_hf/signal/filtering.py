"""Zero-phase filters for baseline wander, muscle noise and mains hum.

All filters run forwards and backwards (no delay, twice the attenuation), in double precision along the
last axis. NaN samples are bridged linearly for the filter and are NaN again in the result.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, iirnotch, sosfiltfilt, tf2sos

from ecg_hf.errors import ConfigurationError, SamplingRateError, SignalError
from ecg_hf.signal.gaps import bridge_gaps

__all__ = ["bandpass", "edge_samples", "highpass", "lowpass", "notch"]

MAX_ORDER = 10


def highpass(
    signal: npt.NDArray[np.floating], sampling_rate: float, cutoff_hz: float, *, order: int = 4
) -> npt.NDArray[np.float32]:
    """Butterworth high-pass, such as 0.5 Hz against baseline wander. See :func:`bandpass`."""
    _check_cutoffs(sampling_rate, cutoff_hz)
    return _apply(signal, butter(_check_order(order), cutoff_hz, "highpass", fs=sampling_rate, output="sos"))


def lowpass(
    signal: npt.NDArray[np.floating], sampling_rate: float, cutoff_hz: float, *, order: int = 4
) -> npt.NDArray[np.float32]:
    """Butterworth low-pass, such as 40 Hz against muscle noise. See :func:`bandpass`."""
    _check_cutoffs(sampling_rate, cutoff_hz)
    return _apply(signal, butter(_check_order(order), cutoff_hz, "lowpass", fs=sampling_rate, output="sos"))


def bandpass(
    signal: npt.NDArray[np.floating], sampling_rate: float, low_hz: float, high_hz: float, *, order: int = 4
) -> npt.NDArray[np.float32]:
    """Butterworth band-pass between ``low_hz`` and ``high_hz``.

    Args:
        signal: Real ``(..., samples)``, never modified.
        sampling_rate: Hertz.
        low_hz: Lower -6 dB frequency (-3 dB in each direction).
        high_hz: Upper -6 dB frequency.
        order: Order of the prototype, 1 to 10.

    Returns:
        Float32 of the same shape.

    Raises:
        ConfigurationError: for cutoffs that are not in (0, half the sampling rate) or not ascending, an
            order out of range, or a signal too short for the filter.
        SamplingRateError: if the rate is not positive.
        SignalError: if the signal is not made of real numbers.
    """
    _check_cutoffs(sampling_rate, low_hz, high_hz)
    band = (low_hz, high_hz)
    return _apply(signal, butter(_check_order(order), band, "bandpass", fs=sampling_rate, output="sos"))


def notch(
    signal: npt.NDArray[np.floating], sampling_rate: float, frequency_hz: float, *, quality: float = 30.0
) -> npt.NDArray[np.float32]:
    """Second-order notch at ``frequency_hz``, ``frequency_hz / quality`` wide. See :func:`bandpass`."""
    _check_cutoffs(sampling_rate, frequency_hz)
    if not 0.1 <= quality <= 1000.0:
        raise ConfigurationError(f"notch quality must be in [0.1, 1000], got {quality:g}", value=quality)
    return _apply(signal, tf2sos(*iirnotch(frequency_hz, quality, fs=sampling_rate)))


def _check_cutoffs(sampling_rate: float, *cutoffs: float) -> None:
    if not 0.0 < sampling_rate < float("inf"):
        raise SamplingRateError(f"sampling rate must be positive, got {sampling_rate:g}", value=sampling_rate)
    for cutoff in cutoffs:
        if not 0.0 < cutoff < sampling_rate / 2:
            raise ConfigurationError(
                f"filter frequency must be in (0, {sampling_rate / 2:g}) Hz at {sampling_rate:g} Hz, got {cutoff:g}",
                value=cutoff,
            )
    if len(cutoffs) == 2 and not cutoffs[0] < cutoffs[1]:
        raise ConfigurationError(f"band must ascend, got {cutoffs[0]:g} to {cutoffs[1]:g} Hz", value=cutoffs)


def _check_order(order: int) -> int:
    if not 1 <= order <= MAX_ORDER:
        raise ConfigurationError(f"filter order must be in 1..{MAX_ORDER}, got {order}", value=order)
    return order


def edge_samples(sections: npt.NDArray[np.float64]) -> int:
    """Samples that ``sosfiltfilt`` reflects at each edge by its own choice; it needs at least one more.

    Three times the coefficients of the filter, of which a filter of odd order has one less than its sections hold.
    """
    unused = min(int((sections[:, 2] == 0).sum()), int((sections[:, 5] == 0).sum()))
    return 3 * (2 * len(sections) + 1 - unused)


def _apply(signal: npt.NDArray[np.floating], sections: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    if signal.ndim < 1 or signal.dtype.kind not in "iuf":
        raise SignalError(f"can't filter {signal.dtype} of shape {signal.shape}", value=signal.shape)
    padding = edge_samples(sections)
    if signal.shape[-1] <= padding:
        raise ConfigurationError(
            f"signal of {signal.shape[-1]} samples is too short for this filter, which needs {padding + 1}",
            value=signal.shape[-1],
        )
    # float64: the poles of a 0.5 Hz high-pass lie too close to the unit circle for float32.
    filled, missing = bridge_gaps(signal.astype(np.float64, copy=False))
    if filled.size == 0:
        return filled.astype(np.float32)
    filtered: npt.NDArray[np.float32] = sosfiltfilt(sections, filled, axis=-1, padlen=padding).astype(
        np.float32
    )
    if missing is not None:
        filtered[missing] = np.nan
    return filtered
