"""Onsets, peaks and ends of the waves of a median beat, over all leads at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from ecg_hf.signal.beats.median_beat import MedianBeat
from ecg_hf.signal.beats.order_statistics import percentile

__all__ = ["Fiducials", "find_fiducials"]

# Chosen on the median beats of LUDB's records against its cardiologists' marks; see tests.
_QRS_SEARCH_S = (0.14, 0.20)
_QRS_THRESHOLD = 0.05
_QUIET_S = 0.012
_P_SEARCH_S = 0.22
_P_EDGE = 0.12
_ST_S = 0.06


@dataclass(frozen=True, slots=True)
class Fiducials:
    """Samples of a median beat, as int, except the T end which lies between samples; None where not found.

    Attributes:
        qrs_onset: First sample of the QRS complex in any lead.
        qrs_offset: Last one (the J point).
        p_onset: First sample of the P wave.
        p_peak: Largest magnitude over leads between the T wave before and the QRS complex.
        p_offset: Last sample of the P wave.
        t_peak: Largest magnitude over leads after the ST segment.
        t_end: Where the steepest descent after the T peak reaches the level before the QRS complex.
        p_prominence: Magnitude of the P peak relative to that of the quiet parts between P and QRS and before P;
            NaN without room for a P wave.
    """

    qrs_onset: int
    qrs_offset: int
    p_onset: int | None
    p_peak: int | None
    p_offset: int | None
    t_peak: int | None
    t_end: float | None
    p_prominence: float


def find_fiducials(beat: MedianBeat, rr_s: float | None = None) -> Fiducials | None:
    """Fiducials of a median beat from the magnitude of its slope (QRS) and of itself (P, T) over leads.

    The QRS complex is where the root mean square of the slopes over leads stays above a twentieth of its maximum; P
    and T waves are the largest deflections from their surroundings in the time that neighbouring beats leave free.

    Args:
        beat: A median beat without baseline wander, 0.3 s before and 0.5 s after the R peak.
        rr_s: Interval to the next beat, which limits the T wave, and where a P wave may begin; None if unknown.

    Returns:
        None if the beat shows no QRS complex (flat).
    """
    rate = beat.sampling_rate
    slope = np.gradient(beat.signal, axis=1) * rate
    speed = uniform_filter1d(np.sqrt(np.square(slope).mean(axis=0)), max(1, round(0.012 * rate)))
    bounds = _qrs(speed, beat.origin, rate)
    if bounds is None:
        return None
    onset, offset = bounds
    level = beat.signal[:, max(0, onset - round(0.02 * rate)) : max(1, onset)].mean(axis=1, keepdims=True)
    magnitude = np.sqrt(np.square(beat.signal - level).mean(axis=0))
    p_onset, p_peak, p_offset, prominence = _p_wave(beat, onset, rr_s)
    t_peak, t_end = _t_wave(magnitude, offset, beat, rr_s)
    return Fiducials(onset, offset, p_onset, p_peak, p_offset, t_peak, t_end, prominence)


def _qrs(speed: npt.NDArray[np.float64], origin: int, rate: float) -> tuple[int, int] | None:
    near = slice(max(0, origin - round(0.06 * rate)), origin + round(0.06 * rate) + 1)
    peak = near.start + int(speed[near].argmax())
    floor = percentile(speed, 20)
    if not speed[peak] > 2.0 * floor:
        return None
    threshold = floor + _QRS_THRESHOLD * (speed[peak] - floor)
    quiet = max(2, round(_QUIET_S * rate))
    first = max(0, origin - round(_QRS_SEARCH_S[0] * rate))
    last = min(speed.size - 1, origin + round(_QRS_SEARCH_S[1] * rate))
    below = speed < threshold
    onset = _edge(below[first : peak + 1][::-1], quiet)
    offset = _edge(below[peak : last + 1], quiet)
    return peak - onset, peak + offset


def _edge(below: npt.NDArray[np.bool_], quiet: int) -> int:
    """Steps until ``quiet`` samples in a row are below; all of them if that never happens."""
    if below.size < quiet:
        return below.size - 1
    runs = np.lib.stride_tricks.sliding_window_view(below, quiet).all(axis=1)
    return int(runs.argmax()) if runs.any() else below.size - 1


def _p_wave(
    beat: MedianBeat, onset: int, rr_s: float | None
) -> tuple[int | None, int | None, int | None, float]:
    rate = beat.sampling_rate
    stop = onset - round(0.012 * rate)
    start = max(0, stop - round(_P_SEARCH_S * rate))
    if rr_s is not None:
        # The T wave of the beat before ends about 0.45 sqrt(RR) s after its R peak (QT of a healthy heart).
        start = max(start, beat.origin - round((rr_s - 0.42 * rr_s**0.5) * rate))
    if stop - start < round(0.06 * rate):
        return None, None, None, float("nan")
    part = beat.signal[:, start : stop + 1]
    # Deviation from the line between the ends: the T wave before and the PR segment set the level.
    ramp = np.linspace(0.0, 1.0, part.shape[1])
    width = max(1, round(0.012 * rate))
    left, right = part[:, :width].mean(axis=1), part[:, -width:].mean(axis=1)
    part = part - (left[:, None] * (1.0 - ramp) + right[:, None] * ramp)
    magnitude = uniform_filter1d(np.sqrt(np.square(part).mean(axis=0)), max(1, round(0.02 * rate)))
    peak = int(magnitude.argmax())
    quiet = percentile(magnitude, 15)
    threshold = quiet + _P_EDGE * (magnitude[peak] - quiet)
    below = magnitude < threshold
    before, after = below[: peak + 1][::-1], below[peak:]
    first = peak - (int(before.argmax()) if before.any() else peak)
    last = peak + (int(after.argmax()) if after.any() else after.size - 1)
    prominence = float(magnitude[peak] / max(quiet, 1e-3))
    return start + first, start + peak, start + last, prominence


def _t_wave(
    magnitude: npt.NDArray[np.float64], offset: int, beat: MedianBeat, rr_s: float | None
) -> tuple[int | None, float | None]:
    rate = beat.sampling_rate
    start = offset + round(_ST_S * rate)
    stop = magnitude.size - 1
    if rr_s is not None:
        # The next beat's P wave and QRS complex come after it.
        stop = min(stop, beat.origin + round(max(0.72 * rr_s, rr_s - 0.26) * rate))
    if stop - start < round(0.08 * rate):
        return None, None
    smooth = uniform_filter1d(magnitude, max(1, round(0.04 * rate)))
    peak = start + int(smooth[start : stop + 1].argmax())
    slope = np.gradient(smooth)
    descent = peak + int(slope[peak : stop + 1].argmin())
    if slope[descent] >= 0.0 or descent == peak:
        return peak, None
    foot = float(smooth[descent : stop + 1].min())
    end = descent + (smooth[descent] - foot) / -slope[descent]
    return peak, float(min(end, stop + 0.1 * rate))
