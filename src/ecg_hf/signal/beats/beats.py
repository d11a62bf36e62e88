"""The heartbeat detector: QRS energy of all leads at once, for batches of recordings at any rate."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft
from scipy.ndimage import convolve1d, median_filter, uniform_filter1d
from scipy.signal import find_peaks

from ecg_hf.errors import SamplingRateError, SignalError
from ecg_hf.signal.gaps import bridge_gaps

__all__ = ["ENERGY_RATE_HZ", "MIN_RATE_HZ", "detect_beats", "detect_beats_in_batch"]

MIN_RATE_HZ = 50.0
"""Below this rate the band of the QRS complex, 5 to 20 Hz, can't be separated from the rest."""

ENERGY_RATE_HZ = 125.0
"""Rate of the energy, whatever the recording's: beats do not depend on the rate they were sampled at."""

Signals = npt.NDArray[np.floating]
Energy = npt.NDArray[np.float64]
Peaks = npt.NDArray[np.int64]

_BAND_HZ = (5.0, 20.0)
# Half the width of the transition bands, and how much of the recording is mirrored at its ends.
_FLANK_HZ = 2.0
_MARGIN_S = 0.5
# Long recordings are processed in pieces, because the scale and the quality of a lead change within hours.
_PIECE_S = 60.0
_MIN_DURATION_S = 0.5
# Records processed at once: a batch that exceeds the processor's cache takes longer than its records one by one.
_CACHED_VALUES = 2**19
# Ten microvolts in the QRS band: a lead below this holds only noise, which scaling would blow up.
_FLAT_MV = 0.01
# More than any amplifier delivers: such samples are invalid (the same limit as in ecg_hf.processing.gaps).
_MAX_AMPLITUDE = 1e10
# In heights of a QRS complex: an artefact, however high, counts no more than a large beat.
_HIGHEST = 1.5
_SMOOTHING_S = 0.1
_REFRACTORY_S = 0.22
_T_WAVE_S = 0.36
_LEVEL_BLOCK_S = 2.0
_QRS_REACH_S = 0.07
_CONTEXT_S = 0.15
_SPIKE_S = 0.016


def detect_beats(signal: Signals, sampling_rate: float) -> Peaks:
    """R peaks of one recording, detected on the energy of all its leads.

    Args:
        signal: ``(leads, samples)`` in millivolts or any proportional unit; NaN is bridged, missing leads may
            be zeros or NaN.
        sampling_rate: Hertz.

    Returns:
        Ascending int64 indices; empty for flat or too short signals and below 50 Hz.

    Raises:
        SignalError: if the signal is not ``(leads, samples)`` of real numbers.
        SamplingRateError: if the rate is not positive and finite.
    """
    if signal.ndim != 2:
        raise SignalError(f"expected (leads, samples), got shape {signal.shape}", value=signal.shape)
    return detect_beats_in_batch(signal[None], sampling_rate)[0]


