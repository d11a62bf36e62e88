"""Statistics of the intervals between beats: rate, spread, and the order in which they follow each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import SamplingRateError
from ecg_hf.signal.beats.order_statistics import median, percentile

__all__ = ["RR_STATISTICS", "rr_statistics"]

RR_STATISTICS: dict[str, str] = {
    "rate_bpm": "60 / median RR",
    "rate_min_bpm": "60 / longest RR",
    "rate_max_bpm": "60 / shortest RR",
    "rr_median_ms": "median RR",
    "rr_mean_ms": "mean RR",
    "rr_sd_ms": "standard deviation of RR (denominator n)",
    "rr_iqr_ms": "75th minus 25th percentile of RR",
    "rr_rmssd_ms": "root mean square of successive differences",
    "rr_median_step_ms": "median absolute successive difference",
    "rr_pnn50": "share of successive differences above 50 ms",
    "rr_cv": "standard deviation / mean",
    "rr_relative_rmssd": "RMSSD / mean: irregularity at any rate",
    "rr_lag1_correlation": "autocorrelation at one beat: negative when short and long alternate",
    "rr_lag2_correlation": "autocorrelation at two beats: positive in bigeminy",
    "rr_short_share": "share of RR below 0.85 of the median: premature beats",
    "rr_long_share": "share of RR above 1.15 of the median: pauses",
    "rr_largest_ratio": "largest ratio between neighbouring intervals, either way round",
}
"""The 17 statistics, in order, and their meanings."""

# A spread below one millisecond comes from the sampling grid, so a correlation would be meaningless.
_CONSTANT_MS = 1.0


def rr_statistics(r_peaks: npt.NDArray[np.integer], sampling_rate: float) -> npt.NDArray[np.float64]:
    """The statistics of :data:`RR_STATISTICS` of one recording.

    Args:
        r_peaks: Ascending sample indices.
        sampling_rate: Hertz.

    Returns:
        float64 ``(17,)``. NaN with too few beats: two for the rate and the mean, three for spread and
        steps, four (five) for the correlation at one beat (two). The correlations of a constant rhythm are 0.

    Raises:
        SamplingRateError: if the rate is not positive.
    """
    if not 0.0 < sampling_rate < float("inf"):
        raise SamplingRateError(f"sampling rate must be positive, got {sampling_rate:g}", value=sampling_rate)
    rr = np.diff(np.asarray(r_peaks, dtype=np.float64)) * (1000.0 / sampling_rate)
    rr = rr[rr > 0]
    result = np.full(len(RR_STATISTICS), np.nan)
    if rr.size == 0:
        return result
    middle, mean = median(rr), float(rr.mean())
    result[:5] = 60e3 / middle, 60e3 / rr.max(), 60e3 / rr.min(), middle, mean
    result[14:16] = (rr < 0.85 * middle).mean(), (rr > 1.15 * middle).mean()
    if rr.size < 2:
        return result
    steps = np.diff(rr)
    spread, rmssd = float(rr.std()), float(np.sqrt(np.mean(steps**2)))
    low, high = percentile(rr, 25), percentile(rr, 75)
    result[5:10] = spread, high - low, rmssd, median(np.abs(steps)), (np.abs(steps) > 50.0).mean()
    result[10:12] = spread / mean, rmssd / mean
    ratio = rr[1:] / rr[:-1]
    result[16] = np.maximum(ratio, 1.0 / ratio).max()
    centred = rr - mean
    for lag in (1, 2):
        if rr.size >= lag + 2:
            product = float((centred[lag:] * centred[:-lag]).mean())
            result[11 + lag] = product / spread**2 if spread > _CONSTANT_MS else 0.0
    return result
