"""Beats from the QRS energy of all leads at once: for many leads and low sampling rates, vectorised over leads."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import convolve1d, median_filter
from scipy.signal import butter, find_peaks, sosfiltfilt

from ecg_hf.errors import SamplingRateError, SignalError
from ecg_hf.signal.gaps import bridge_gaps

__all__ = ["MIN_ENERGY_RATE_HZ", "detect_beats", "qrs_energy"]

MIN_ENERGY_RATE_HZ = 50.0
"""Below it the band of the QRS complex, 5 to 20 Hz, cannot be told from the rest."""

_BAND_HZ = (5.0, 20.0)
_SMOOTHING_S = 0.1
# Ten microvolts in the QRS band: a lead below it holds no beats, only noise to be blown up.
_FLAT_MV = 0.01
_REFRACTORY_S = 0.22
_T_WAVE_S = 0.36
_LEVEL_BLOCK_S = 2.0


def qrs_energy(signal: npt.NDArray[np.floating], sampling_rate: float) -> npt.NDArray[np.float64]:
    """Magnitude of the 5-20 Hz band over all leads, each on its own scale, smoothed over 100 ms.

    A lead is divided by the 98th percentile of its magnitude in the band, which is the height of its QRS complexes,
    and limited to three times that; leads whose QRS complexes stand out from their own background count most.

    Args:
        signal: Finite ``(leads, samples)`` in millivolts.
        sampling_rate: Hertz.

    Returns:
        float64 ``(samples,)``, about 0.5 to 1 at a QRS complex; zeros if no lead reaches 10 microvolts in the band.

    Raises:
        SamplingRateError: below :data:`MIN_ENERGY_RATE_HZ`.
        SignalError: if the signal is not ``(leads, samples)`` of finite numbers.
    """
    if not MIN_ENERGY_RATE_HZ <= sampling_rate < float("inf"):
        raise SamplingRateError(
            f"QRS energy needs at least {MIN_ENERGY_RATE_HZ:g} Hz, got {sampling_rate:g}", value=sampling_rate
        )
    if signal.ndim != 2 or signal.dtype.kind not in "iuf" or not np.isfinite(signal).all():
        raise SignalError(f"expected finite (leads, samples), got {signal.dtype} {signal.shape}")
    if 0 in signal.shape or signal.shape[1] < sampling_rate / 2:
        return np.zeros(signal.shape[-1])
    band = np.abs(sosfiltfilt(_qrs_band(sampling_rate), signal.astype(np.float64), axis=-1))
    ordered = np.sort(band, axis=-1)
    size = ordered.shape[1]
    scale, background = ordered[:, int(0.98 * (size - 1))], ordered[:, size // 2]
    usable = scale > _FLAT_MV
    if not usable.any():
        return np.zeros(size)
    weight = (scale[usable] / np.maximum(background[usable], 1e-6 * scale[usable])).clip(max=20.0)
    unit = np.minimum(band[usable] / scale[usable, None], 3.0)
    power = np.square(unit).T @ (weight / weight.sum())
    width = max(3, 2 * round(_SMOOTHING_S * sampling_rate / 2) + 1)
    window = np.hanning(width + 2)[1:-1]
    smooth = convolve1d(power, window / window.sum(), mode="nearest")
    return np.asarray(np.sqrt(np.maximum(smooth, 0.0)))


@lru_cache(maxsize=32)
def _qrs_band(sampling_rate: float) -> npt.NDArray[np.float64]:
    # Designing the filter takes longer than using it.
    return np.asarray(butter(2, _BAND_HZ, "bandpass", fs=sampling_rate, output="sos"))


def detect_beats(signal: npt.NDArray[np.floating], sampling_rate: float) -> npt.NDArray[np.int64]:
    """Sample indices of the QRS complexes, found on the energy of all leads.

    Maxima of :func:`qrs_energy` at least 220 ms apart and above 0.35 of the local level, which is the median over
    10 s of the largest energy in each 2 s. Of two within 360 ms the second is taken for a T wave if it has less than
    0.6 of the first one's energy. Gaps of more than 1.66 median intervals are searched again at 0.2 of the level.

    Args:
        signal: ``(leads, samples)`` in millivolts; NaN is bridged.
        sampling_rate: Hertz.

    Returns:
        Ascending int64 indices of the energetic middle of each QRS complex (see
        :func:`ecg_hf.signal.median_beat.align_beats` for a common fiducial); empty for flat or too short signals
        and below 50 Hz.

    Raises:
        SignalError: if the signal is not ``(leads, samples)`` of real numbers.
    """
    nothing = np.zeros(0, dtype=np.int64)
    if signal.ndim != 2 or signal.dtype.kind not in "iuf":
        raise SignalError(f"expected (leads, samples), got {signal.dtype} of shape {signal.shape}")
    if sampling_rate < MIN_ENERGY_RATE_HZ or 0 in signal.shape:
        return nothing
    filled, _ = bridge_gaps(signal.astype(np.float64))
    energy = qrs_energy(np.nan_to_num(filled), sampling_rate)
    if not energy.any():
        return nothing
    relative = energy / _level(energy, sampling_rate)
    candidates, _ = find_peaks(relative, height=0.2, distance=max(1, round(_REFRACTORY_S * sampling_rate)))
    strong = _without_t_waves(candidates[relative[candidates] >= 0.35], relative, sampling_rate)
    return _search_back(strong, candidates, relative, sampling_rate)


def _level(energy: npt.NDArray[np.float64], sampling_rate: float) -> npt.NDArray[np.float64]:
    """Local height of QRS complexes, robust against single artefacts and against pauses."""
    block = max(1, round(_LEVEL_BLOCK_S * sampling_rate))
    n_blocks = max(1, energy.size // block)
    # The remainder joins the last block: a fraction of a second may hold no beat at all.
    maxima = np.array([part.max() for part in np.split(energy, np.arange(1, n_blocks) * block)])
    level = median_filter(maxima, size=5, mode="nearest")
    level = np.maximum(level, 0.05 * energy.max())
    return np.asarray(level[np.minimum(np.arange(energy.size) // block, n_blocks - 1)])


def _without_t_waves(
    peaks: npt.NDArray[np.int64], relative: npt.NDArray[np.float64], sampling_rate: float
) -> npt.NDArray[np.int64]:
    kept: list[int] = []
    for peak in peaks.tolist():
        near = kept and peak - kept[-1] < _T_WAVE_S * sampling_rate
        if near and relative[peak] < 0.6 * relative[kept[-1]]:
            continue
        kept.append(peak)
    return np.array(kept, dtype=np.int64)


def _search_back(
    peaks: npt.NDArray[np.int64],
    candidates: npt.NDArray[np.int64],
    relative: npt.NDArray[np.float64],
    sampling_rate: float,
) -> npt.NDArray[np.int64]:
    if peaks.size < 3:
        return peaks
    gaps = np.diff(peaks)
    guard = _T_WAVE_S * sampling_rate
    found = []
    for place in np.flatnonzero(gaps > 1.66 * np.median(gaps)).tolist():
        inside = candidates[(candidates > peaks[place] + guard) & (candidates < peaks[place + 1] - guard)]
        if inside.size:
            found.append(int(inside[relative[inside].argmax()]))
    return np.sort(np.concatenate([peaks, np.array(found, dtype=np.int64)]))