def detect_beats_in_batch(signal: Signals, sampling_rate: float) -> list[Peaks]:
    """R peaks of recordings of one length: as :func:`detect_beats` of each, in a fraction of the time.

    The energy of a lead is the envelope of its 5-20 Hz band, divided by the 98th percentile, which is the height of
    its QRS complexes. Leads are weighted by how far their QRS complexes stand out from the background throughout,
    and by how well their energy follows that of the others, so that no noisy or loose electrode decides.

    Beats are maxima of the weighted energy at least 220 ms apart and above 0.35 of the local level, which is the
    median over 10 s of the largest energy in each 2 s. Of two within 360 ms the second counts as a T wave if it
    has less than 0.6 of the first one's energy. Gaps of more than 1.66 median intervals are searched again at 0.2 of
    the level. The R peak is where the weighted leads together deflect most, within 70 ms of that maximum.

    Args:
        signal: ``(records, leads, samples)``; see :func:`detect_beats`.
        sampling_rate: Hertz.

    Returns:
        Ascending int64 indices of each record.

    Raises:
        SignalError: if the signal is not ``(records, leads, samples)`` of real numbers.
        SamplingRateError: if the rate is not positive and finite.
    """
    if signal.ndim != 3 or signal.dtype.kind not in "iuf":
        raise SignalError(f"expected (records, leads, samples), got {signal.dtype} of shape {signal.shape}")
    if not 0.0 < sampling_rate < float("inf"):
        raise SamplingRateError(f"sampling rate must be positive, got {sampling_rate:g}", value=sampling_rate)
    samples = signal.shape[2]
    if 0 in signal.shape or sampling_rate < MIN_RATE_HZ or samples < _MIN_DURATION_S * sampling_rate:
        return [np.zeros(0, np.int64)] * len(signal)
    group = max(1, _CACHED_VALUES // (signal.shape[1] * samples))
    parts = (_detect(signal[k : k + group], sampling_rate) for k in range(0, len(signal), group))
    return [peaks for part in parts for peaks in part]


def _detect(signal: Signals, sampling_rate: float) -> list[Peaks]:
    samples = signal.shape[2]
    pieces = max(1, round(samples / (_PIECE_S * sampling_rate)))
    edges = np.linspace(0, samples, pieces + 1).round().astype(int).tolist()
    margin = round(_MARGIN_S * sampling_rate)
    found: list[list[Peaks]] = [[] for _ in range(len(signal))]
    energies: list[list[Energy]] = [[] for _ in range(len(signal))]
    weights = []
    step = sampling_rate / ENERGY_RATE_HZ
    for start, stop in itertools.pairwise(edges):
        first, last = max(0, start - margin), min(samples, stop + margin)
        filled = _filled(signal[:, :, first:last])
        energy, weight = _energy(filled, sampling_rate)
        weights.append(weight)
        # Counted from the start of the recording: rounding piece by piece would drift by seconds over hours.
        begin, end, offset = (round(place / step) for place in (start, stop, first))
        for row, own in zip(energies, energy, strict=True):
            row.append(own[begin - offset : end - offset])
    for record, parts in enumerate(energies):
        whole = np.concatenate(parts)
        if not whole.any():
            continue
        beats = _pick_beats(whole) * step
        piece = np.searchsorted(edges[1:-1], beats, side="right")
        found[record] = [
            _locate(signal[record], beats[piece == k], weights[k][record], sampling_rate)
            for k in np.unique(piece).tolist()
        ]
    return [np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.int64) for parts in found]


def _filled(signal: Signals) -> npt.NDArray[np.float32]:
    with np.errstate(invalid="ignore", over="ignore"):
        single = signal.astype(np.float32, copy=False)
        valid = np.abs(single) <= _MAX_AMPLITUDE
    if valid.all():
        return single
    filled: npt.NDArray[np.float32] = bridge_gaps(np.where(valid, single, np.float32(np.nan)))[0]
    return filled


