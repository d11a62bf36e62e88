"""The median beat of a recording: aligned beats, their median, and how similar they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.signal.beats.order_statistics import median_over_first

__all__ = ["AFTER_S", "BEFORE_S", "MedianBeat", "align_beats", "beat_windows", "median_beat"]

BEFORE_S = 0.3
AFTER_S = 0.5
"""Seconds of a beat before and after its R peak."""

# Beats are compared on the QRS complex alone, wide ones included.
_QRS_S = (0.08, 0.12)
_SAME_BEAT = 0.8
_MIN_MAJORITY = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class MedianBeat:
    """The dominant beat of a recording.

    Attributes:
        signal: float64 ``(leads, samples)`` in the unit of the recording.
        origin: Sample of the R peak within ``signal``.
        sampling_rate: Hertz.
        r_peaks: int64 ``(beats,)``: aligned indices in the recording.
        similarity: float64 ``(beats,)``: correlation of each QRS complex with the median one, over all leads.
        n_used: Beats the median was taken over.
    """

    signal: npt.NDArray[np.float64]
    origin: int
    sampling_rate: float
    r_peaks: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float64]
    n_used: int


def beat_windows(
    signal: npt.NDArray[np.floating], r_peaks: npt.NDArray[np.integer], before: int, after: int
) -> npt.NDArray[np.float64]:
    """Samples around each beat; beyond the ends of the recording its first or last sample is repeated.

    Args:
        signal: ``(leads, samples)``.
        r_peaks: Sample indices ``(beats,)``.
        before: Samples before each index.
        after: Samples after it.

    Returns:
        float64 ``(beats, leads, before + 1 + after)``.
    """
    positions = np.asarray(r_peaks)[:, None] + np.arange(-before, after + 1)
    windows = signal[:, positions.clip(0, signal.shape[1] - 1)].astype(np.float64)
    return windows.transpose(1, 0, 2)


def align_beats(
    signal: npt.NDArray[np.floating],
    r_peaks: npt.NDArray[np.integer],
    sampling_rate: float,
    *,
    reach_s: float = 0.06,
) -> npt.NDArray[np.int64]:
    """Shift each beat to where its QRS complex fits the median one best, and all of them to the median's R peak.

    Two rounds of cross-correlation with the median over beats, normalised, over all leads at once. The R peak is the
    maximum of the magnitude over leads, so that it means the same in every beat and every recording.

    Args:
        signal: Finite ``(leads, samples)``, without baseline wander.
        r_peaks: Ascending indices near the QRS complexes, e.g. of :func:`ecg_hf.signal.beats.beats.detect_beats`.
        sampling_rate: Hertz.
        reach_s: Largest shift in each round, seconds.

    Returns:
        int64 ascending indices, as many as given unless two coincide or one leaves the recording.
    """
    peaks = np.asarray(r_peaks, dtype=np.int64)
    if peaks.size == 0:
        return peaks
    before, after = (max(1, round(part * sampling_rate)) for part in _QRS_S)
    reach = max(1, round(reach_s * sampling_rate))
    last = signal.shape[1] - 1
    width = before + 1 + after
    for _ in range(2):
        wide = beat_windows(signal, peaks, before + reach, after + reach)
        template = median_over_first(wide[:, :, reach : reach + width])
        template -= template.mean(axis=1, keepdims=True)
        # The template at every lag: all correlations are one matrix product.
        shifted = np.zeros((*wide.shape[1:], 2 * reach + 1))
        for lag in range(2 * reach + 1):
            shifted[:, lag : lag + width, lag] = template
        product = wide.reshape(len(wide), -1) @ shifted.reshape(-1, 2 * reach + 1)
        match = product / np.sqrt(np.maximum(_moving_power(wide, width), 1e-12))
        peaks = (peaks + match.argmax(axis=1) - reach).clip(0, last)
    middle = median_over_first(beat_windows(signal, peaks, before, after))
    middle -= median_over_first(middle.T)[:, None]
    offset = int(np.square(middle).sum(axis=0).argmax()) - before
    return np.unique((peaks + offset).clip(0, last))


def median_beat(
    signal: npt.NDArray[np.floating],
    r_peaks: npt.NDArray[np.integer],
    sampling_rate: float,
    *,
    before_s: float = BEFORE_S,
    after_s: float = AFTER_S,
) -> MedianBeat:
    """Median over the beats that look alike.

    Beats whose QRS complex correlates less than 0.8 with the median over all beats are left out and the median taken
    again, unless fewer than 30 % would remain. Beats cut off by the ends of the recording are used
    only if no other remains.

    Args:
        signal: Finite ``(leads, samples)``, without baseline wander.
        r_peaks: Aligned beats, at least one; see :func:`align_beats`.
        sampling_rate: Hertz.
        before_s: Seconds before the R peak.
        after_s: Seconds after it.

    Raises:
        ConfigurationError: without a beat.
        SignalError: if the signal is not ``(leads, samples)``.
    """
    peaks = np.asarray(r_peaks, dtype=np.int64)
    if signal.ndim != 2:
        raise SignalError(f"expected (leads, samples), got shape {signal.shape}", value=signal.shape)
    if peaks.size == 0:
        raise ConfigurationError("a median beat needs at least one beat")
    before, after = round(before_s * sampling_rate), round(after_s * sampling_rate)
    windows = beat_windows(signal, peaks, before, after)
    whole = (peaks >= before) & (peaks + after < signal.shape[1])
    used = whole if whole.any() else np.ones(peaks.size, dtype=bool)
    qrs = slice(
        max(0, before - round(_QRS_S[0] * sampling_rate)), before + round(_QRS_S[1] * sampling_rate) + 1
    )
    median = median_over_first(windows[used])
    similarity = _correlation(windows[:, :, qrs], median[:, qrs])
    alike = used & (similarity >= _SAME_BEAT)
    if alike.sum() < used.sum() and alike.sum() >= max(1, _MIN_MAJORITY * used.sum()):
        median = median_over_first(windows[alike])
        similarity = _correlation(windows[:, :, qrs], median[:, qrs])
        used = alike
    return MedianBeat(median, before, sampling_rate, peaks, similarity, int(used.sum()))


def _moving_power(windows: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Power about each lead's mean of every ``width`` consecutive samples, summed over leads: ``(beats, lags)``."""
    first, second = np.zeros((2, *windows.shape[:2], windows.shape[2] + 1))
    np.cumsum(windows, axis=2, out=first[:, :, 1:])
    np.cumsum(np.square(windows), axis=2, out=second[:, :, 1:])
    sums = first[:, :, width:] - first[:, :, :-width]
    squares = second[:, :, width:] - second[:, :, :-width]
    power: npt.NDArray[np.float64] = (squares - np.square(sums) / width).sum(axis=1)
    return power


def _correlation(
    windows: npt.NDArray[np.float64], template: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Correlation over leads and samples, with each lead's mean removed."""
    centred = windows - windows.mean(axis=2, keepdims=True)
    reference = template - template.mean(axis=1, keepdims=True)
    product = np.einsum("blw,lw->b", centred, reference)
    power = np.einsum("blw,blw->b", centred, centred) * np.square(reference).sum()
    correlation: npt.NDArray[np.float64] = product / np.sqrt(np.maximum(power, 1e-12))
    return correlation
