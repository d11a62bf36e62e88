"""What looks wrong with a recording: flat, clipped, implausible or mislabelled leads.

These checks neither change nor refuse a signal; every finding is a :class:`~ecg_hf.signal.record.Note`.
The default checks cost some tens of microseconds for a 10 s 12-lead recording, so reading includes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.signal import find_peaks

from ecg_hf.signal.gaps import bridge_gaps
from ecg_hf.signal.leads import LIMB_LEADS, normalize_lead_names
from ecg_hf.signal.record import Note

__all__ = ["check_quality"]

#: A QRS complex is 0.1 to 10 mV from peak to peak; 1000 times less or more is a wrong unit.
MIN_PEAK_TO_PEAK_MV = 0.1
MAX_PEAK_TO_PEAK_MV = 10.0
#: Electrode offsets up to this are seen in DC-coupled recordings.
MAX_OFFSET_MV = 5.0
#: Samples at exactly the extreme value this far from the mean, for 20 ms, are a saturated amplifier.
CLIPPING_MIN_MV = 1.0
MIN_PLATEAU_SAMPLES = 3
SPARSE_STEP_S = 0.02
#: Deviation from Einthoven's and Goldberger's equations, in steps of the signal over 20 ms, that neither
#: rounding nor noise explains (exchanged leads deviate by about the size of the steps).
LIMB_TOLERANCE_MV = 0.02
LIMB_TOLERANCE_RELATIVE = 0.5

MIN_HEART_RATE_BPM = 20.0
MAX_HEART_RATE_BPM = 300.0
MIN_RHYTHM_S = 3.0
MIN_RHYTHM_RATE_HZ = 20.0

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
    valid sample are skipped (reading notes them as ``lead_missing``).

    Args:
        signal: ``(leads, samples)`` in mV; NaN allowed.
        sampling_rate: Hertz.
        lead_names: Names of the rows.
        thorough: Also detect heartbeats and judge the rate they imply, which finds wrong sampling rates.

    Returns:
        Notes, none for a recording that looks right.
    """
    names = normalize_lead_names(lead_names)
    # Every 20 ms: each plateau worth reporting holds one of these samples, and so does each QRS complex.
    stride = max(1, round(SPARSE_STEP_S * sampling_rate))
    sparse = np.ascontiguousarray(signal[:, ::stride])
    lows, highs, means = _statistics(signal, sparse)
    notes: list[Note] = []
    constant, too_large, off, extreme = [], [], [], []
    largest, judged = 0.0, 0
    # A dozen comparisons of plain floats cost less than one array operation.
    for row, (low, high, mean) in enumerate(zip(lows, highs, means, strict=True)):
        span = high - low
        if span != span:
            continue
        judged += 1
        largest = max(largest, span)
        if span == 0.0:
            constant.append(row)
        elif span > MAX_PEAK_TO_PEAK_MV:
            too_large.append(row)
        if not -MAX_OFFSET_MV <= mean <= MAX_OFFSET_MV:
            off.append(row)
        if high - mean > CLIPPING_MIN_MV:
            extreme.append((row, high, "highest"))
        if mean - low > CLIPPING_MIN_MV:
            extreme.append((row, low, "lowest"))
    if constant and len(constant) == judged:
        notes.append(Note("all_flat", "every lead is constant"))
    else:
        notes += [Note("flat_lead", "lead is constant", names[row]) for row in constant]
        if 0.0 < largest < MIN_PEAK_TO_PEAK_MV:
            detail = f"no lead exceeds {largest:.2g} mV peak to peak; is the unit right?"
            notes.append(Note("amplitude_implausible", detail))
    for row in too_large:
        notes += _too_large_notes(signal[row], sampling_rate, names[row])
    notes += [Note("offset_implausible", f"mean is {means[row]:.4g} mV", names[row]) for row in off]
    notes += _clipping_notes(signal, sparse, stride, names, extreme)
    if largest > 0.0:
        notes += _limb_notes(sparse, names)
    if thorough:
        notes += _heart_rate_notes(signal, sampling_rate)
    return tuple(notes)


