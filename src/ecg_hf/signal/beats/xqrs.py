"""wfdb's XQRS, a detector for one lead, which published pipelines of beat models use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import SamplingRateError
from ecg_hf.signal.gaps import bridge_gaps
from ecg_hf.signal.leads import normalize_lead_names
from ecg_hf.signal.resampling import resample

__all__ = ["FALLBACK_LEADS", "XQRS_RATE_HZ", "xqrs", "xqrs_in_leads"]

FALLBACK_LEADS = ("II", "I", "V5", "V4", "V6", "V3", "V2", "V1", "aVF", "III", "aVL", "aVR")
"""Leads tried in turn: the next one if a lead is missing, flat or shows fewer than two beats."""

XQRS_RATE_HZ = 250.0
"""Rate below which the signal is interpolated before detection.

XQRS' windows are whole samples: at 100 Hz, as CLEAR-HUG runs it, 74 % of the R peaks annotated in lead II of LUDB's
first 30 records have a detection within 80 ms; of the same 100 Hz signals resampled to 250 Hz, 99 %.
"""

# XQRS filters 5-20 Hz and learns from a few beats, so it needs at least this rate and duration.
_MIN_DURATION_S = 1.0
_MIN_SAMPLING_RATE_HZ = 50.0


def xqrs_in_leads(
    signal: npt.NDArray[np.floating],
    sampling_rate: float,
    lead_names: Sequence[str],
    *,
    detection_rate: float = XQRS_RATE_HZ,
) -> npt.NDArray[np.int64]:
    """Detect in ``(leads, samples)``, lead after lead in the order of :data:`FALLBACK_LEADS`, then any other.

    The first lead with at least two beats decides; if none has two, the one with the most beats. Signals below
    ``detection_rate`` are interpolated to it; indices are those of the signal given either way.
    """
    if 0.0 < sampling_rate < detection_rate and signal.shape[-1] > 1:
        finer = resample(signal, sampling_rate, detection_rate)
        found = xqrs_in_leads(finer, detection_rate, lead_names, detection_rate=detection_rate)
        moved = np.rint(found * (sampling_rate / detection_rate)).astype(np.int64)
        return np.unique(moved[moved < signal.shape[-1]])
    names = normalize_lead_names(tuple(lead_names))
    order = [name for name in dict.fromkeys((*FALLBACK_LEADS, *names)) if name in names]
    best = np.zeros(0, dtype=np.int64)
    for name in order:
        peaks = xqrs(signal[names.index(name)], sampling_rate)
        if peaks.size >= 2:
            return peaks
        if peaks.size > best.size:
            best = peaks
    return best


def xqrs(
    row: npt.NDArray[np.floating], sampling_rate: float, *, refine: bool = False
) -> npt.NDArray[np.int64]:
    """Detect in one lead ``(samples,)`` in millivolts.

    Args:
        row: One lead; NaN is bridged.
        sampling_rate: Hertz.
        refine: Move each index to the largest deflection within 60 ms. XQRS alone marks the peak of its filtered
            signal, which can be some milliseconds away from the R wave.

    Returns:
        Ascending int64 indices; empty for flat, missing or too short signals.

    Raises:
        SamplingRateError: if the rate is not positive and finite.
    """
    if not 0.0 < sampling_rate < float("inf"):
        raise SamplingRateError(f"sampling rate must be positive, got {sampling_rate:g}", value=sampling_rate)
    nothing = np.zeros(0, dtype=np.int64)
    if sampling_rate < _MIN_SAMPLING_RATE_HZ or row.size < _MIN_DURATION_S * sampling_rate:
        return nothing
    filled, _ = bridge_gaps(row.astype(np.float64))
    if not np.isfinite(filled).all() or np.ptp(filled) < 1e-3:  # one microvolt: flat
        return nothing
    from wfdb.processing import XQRS

    try:
        with np.errstate(all="ignore"):
            detector = XQRS(sig=filled, fs=sampling_rate)
            detector.detect(verbose=False)
    # XQRS divides by and indexes with values it learnt, which can fail on signals without beats.
    except (ValueError, IndexError, ZeroDivisionError, FloatingPointError):
        return nothing
    peaks = np.asarray(detector.qrs_inds, dtype=np.int64)
    peaks = np.unique(peaks[(peaks >= 0) & (peaks < row.size)])
    return _refine(filled, peaks, sampling_rate) if refine else peaks


def _refine(
    row: npt.NDArray[np.floating], peaks: npt.NDArray[np.int64], sampling_rate: float
) -> npt.NDArray[np.int64]:
    reach, context = round(0.06 * sampling_rate), round(0.3 * sampling_rate)
    moved = []
    for peak in peaks.tolist():
        level = np.median(row[max(0, peak - context) : peak + context + 1])
        start = max(0, peak - reach)
        moved.append(start + int(np.abs(row[start : peak + reach + 1] - level).argmax()))
    return np.unique(np.array(moved, dtype=np.int64))
