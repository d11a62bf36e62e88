"""What looks wrong with a recording: flat, clipped, implausible or mislabelled leads.

Nothing here changes a signal or refuses one; every finding is a :class:`~ecg_hf.signal.record.Note`.
The default checks cost some tens of microseconds for a 10 s 12-lead recording, so reading includes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ecg_hf.signal.leads import normalize_lead_names
from ecg_hf.signal.record import Note

__all__ = ["check_quality"]

#: A QRS complex is 0.1 to 10 mV from peak to peak; 1000 times less or more is a wrong unit.
MIN_PEAK_TO_PEAK_MV = 0.1
MAX_PEAK_TO_PEAK_MV = 10.0
#: Electrode offsets up to this are seen in DC-coupled recordings.
MAX_OFFSET_MV = 5.0
#: Samples at exactly the extreme value this far from the mean, for this long, are a saturated amplifier.
CLIPPING_MIN_MV = 1.0
CLIPPING_MIN_S = 0.02
#: Deviation from Einthoven's and Goldberger's equations that rounding can't explain.
LIMB_TOLERANCE_MV = 0.05
LIMB_TOLERANCE_RELATIVE = 0.2

_LIMB_EQUATIONS = {
    "I + III = II": {"I": 1.0, "III": 1.0, "II": -1.0},
    "aVR = -(I + II)/2": {"aVR": 1.0, "I": 0.5, "II": 0.5},
    "aVL = I - II/2": {"aVL": 1.0, "I": -1.0, "II": 0.5},
    "aVF = II - I/2": {"aVF": 1.0, "II": -1.0, "I": 0.5},
}


def check_quality(
    signal: npt.NDArray[np.floating],
    sampling_rate: float,
    lead_names: Sequence[str | None],
    *,
    thorough: bool = False,
) -> tuple[Note, ...]:
    """Findings about a recording in millivolts.

    Codes: ``flat_lead``, ``all_flat``, ``clipping``, ``amplitude_implausible``, ``offset_implausible``,
    ``limb_leads_inconsistent``, and with ``thorough`` also ``heart_rate_implausible``. Leads without a
    valid sample are passed over (reading notes them as ``lead_missing``).

    Args:
        signal: ``(leads, samples)`` in mV; NaN allowed.
        sampling_rate: Hertz.
        lead_names: Names of the rows.
        thorough: Also detect heartbeats and judge the rate they imply, which finds wrong sampling rates.

    Returns:
        Notes, none for a recording that looks right.
    """
    names = normalize_lead_names(lead_names)
    low, high, mean = _statistics(signal)
    span = high - low
    notes: list[Note] = []
    if not (span > 0.0).all():
        notes += _flat_notes(span, names)
    largest = float(np.fmax.reduce(span))
    if 0.0 < largest < MIN_PEAK_TO_PEAK_MV:
        detail = f"no lead exceeds {largest:.2g} mV peak to peak; is the unit right?"
        notes.append(Note("amplitude_implausible", detail))
    elif largest > MAX_PEAK_TO_PEAK_MV:
        notes += _too_large_notes(signal, sampling_rate, span, names)
    if max(float(np.fmax.reduce(mean)), -float(np.fmin.reduce(mean))) > MAX_OFFSET_MV:
        for name, value in zip(names, mean.tolist(), strict=True):
            if abs(value) > MAX_OFFSET_MV:
                notes.append(Note("offset_implausible", f"mean is {value:.4g} mV", name))
    notes += _clipping_notes(signal, sampling_rate, names, low, high, mean)
    notes += _limb_notes(signal, names, largest)
    if thorough:
        notes += _heart_rate_notes(signal, sampling_rate, names)
    return tuple(notes)


Rows = npt.NDArray[np.floating]


def _statistics(signal: Rows) -> tuple[Rows, Rows, Rows]:
    """Minimum, maximum and mean of each lead over its valid samples; NaN for a lead without any."""
    low, high = signal.min(axis=1), signal.max(axis=1)
    if np.isnan(low).any():
        valid = ~np.isnan(signal)
        low, high = np.fmin.reduce(signal, axis=1), np.fmax.reduce(signal, axis=1)
        count = valid.sum(axis=1)
        total = np.where(valid, signal, 0.0).sum(axis=1, dtype=np.float64)
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return low, high, mean
    # A matrix product is several times faster than a reduction, and accurate enough for a threshold.
    mean = signal @ np.full(signal.shape[1], 1.0 / signal.shape[1], dtype=signal.dtype)
    return low, high, mean


def _flat_notes(span: Rows, names: Sequence[str]) -> list[Note]:
    judged = ~np.isnan(span)
    flat = judged & (span == 0.0)
    if not flat.any():
        return []
    if (flat == judged).all():
        return [Note("all_flat", "every lead is constant")]
    return [
        Note("flat_lead", "lead is constant", name)
        for name, is_flat in zip(names, flat, strict=True)
        if is_flat
    ]


def _too_large_notes(signal: Rows, sampling_rate: float, span: Rows, names: Sequence[str]) -> list[Note]:
    """Leads whose every-second excursion is too large; one movement artefact is not enough."""
    width = max(1, min(round(sampling_rate), signal.shape[1]))
    count = signal.shape[1] // width
    notes = []
    for row, name in enumerate(names):
        if not span[row] > MAX_PEAK_TO_PEAK_MV:
            continue
        windows = signal[row, : count * width].reshape(count, width)
        spans = np.fmax.reduce(windows, axis=1) - np.fmin.reduce(windows, axis=1)
        spans = spans[~np.isnan(spans)]
        typical = float(np.median(spans)) if spans.size else 0.0
        if typical > MAX_PEAK_TO_PEAK_MV:
            detail = f"{typical:.4g} mV peak to peak in a typical second; is the unit right?"
            notes.append(Note("amplitude_implausible", detail, name))
    return notes


def _clipping_notes(
    signal: Rows, sampling_rate: float, names: Sequence[str], low: Rows, high: Rows, mean: Rows
) -> list[Note]:
    """Leads that stay at exactly their extreme value, far from the mean, for 20 ms or more."""
    shortest = max(3, round(CLIPPING_MIN_S * sampling_rate))
    stride = max(1, shortest // 2)
    # A plateau of `shortest` samples holds two samples in every stride of half that: look only there first.
    sparse = signal[:, ::stride]
    notes = []
    for extreme, word in ((high, "highest"), (low, "lowest")):
        far = np.abs(extreme - mean) > CLIPPING_MIN_MV
        if not far.any():
            continue
        hits = np.add.reduce(sparse == extreme[:, None], axis=1, dtype=np.int32)
        for row in np.flatnonzero(far & (hits >= 2)).tolist():
            longest = _longest_run(signal[row] == extreme[row])
            if longest >= shortest and low[row] != high[row]:
                detail = f"{longest} samples in a row at the {word} value, {float(extreme[row]):.4g} mV"
                notes.append(Note("clipping", detail, names[row]))
    return notes


def _longest_run(mask: npt.NDArray[np.bool_]) -> int:
    padded = np.zeros(mask.size + 2, dtype=np.int8)
    padded[1:-1] = mask
    edges = np.flatnonzero(np.diff(padded))
    return int((edges[1::2] - edges[::2]).max()) if edges.size else 0


def _limb_notes(signal: Rows, names: tuple[str, ...], largest: float) -> list[Note]:
    """Equations between the limb leads that do not hold: swapped, mislabelled or damaged leads."""
    limb = [(row, name) for row, name in enumerate(names) if name in ("I", "II", "III", "aVR", "aVL", "aVF")]
    if len(limb) < 3 or not largest > 0.0:
        return []
    have = {name for _, name in limb}
    # Every eighth sample is plenty for a root mean square.
    few = signal[[row for row, _ in limb], :: 8 if signal.shape[1] >= 800 else 1]
    equations = [(text, terms) for text, terms in _LIMB_EQUATIONS.items() if have.issuperset(terms)]
    if not equations:
        return []
    weights = np.array(
        [[terms.get(name, 0.0) for _, name in limb] for _, terms in equations], dtype=few.dtype
    )
    if np.isnan(few).any():
        few = few[:, ~np.isnan(few).any(axis=0)]
        if not few.shape[1]:
            return []
    few = few - few.mean(axis=1, keepdims=True)
    residual = weights @ few
    size = np.sqrt(np.square(residual).mean(axis=1))
    typical = float(np.sqrt(np.square(few).mean(axis=1)).max())
    broken = size > max(LIMB_TOLERANCE_MV, LIMB_TOLERANCE_RELATIVE * typical)
    return [
        Note("limb_leads_inconsistent", f"{text} is off by {float(rms):.2g} mV (RMS)")
        for (text, _), rms, is_broken in zip(equations, size, broken, strict=True)
        if is_broken
    ]


def _heart_rate_notes(signal: Rows, sampling_rate: float, names: tuple[str, ...]) -> list[Note]:
    from ecg_hf.signal.heartbeats import detect_r_peaks_in_leads, heart_rate_bpm

    if signal.shape[1] < 3.0 * sampling_rate:
        return []
    rate = heart_rate_bpm(detect_r_peaks_in_leads(signal, sampling_rate, names), sampling_rate)
    if rate is None or 20.0 <= rate <= 300.0:
        return []
    return [Note("heart_rate_implausible", f"{rate:.0f} beats per minute; is the sampling rate right?")]