def _energy(signal: npt.NDArray[np.float32], sampling_rate: float) -> tuple[Energy, Energy]:
    """``(records, energy samples)``, about 0.5 to 1 at a QRS complex, and the weight of each lead in it.

    Zeros for records in which no lead reaches 10 microvolts in the band.
    """
    envelope = _envelope(signal, sampling_rate)
    # The band is 15 Hz wide, so every other sample is enough for its distribution.
    sparse = envelope[..., ::2]
    high, middle = int(0.98 * (sparse.shape[-1] - 1)), sparse.shape[-1] // 2
    ordered = np.partition(sparse, (middle, high), axis=-1)
    scale, background = ordered[..., high], ordered[..., middle]
    usable = scale > _FLAT_MV
    safe = np.where(usable, scale, 1.0)
    power = np.square(np.minimum(envelope / safe[..., None], _HIGHEST))
    # The level that every 2 s reach, unlike a burst: 2.4 medians for Gaussian noise, ten or more for a clean lead.
    block = min(round(_LEVEL_BLOCK_S * ENERGY_RATE_HZ), envelope.shape[-1])
    whole = envelope[..., : envelope.shape[-1] // block * block]
    maxima = whole.reshape(*scale.shape, -1, block).max(axis=-1)
    quarter = maxima.shape[-1] // 4
    steady = np.minimum(np.partition(maxima, quarter, axis=-1)[..., quarter], safe)
    contrast = (steady / np.maximum(background, 1e-6 * safe)).clip(max=20.0)
    weight = np.where(usable, np.square(np.maximum(contrast - 2.4, 0.1)), 0.0)
    weight *= np.square(_agreement(power, weight))
    total = weight.sum(axis=1, keepdims=True)
    weight /= np.where(total > 0.0, total, 1.0)
    width = 2 * round(_SMOOTHING_S * ENERGY_RATE_HZ / 2) + 1
    window = np.hanning(width + 2)[1:-1]
    energy = np.einsum("rl,rls->rs", weight, power)
    smooth = convolve1d(energy, window / window.sum(), axis=-1, mode="nearest")
    return np.sqrt(np.maximum(smooth, 0.0)), weight


def _agreement(power: npt.NDArray[np.float32], weight: Energy) -> Energy:
    """Correlation of the energy of each lead with that of the others, ``(records, leads)``, at least 0.05."""
    if power.shape[1] < 3:
        return np.ones(weight.shape)
    clipped = np.minimum(power, 1.0)
    centred = clipped - clipped.mean(axis=-1, keepdims=True)
    weighted = centred * weight[..., None].astype(np.float32)
    others = weighted.sum(axis=1, keepdims=True) - weighted
    product = np.einsum("rls,rls->rl", centred, others)
    with np.errstate(under="ignore"):  # the energy of a flat lead is rounding, its square nothing
        norm = np.sqrt(np.square(centred).sum(axis=-1) * np.square(others).sum(axis=-1))
    return np.asarray((product / np.maximum(norm, 1e-12)).clip(min=0.05), dtype=np.float64)


def _envelope(signal: npt.NDArray[np.float32], sampling_rate: float) -> npt.NDArray[np.float32]:
    """Magnitude of the analytic 5-20 Hz band of every lead at :data:`ENERGY_RATE_HZ`.

    One Fourier transform there, two of a quarter of its length back: filter, rate conversion and envelope at once.
    """
    # If the rate is many times the band's, averaging neighbours is enough of an anti-aliasing filter.
    factor = max(1, int(sampling_rate // 240.0))
    if factor > 1:
        whole = signal.shape[2] // factor * factor
        signal = sum(signal[..., k:whole:factor] for k in range(1, factor)) + signal[..., :whole:factor]
        signal /= factor
        sampling_rate /= factor
    samples = signal.shape[2]
    margin = min(round(_MARGIN_S * sampling_rate), samples - 1)
    level = signal.mean(axis=-1, keepdims=True)
    extended = np.empty((*signal.shape[:2], samples + 2 * margin), np.float32)
    extended[..., margin : margin + samples] = signal - level
    # Mirrored instead of padded with zeros, because a step at the end would be the largest deflection of all.
    extended[..., :margin] = extended[..., 2 * margin : margin : -1]
    extended[..., margin + samples :] = extended[..., margin + samples - 2 : samples - 2 : -1]
    length = next_fast_len(extended.shape[2], real=True)
    size = round(length * ENERGY_RATE_HZ / sampling_rate)
    response = _band(length, sampling_rate)
    bins = min(len(response), size // 2)
    spectrum = rfft(extended, n=length, axis=-1, overwrite_x=True)[..., :bins] * response[:bins]
    real = irfft(spectrum, n=size, axis=-1)
    imaginary = irfft(-1j * spectrum, n=size, axis=-1, overwrite_x=True)
    magnitude = np.hypot(real, imaginary) * np.float32(size / length)
    # ``size`` is an integer, so the step only approximates that of the rate: at most half a sample off at the end.
    first = round(margin * size / length)
    kept = round(samples * ENERGY_RATE_HZ / sampling_rate)
    return np.asarray(magnitude[..., first : first + kept], dtype=np.float32)


@lru_cache(maxsize=64)
def _band(length: int, sampling_rate: float) -> npt.NDArray[np.float32]:
    """Response of the band-pass at the frequencies of a transform, up to where it vanishes; zero phase."""
    low, high = _BAND_HZ
    top = min(length // 2, int((high + 2 * _FLANK_HZ) * length / sampling_rate))
    frequency = np.arange(top) * (sampling_rate / length)
    rise = ((frequency - low) / (2 * _FLANK_HZ) + 0.5).clip(0.0, 1.0)
    fall = ((high - frequency) / (2 * _FLANK_HZ) + 0.5).clip(0.0, 1.0)
    return np.asarray(np.square(np.sin(0.5 * np.pi * rise) * np.sin(0.5 * np.pi * fall)), dtype=np.float32)


def _pick_beats(energy: Energy) -> Peaks:
    """Samples of the energy at which beats are."""
    relative = energy / _level(energy)
    candidates, _ = find_peaks(relative, height=0.2, distance=round(_REFRACTORY_S * ENERGY_RATE_HZ))
    strong = _without_t_waves(candidates[relative[candidates] >= 0.35], relative)
    return _search_back(strong, candidates, relative)


def _level(energy: Energy) -> Energy:
    """Local height of QRS complexes, robust against single artefacts and against pauses."""
    block = round(_LEVEL_BLOCK_S * ENERGY_RATE_HZ)
    n_blocks = max(1, energy.size // block)
    # The remainder joins the last block: a fraction of a second may hold no beat at all.
    maxima = np.maximum.reduceat(energy, np.arange(n_blocks) * block)
    level = median_filter(maxima, size=5, mode="nearest")
    # In a pause of more than 10 s the local maximum is noise and not the height of a beat.
    level = np.maximum(level, 0.2 * np.median(maxima))
    level = np.maximum(level, 1e-9)
    return np.asarray(level[np.minimum(np.arange(energy.size) // block, n_blocks - 1)])


def _without_t_waves(peaks: Peaks, relative: Energy) -> Peaks:
    kept: list[int] = []
    for peak in peaks.tolist():
        near = kept and peak - kept[-1] < _T_WAVE_S * ENERGY_RATE_HZ
        if near and relative[peak] < 0.6 * relative[kept[-1]]:
            continue
        kept.append(peak)
    return np.array(kept, dtype=np.int64)


def _search_back(peaks: Peaks, candidates: Peaks, relative: Energy) -> Peaks:
    if peaks.size < 3:
        return peaks
    gaps = np.diff(peaks)
    guard = _T_WAVE_S * ENERGY_RATE_HZ
    found = []
    for place in np.flatnonzero(gaps > 1.66 * np.median(gaps)).tolist():
        inside = candidates[(candidates > peaks[place] + guard) & (candidates < peaks[place + 1] - guard)]
        if inside.size:
            found.append(int(inside[relative[inside].argmax()]))
    return np.sort(np.concatenate([peaks, np.array(found, dtype=np.int64)]))


def _locate(signal: Signals, beats: Energy, weight: Energy, sampling_rate: float) -> Peaks:
    """Where the weighted leads of ``(leads, samples)`` deflect most near each beat, in samples."""
    reach = max(1, round(_QRS_REACH_S * sampling_rate))
    context = max(reach, round(_CONTEXT_S * sampling_rate))
    used = np.flatnonzero(weight > 0.01 * weight.max())
    centres = np.rint(beats).astype(np.int64)
    places = (centres[:, None] + np.arange(-context, context + 1)).clip(0, signal.shape[1] - 1)
    windows = _filled(signal[used][:, places].reshape(1, -1, places.shape[1]))
    windows = windows.reshape(len(used), len(centres), -1)
    # Measured from the level beside the complex, so that a lead's offset and wander don't count.
    beside = np.r_[: context - reach, context + reach + 1 : 2 * context + 1]
    deflection = windows - windows[..., beside].mean(axis=-1, keepdims=True)
    # Averaged over about 16 ms: pacing spikes are narrower than any wave of the heart, and low rates don't show them.
    width = 2 * round(_SPIKE_S * sampling_rate / 2 - 0.5) + 1
    if width > 1:
        deflection = uniform_filter1d(deflection, width, axis=-1)
    power = np.square(deflection)
    # Relative to the lead's own spread, hum and drift included, so that noisy leads count less.
    share = weight[used] / np.maximum(power.mean(axis=(1, 2)), 1e-12)
    size = np.einsum("l,lbs->bs", share, power)
    near = size[:, context - reach : context + reach + 1]
    # Of an R and an S wave of equal size, take the one nearer the middle of the complex, the same at every rate.
    near = near * (1.0 - 0.5 * np.square(np.linspace(-1.0, 1.0, near.shape[1])))
    return np.asarray(places[np.arange(len(centres)), near.argmax(axis=-1) + context - reach])