Rows = npt.NDArray[np.floating]


def _statistics(signal: Rows, sparse: Rows) -> tuple[list[float], list[float], list[float]]:
    """Minimum, maximum and approximate mean of each lead's valid samples; NaN for leads without any."""
    # ufunc.reduce, not ndarray.min and .mean: their Python wrappers cost as much as the work itself.
    lows: list[float] = np.minimum.reduce(signal, axis=1).tolist()
    if not any(low != low for low in lows):
        highs = np.maximum.reduce(signal, axis=1).tolist()
        means = [total / sparse.shape[1] for total in np.add.reduce(sparse, axis=1).tolist()]
        return lows, highs, means
    return _statistics_of_valid(signal)


def _statistics_of_valid(signal: Rows) -> tuple[list[float], list[float], list[float]]:
    valid = ~np.isnan(signal)
    total = np.where(valid, signal, 0.0).sum(axis=1, dtype=np.float64)
    means = total / np.maximum(valid.sum(axis=1), 1)
    return np.fmin.reduce(signal, axis=1).tolist(), np.fmax.reduce(signal, axis=1).tolist(), means.tolist()


def _too_large_notes(lead: Rows, sampling_rate: float, name: str) -> list[Note]:
    """Whether the excursion in a typical second is too large; one movement artefact is not enough."""
    width = max(1, min(round(sampling_rate), lead.size))
    windows = lead[: lead.size // width * width].reshape(-1, width)
    spans = np.fmax.reduce(windows, axis=1) - np.fmin.reduce(windows, axis=1)
    spans = spans[~np.isnan(spans)]
    typical = float(np.median(spans)) if spans.size else 0.0
    if typical <= MAX_PEAK_TO_PEAK_MV:
        return []
    detail = f"{typical:.4g} mV peak to peak in a typical second; is the unit right?"
    return [Note("amplitude_implausible", detail, name)]


def _clipping_notes(
    signal: Rows, sparse: Rows, stride: int, names: Sequence[str], extremes: Sequence[tuple[int, float, str]]
) -> list[Note]:
    """Leads that stay at exactly their extreme value, far from the mean, for 20 ms or more."""
    notes: list[Note] = []
    if not extremes:
        return notes
    shortest = max(MIN_PLATEAU_SAMPLES, stride)
    # fmax and fmin ignore NaN. Most leads drop out here, because their extreme is not among the sparse samples.
    reached = {
        "highest": np.fmax.reduce(sparse, axis=1).tolist(),
        "lowest": np.fmin.reduce(sparse, axis=1).tolist(),
    }
    for row, value, word in extremes:
        if reached[word][row] != value:
            continue
        hits = np.flatnonzero(sparse[row] == value)
        # Most hits are the tips of single beats; a plateau continues beside the sample.
        lead = signal[row]
        for hit in hits.tolist():
            at = hit * stride
            if (at and lead[at - 1] == value) or (at + 1 < lead.size and lead[at + 1] == value):
                longest = _longest_run(lead == value)
                if longest >= shortest:
                    detail = f"{longest} samples in a row at the {word} value, {value:.4g} mV"
                    notes.append(Note("clipping", detail, names[row]))
                break
    return notes


def _longest_run(mask: npt.NDArray[np.bool_]) -> int:
    padded = np.zeros(mask.size + 2, dtype=np.int8)
    padded[1:-1] = mask
    edges = np.flatnonzero(np.diff(padded))
    return int((edges[1::2] - edges[::2]).max()) if edges.size else 0


@lru_cache(maxsize=256)
def _limb_plan(names: tuple[str, ...]) -> tuple[slice | list[int], list[str], npt.NDArray[np.float32]]:
    """Rows of the limb leads, the equations that can be checked, and each one's weights' outer product."""
    rows = [row for row, name in enumerate(names) if name in LIMB_LEADS]
    have = [names[row] for row in rows]
    equations = [text for text, terms in _LIMB_EQUATIONS.items() if terms.keys() <= set(have)]
    if not equations:
        return rows, [], np.zeros((0, 0), dtype=np.float32)
    weights = np.array([[_LIMB_EQUATIONS[text].get(name, 0.0) for name in have] for text in equations])
    squares = (weights[:, :, None] * weights[:, None, :]).reshape(len(equations), -1).astype(np.float32)
    if rows == list(range(rows[0], rows[-1] + 1)):
        return slice(rows[0], rows[-1] + 1), equations, squares
    return rows, equations, squares


def _limb_notes(sparse: Rows, names: tuple[str, ...]) -> list[Note]:
    """Equations between the limb leads that do not hold: swapped, mislabelled or damaged leads.

    Looks at the steps between samples 20 ms apart: they hold the QRS complexes, which the equations are
    about, and not the slow electrode drift, which recorders filter differently in each lead.
    """
    rows, equations, weights = _limb_plan(names)
    if not equations or sparse.shape[1] < 2:
        return []
    limb = sparse[rows]
    steps = limb[:, 1:] - limb[:, :-1]
    # All mean squares, of leads and of their sums, follow from the products of the leads with each other.
    with np.errstate(over="ignore"):
        products = steps @ steps.T
    powers = products.diagonal().tolist()
    if sum(powers) != sum(powers):
        steps = steps[:, ~np.isnan(steps).any(axis=0)]
        products = steps @ steps.T
        powers = products.diagonal().tolist()
    count = max(1, steps.shape[1])
    limit = max(LIMB_TOLERANCE_MV, LIMB_TOLERANCE_RELATIVE * math.sqrt(max(powers) / count))
    deviations = (weights @ products.reshape(-1)).tolist()
    if max(deviations) <= limit * limit * count:
        return []
    return [
        Note(
            "limb_leads_inconsistent",
            f"{text} is off by {math.sqrt(square / count):.2g} mV per {SPARSE_STEP_S * 1000:g} ms (RMS)",
        )
        for text, square in zip(equations, deviations, strict=True)
        if square > limit * limit * count
    ]


def _heart_rate_notes(signal: Rows, sampling_rate: float) -> list[Note]:
    from ecg_hf.signal.beats.heartbeats import detect_r_peaks, heart_rate_bpm

    # Below some 20 Hz nothing of a QRS complex is left, whatever the duration.
    if signal.shape[1] < MIN_RHYTHM_S * sampling_rate or sampling_rate < MIN_RHYTHM_RATE_HZ:
        return []
    rate = _rapid_rate(signal, sampling_rate)
    if rate is None:
        rate = heart_rate_bpm(detect_r_peaks(signal, sampling_rate), sampling_rate)
    if rate is None or MIN_HEART_RATE_BPM <= rate <= MAX_HEART_RATE_BPM:
        return []
    return [Note("heart_rate_implausible", f"{rate:.0f} beats per minute; is the sampling rate right?")]


def _rapid_rate(signal: Rows, sampling_rate: float) -> float | None:
    """Rate of a regular train of sharp deflections if it is faster than any heart, else None.

    A detector of beats can't see this: its refractory period of 220 ms makes it skip every other such beat.
    """
    filled, _ = bridge_gaps(signal)
    energy = np.square(np.diff(filled, axis=1)).sum(axis=0, dtype=np.float64)
    width = max(1, round(0.04 * sampling_rate))
    smooth = np.convolve(energy, np.full(width, 1.0 / width), mode="same")
    if not smooth.max() > 0.0:
        return None
    peaks, _ = find_peaks(
        smooth, height=0.4 * np.percentile(smooth, 99), distance=max(1, round(0.06 * sampling_rate))
    )
    if peaks.size < 8:
        return None
    intervals = np.diff(peaks)
    middle = float(np.median(intervals))
    regular = np.mean(np.abs(intervals - middle) <= 0.15 * middle)
    rate = 60.0 * sampling_rate / middle
    return rate if rate > MAX_HEART_RATE_BPM and regular > 0.8 else None
