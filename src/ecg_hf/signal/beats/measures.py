"""Hand-made measurements of one recording, vectorised over leads and beats."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfiltfilt

from ecg_hf.errors import SignalError
from ecg_hf.signal.beats.beats import detect_beats_in_batch
from ecg_hf.signal.beats.fiducials import Fiducials, find_fiducials
from ecg_hf.signal.beats.measure_table import BEAT_FEATURES, GLOBAL_FEATURES, RECORD_FEATURES, feature_names
from ecg_hf.signal.beats.median_beat import MedianBeat, align_beats, beat_windows, median_beat
from ecg_hf.signal.beats.order_statistics import median
from ecg_hf.signal.beats.rr_statistics import rr_statistics
from ecg_hf.signal.gaps import bridge_gaps
from ecg_hf.signal.leads import STANDARD_LEADS, arrange_leads
from ecg_hf.signal.resampling import resample

__all__ = ["ANALYSIS_RATE_HZ", "NUM_MEASURES", "handmade_features", "measure_records"]

Array = npt.NDArray[np.float64]

ANALYSIS_RATE_HZ = 250.0
"""Every recording is measured at this rate, so that features mean the same at 100, 257 and 1000 Hz."""

NUM_MEASURES = len(feature_names())
"""Measurements of one recording: 359."""

_BAND_HZ = (0.5, 40.0)
_MIN_DURATION_S = 1.0
# What the processor's cache holds of 10 s records.
_RECORDS_AT_ONCE = 8
_MS = 1000.0 / ANALYSIS_RATE_HZ
_FLOOR_MV2 = 1e-8  # a tenth of a microvolt squared: the logarithm of silence
_LEAD = {name: row for row, name in enumerate(STANDARD_LEADS)}
_LIMB, _CHEST = slice(0, 6), slice(6, 12)
_WITHOUT_AVR = [row for row, name in enumerate(STANDARD_LEADS) if name != "aVR"]
_BEAT = {name: column for column, name in enumerate(BEAT_FEATURES)}


def handmade_features(
    signal: npt.NDArray[np.floating], sampling_rate: float, lead_names: Sequence[str | None]
) -> npt.NDArray[np.float32]:
    """The features of :func:`ecg_hf.evaluation.baselines.feature_names` of one recording, signal only.

    The recording is brought to 250 Hz and filtered without delay, 0.5 to 40 Hz. Limb leads that are absent are
    computed from two others where there are two; other absent leads give NaN.

    Args:
        signal: ``(leads, samples)`` in millivolts; NaN is bridged, a lead of NaN alone is absent.
        sampling_rate: Hertz.
        lead_names: Names of the leads, in any order and accepted spelling.

    Returns:
        float32 ``(359,)``; NaN where a measurement is undefined: too few beats, no P wave, absent leads, less than a
        second of signal.

    Raises:
        SignalError: if the signal is not ``(leads, samples)`` of real numbers, or a name does not fit.
        SamplingRateError: for a rate that is not positive or cannot be related to 250 Hz.
    """
    if signal.ndim != 2 or signal.dtype.kind not in "iuf":
        raise SignalError(f"expected (leads, samples), got {signal.dtype} of shape {signal.shape}")
    features: npt.NDArray[np.float32] = measure_records(signal[None], sampling_rate, lead_names)[0]
    return features


def measure_records(
    signal: npt.NDArray[np.floating],
    sampling_rate: float,
    lead_names: Sequence[str | None],
    lead_mask: npt.NDArray[np.integer] | npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.float32]:
    """:func:`handmade_features` of a batch, in a fraction of the time.

    Args:
        signal: ``(batch, leads, samples)`` in millivolts; NaN is bridged, a lead of NaN alone is absent.
        sampling_rate: Hertz.
        lead_names: Names of the leads.
        lead_mask: ``(batch, leads)``, 0 for leads that are absent.

    Returns:
        float32 ``(batch, 359)``, NaN where undefined.

    Raises:
        SignalError, SamplingRateError: see :func:`handmade_features`.
    """
    result = np.full((len(signal), NUM_MEASURES), np.nan, np.float32)
    if signal.shape[2] < _MIN_DURATION_S * sampling_rate:
        return result
    values = signal.astype(np.float32, copy=False)
    finite = np.isfinite(values)
    there = finite.any(axis=2)
    if lead_mask is not None:
        there &= np.asarray(lead_mask, bool)
    if not finite.all():
        values = np.where(finite, values, np.float32(np.nan))
    patterns, pattern_of = np.unique(there, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        if not pattern.any():
            continue
        rows = np.flatnonzero(pattern_of.reshape(-1) == number)
        names = [name for name, one in zip(lead_names, pattern, strict=True) if one]
        for start in range(0, len(rows), _RECORDS_AT_ONCE):
            part = rows[start : start + _RECORDS_AT_ONCE]
            result[part] = _measure(values[part][:, pattern], sampling_rate, names)
    return result


def _measure(
    values: npt.NDArray[np.float32], sampling_rate: float, names: Sequence[str | None]
) -> list[npt.NDArray[np.float32]]:
    """Features of records ``(records, leads, samples)`` in each of which every lead has a finite sample."""
    arranged, present, _ = arrange_leads(values, names, STANDARD_LEADS)
    filled = bridge_gaps(np.ascontiguousarray(arranged))[0]
    raw = resample(filled, sampling_rate, ANALYSIS_RATE_HZ).astype(np.float64)
    clean = sosfiltfilt(_sections(), raw, axis=-1)
    found = detect_beats_in_batch(clean[:, present], ANALYSIS_RATE_HZ)
    per_record = _record_features(raw, clean)
    return [
        _features_of_one(own_clean, present, peaks, own)
        for own_clean, peaks, own in zip(clean, found, per_record, strict=True)
    ]


def _features_of_one(
    clean: Array, present: npt.NDArray[np.bool_], peaks: npt.NDArray[np.int64], per_record: Array
) -> npt.NDArray[np.float32]:
    """Features of one record ``(12, samples)`` at 250 Hz, its beats and what does not depend on beats being known."""
    per_beat = np.full((len(STANDARD_LEADS), len(BEAT_FEATURES)), np.nan)
    overall = np.full(len(GLOBAL_FEATURES), np.nan)
    peaks = align_beats(clean[present], peaks, ANALYSIS_RATE_HZ)
    rr = np.diff(peaks) / ANALYSIS_RATE_HZ
    if len(peaks):
        beat = median_beat(clean, peaks, ANALYSIS_RATE_HZ)
        marks = find_fiducials(_only(beat, present), median(rr) if rr.size else None)
        if marks is not None:
            per_beat = _beat_features(beat, marks)
            per_beat[~present] = np.nan
            overall = _global_features(beat, marks, per_beat, clean, present)
            per_record[:, 4:] = _between_beats(clean, beat, marks)
    per_record[~present] = np.nan
    statistics = rr_statistics(peaks, ANALYSIS_RATE_HZ)
    return np.concatenate([statistics, per_beat.ravel(), per_record.ravel(), overall]).astype(np.float32)


@cache
def _sections() -> Array:
    return np.asarray(butter(2, _BAND_HZ, "bandpass", fs=ANALYSIS_RATE_HZ, output="sos"))


def _only(beat: MedianBeat, present: npt.NDArray[np.bool_]) -> MedianBeat:
    """The leads that are there: absent ones would weaken every mean over leads."""
    return MedianBeat(
        beat.signal[present], beat.origin, beat.sampling_rate, beat.r_peaks, beat.similarity, beat.n_used
    )


def _beat_features(beat: MedianBeat, marks: Fiducials) -> Array:
    """float64 ``(leads, 20)`` in the order of :data:`BEAT_FEATURES`."""
    onset, offset = marks.qrs_onset, marks.qrs_offset
    last = beat.signal.shape[1] - 1
    level = beat.signal[:, max(0, onset - 5) : max(1, onset)].mean(axis=1, keepdims=True)
    wave = beat.signal - level
    qrs = wave[:, onset : offset + 1]
    places = np.arange(qrs.shape[1])
    r_at = qrs.argmax(axis=1)[:, None]
    after = np.where(places >= r_at, qrs, 0.0)
    s_at = after.argmin(axis=1)[:, None]
    before = np.where(places <= r_at, qrs, 0.0)
    result = np.full((len(wave), len(BEAT_FEATURES)), np.nan)
    result[:, 0] = np.minimum(before.min(axis=1), 0.0)
    result[:, 1] = np.maximum(qrs.max(axis=1), 0.0)
    result[:, 2] = np.minimum(after.min(axis=1), 0.0)
    result[:, 3] = np.maximum(np.where(places > s_at, qrs, 0.0).max(axis=1), 0.0)
    result[:, 4] = qrs.max(axis=1) - qrs.min(axis=1)
    result[:, 5] = qrs.sum(axis=1) * _MS
    result[:, 6] = np.abs(qrs).sum(axis=1) * _MS
    result[:, 7] = r_at[:, 0] * _MS
    # A QS complex has no R wave before which to look: its whole width counts.
    no_r = result[:, 1] < 0.05
    result[:, 8] = np.where(no_r, (qrs < -0.03).sum(axis=1), (before < -0.03).sum(axis=1)) * _MS
    result[:, 9] = _turns(qrs)
    at = [min(offset + round(ms / _MS), last) for ms in (0.0, 40.0, 80.0)]
    result[:, 10:13] = wave[:, at]
    result[:, 13] = (wave[:, at[2]] - wave[:, at[0]]) / 0.08
    if marks.t_peak is not None:
        end = last if marks.t_end is None else min(last, int(marks.t_end))
        end = max(end, marks.t_peak)
        t_wave = wave[:, min(at[2], marks.t_peak) : end + 1]
        result[:, 14], result[:, 15] = t_wave.max(axis=1), t_wave.min(axis=1)
        result[:, 16] = t_wave.sum(axis=1) * _MS
        result[:, 17] = (np.abs(t_wave).argmax(axis=1) + min(at[2], marks.t_peak) - onset) * _MS
    if marks.p_onset is not None and marks.p_offset is not None:
        p_wave = _above_its_ends(beat.signal[:, marks.p_onset : marks.p_offset + 1])
        result[:, 18], result[:, 19] = p_wave.max(axis=1), p_wave.min(axis=1)
    return result


def _above_its_ends(part: Array) -> Array:
    ramp = np.linspace(0.0, 1.0, part.shape[1])
    return part - (part[:, :1] * (1.0 - ramp) + part[:, -1:] * ramp)


def _turns(qrs: Array, least_mv: float = 0.05) -> Array:
    """Slope reversals between values at least ``least_mv`` apart, per lead: hysteresis on the running extremum."""
    turns = []
    # Plain numbers: an array operation on twelve of them costs as much as all twelve.
    for first, *others in qrs.tolist():
        extreme, direction, count = first, 0, 0
        for value in others:
            moved = value - extreme
            if moved * direction > 0:
                extreme = value
            elif abs(moved) >= least_mv:
                count += direction != 0
                extreme, direction = value, 1 if moved > 0 else -1
        turns.append(count)
    return np.array(turns, dtype=np.float64)


def _record_features(raw: Array, clean: Array) -> Array:
    """float64 ``(records, leads, 6)`` in the order of :data:`RECORD_FEATURES`; NaN for what depends on beats."""
    result = np.full((*clean.shape[:2], len(RECORD_FEATURES)), np.nan)
    size = clean.shape[2]
    low, high = int(0.01 * (size - 1)), int(0.99 * (size - 1))
    ordered = np.partition(clean, (low, high), axis=2)
    result[..., 0] = clean.std(axis=2)
    result[..., 1] = ordered[..., high] - ordered[..., low]
    # Means over two seconds keep what is slower than the band and next to nothing of the beats.
    block = min(size, round(2.0 * ANALYSIS_RATE_HZ))
    blocks = raw[..., : size // block * block].reshape(*raw.shape[:2], -1, block).mean(axis=3)
    result[..., 2] = _log(blocks.var(axis=2))
    result[..., 3] = _log(np.square(np.diff(raw, 2, axis=2)).mean(axis=2))
    return result


def _between_beats(clean: Array, beat: MedianBeat, marks: Fiducials) -> Array:
    """The last two of :data:`RECORD_FEATURES`, float64 ``(leads, 2)``: what the median beat leaves unexplained."""
    size = clean.shape[1]
    residual = clean.copy()
    quiet = np.ones(size, dtype=bool)
    middles = (beat.r_peaks[1:] + beat.r_peaks[:-1]) // 2
    starts, stops = [0, *middles.tolist()], [*middles.tolist(), size]
    width = beat.signal.shape[1]
    for peak, left, right in zip(beat.r_peaks.tolist(), starts, stops, strict=True):
        begin = peak - beat.origin
        first, stop = max(left, begin), min(right, begin + width)
        residual[:, first:stop] -= beat.signal[:, first - begin : stop - begin]
        quiet[max(0, begin + marks.qrs_onset - 5) : max(0, begin + marks.qrs_offset + 6)] = False
    residual *= quiet
    spectrum = np.square(np.abs(np.fft.rfft(residual, axis=1)))
    frequency = np.fft.rfftfreq(size, 1.0 / ANALYSIS_RATE_HZ)
    total = spectrum.sum(axis=1)
    slow = spectrum[:, (frequency >= 4.0) & (frequency <= 10.0)].sum(axis=1)
    power = _log(np.square(residual).sum(axis=1) / max(1, int(quiet.sum())))
    return np.stack([power, slow / np.maximum(total, 1e-12)], axis=1)


def _log(power: Array) -> Array:
    return np.log10(np.maximum(power, _FLOOR_MV2))


def _axis(x: float, y: float) -> tuple[float, float]:
    """Direction in the frontal plane of what measures ``x`` in lead I and ``y`` in aVF."""
    y *= 2.0 / 3.0**0.5  # Goldberger's leads are shorter than Einthoven's
    length = float(np.hypot(x, y))
    return (x / length, y / length) if length > 1e-6 else (float("nan"), float("nan"))


def _global_features(
    beat: MedianBeat, marks: Fiducials, per_beat: Array, clean: Array, present: npt.NDArray[np.bool_]
) -> Array:
    """float64 ``(30,)`` in the order of :data:`GLOBAL_FEATURES`."""

    def of(lead: str, feature: str) -> float:
        return float(per_beat[_LEAD[lead], _BEAT[feature]])

    rr = np.diff(beat.r_peaks) / ANALYSIS_RATE_HZ
    qrs_ms = (marks.qrs_offset - marks.qrs_onset) * _MS
    qt_ms = float("nan") if marks.t_end is None else (marks.t_end - marks.qrs_onset) * _MS
    pr_ms = p_ms = jt_ms = p_terminal = float("nan")
    p_x = p_y = 0.0
    if marks.p_onset is not None and marks.p_peak is not None and marks.p_offset is not None:
        pr_ms = (marks.qrs_onset - marks.p_onset) * _MS
        p_ms = (marks.p_offset - marks.p_onset) * _MS
        p_wave = _above_its_ends(beat.signal[:, marks.p_onset : marks.p_offset + 1])
        half = p_wave[_LEAD["V1"], p_wave.shape[1] // 2 :]
        p_terminal = float(half.mean()) if present[_LEAD["V1"]] else float("nan")
        p_x = of("I", "p_max_mv") + of("I", "p_min_mv")
        p_y = of("aVF", "p_max_mv") + of("aVF", "p_min_mv")
    if marks.t_peak is not None:
        jt_ms = (marks.t_peak - marks.qrs_offset) * _MS
    qrs_axis = _axis(of("I", "qrs_net_area_mv_ms"), of("aVF", "qrs_net_area_mv_ms"))
    t_axis = _axis(of("I", "t_area_mv_ms"), of("aVF", "t_area_mv_ms"))
    angle = np.degrees(np.arccos(np.clip(qrs_axis[0] * t_axis[0] + qrs_axis[1] * t_axis[1], -1.0, 1.0)))
    cornell = of("aVL", "r_mv") - of("V3", "s_mv")
    r, s = per_beat[:, _BEAT["r_mv"]], -per_beat[:, [_BEAT["q_mv"], _BEAT["s_mv"]]].min(axis=1)
    with np.errstate(invalid="ignore"):
        balance = (r - s) / np.maximum(r + s, 0.01)
        taller = np.append(r[_CHEST] > s[_CHEST], True)
    deviating = beat.similarity < 0.85
    # A beat's prematurity is that of the interval before it; the first one has none.
    early = rr < 0.88 * median(rr) if rr.size else np.zeros(0, dtype=bool)
    several = rr.size >= 2
    st_40, st_80 = (per_beat[_WITHOUT_AVR, _BEAT[name]] for name in ("st_40_mv", "st_80_mv"))
    return np.array(
        [
            qrs_ms,
            pr_ms,
            p_ms,
            qt_ms,
            qt_ms / float(np.cbrt(median(rr))) if rr.size else np.nan,
            jt_ms,
            np.log10(marks.p_prominence),
            *qrs_axis,
            *t_axis,
            *_axis(p_x, p_y),
            angle,
            np.fmax(of("V5", "r_mv"), of("V6", "r_mv")) - of("V1", "s_mv"),
            cornell,
            cornell * qrs_ms,
            _largest(per_beat[_LIMB, _BEAT["qrs_peak_to_peak_mv"]]),
            _largest(per_beat[_CHEST, _BEAT["qrs_peak_to_peak_mv"]]),
            float(taller.argmax() + 1) if present[_CHEST].all() else np.nan,
            balance[_LEAD["V1"]],
            balance[_LEAD["V6"]],
            p_terminal,
            median(beat.similarity),
            deviating.mean(),
            (early & deviating[1:]).mean() if several else np.nan,
            (early & ~deviating[1:]).mean() if several else np.nan,
            _p_consistency(beat, marks, clean[present], present),
            _largest(st_40),
            -_largest(-st_80),
        ]
    )


def _largest(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.max()) if known.size else float("nan")


def _p_consistency(beat: MedianBeat, marks: Fiducials, clean: Array, present: npt.NDArray[np.bool_]) -> float:
    """Whether every beat has the same P wave: low in atrial fibrillation."""
    if marks.p_onset is None or marks.qrs_onset - marks.p_onset < 8 or beat.r_peaks.size < 3:
        return float("nan")
    windows = beat_windows(clean, beat.r_peaks, beat.origin - marks.p_onset, marks.qrs_onset - beat.origin)
    windows = windows - windows.mean(axis=2, keepdims=True)
    template = beat.signal[present, marks.p_onset : marks.qrs_onset + 1]
    template = template - template.mean(axis=1, keepdims=True)
    product = np.einsum("blw,lw->b", windows, template)
    power = np.einsum("blw,blw->b", windows, windows) * np.square(template).sum()
    return median(product / np.sqrt(np.maximum(power, 1e-12)))
