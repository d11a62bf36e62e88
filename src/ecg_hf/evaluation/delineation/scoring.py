"""How well waves were delineated: sensitivity, PPV and timing errors of every boundary, lead by lead.

The practice of the LUDB papers (Kalyakulina et al. 2020; Moskalenko et al. 2020), which follow the 150 ms window of
ANSI/AAMI EC57: an annotated boundary counts as found if a predicted one of the same kind lies within 150 ms; the
error is predicted minus annotated, so a positive mean is "too late". Errors are pooled over records (averaging the
deviations of single records instead, as for the CSE database, leaves out what differs between them).

Decided here, because the standard leaves it open:
    Each boundary is matched with at most one other, as many as possible, and among those matchings the one with the
    smallest sum of absolute errors.
    Only the annotated span of a lead is judged: a prediction without partner before the first mark or behind the last
    one of that lead is no error. It may still be the partner of a mark.
    Where a wave's peak is marked but this boundary is not (34 QRS onsets and 11 ends in 40 recordings), a
    prediction within 150 ms of that peak is not judged either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.delineation.annotations import WAVES, Delineation, WaveTimes, annotated_span
from ecg_hf.metrics.bootstrap import resample_counts
from ecg_hf.metrics.intervals import Interval

__all__ = ["ALL_LEADS", "BOUNDARIES", "TOLERANCE_MS", "BoundaryScore", "match_times", "score_delineations"]

FloatArray = npt.NDArray[np.float64]

TOLERANCE_MS = 150.0
BOUNDARIES = ("onset", "offset")
ALL_LEADS = "all"

# What one record contributes to the score of one boundary.
_ANNOTATED, _FOUND, _SURPLUS, _SUM, _SUM_OF_SQUARES = range(5)


@dataclass(frozen=True, slots=True)
class BoundaryScore:
    """Score of one boundary in one lead, or over all leads.

    Attributes:
        lead: Name of the lead; ``"all"`` for all leads pooled.
        wave: ``"P"``, ``"QRS"`` or ``"T"``.
        boundary: ``"onset"``, ``"offset"`` or ``"peak"``.
        annotated: Annotated boundaries.
        found: Those with a partner (true positives).
        surplus: Judged predictions without one (false positives).
        sensitivity: ``found / annotated`` with its interval; NaN where nothing was annotated.
        ppv: ``found / (found + surplus)``; NaN where nothing was predicted.
        mean_ms: Mean of predicted minus annotated, with its interval; NaN where nothing was found.
        sd_ms: Standard deviation of the errors (n - 1), with its interval; NaN below two.
    """

    lead: str
    wave: str
    boundary: str
    annotated: int
    found: int
    surplus: int
    sensitivity: Interval
    ppv: Interval
    mean_ms: Interval
    sd_ms: Interval

    @property
    def missed(self) -> int:
        """Annotated boundaries without a partner (false negatives)."""
        return self.annotated - self.found

    def as_row(self) -> dict[str, Any]:
        """Plain data for a results file."""
        return asdict(self)


def match_times(
    annotated: FloatArray, predicted: FloatArray, tolerance_ms: float = TOLERANCE_MS
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """One-to-one partners: as many as possible, then the smallest sum of absolute differences.

    Args:
        annotated: ``(n,)`` ms, without NaN.
        predicted: ``(m,)`` ms, without NaN.
        tolerance_ms: Largest difference of partners, itself allowed.

    Returns:
        Indices into either, ``(pairs,)`` each.
    """
    difference = np.abs(annotated[:, None] - predicted[None, :])
    allowed = difference <= tolerance_ms
    # One pair more outweighs any sum of differences.
    forbidden = (min(difference.shape, default=0) + 1) * max(tolerance_ms, 1.0)
    rows, columns = linear_sum_assignment(np.where(allowed, difference, forbidden))
    kept = allowed[rows, columns]
    return rows[kept], columns[kept]


def score_delineations(
    annotated: Sequence[Delineation],
    predicted: Sequence[Delineation],
    *,
    leads: Sequence[str],
    waves: Sequence[str] = WAVES,
    boundaries: Sequence[str] = BOUNDARIES,
    tolerance_ms: float = TOLERANCE_MS,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[BoundaryScore]:
    """Scores per lead, wave and boundary, those over all ``leads`` first; intervals from resampled records.

    Args:
        annotated: One delineation per record.
        predicted: One per record, in the same order. A lead that is not there counts as one without any wave.
        leads: Leads to judge.
        waves: Waves to judge.
        boundaries: Boundaries to judge: ``"onset"``, ``"offset"``, ``"peak"``.
        tolerance_ms: Largest error of a boundary that was found.
        n_resamples: Bootstrap resamples of records.
        level: Nominal coverage of the intervals.
        seed: Seed of the resamples.

    Raises:
        ConfigurationError: if the records do not fit together or nothing is to be judged.
    """
    if len(annotated) != len(predicted):
        raise ConfigurationError(
            f"{len(predicted)} predicted delineations for {len(annotated)} records", value=len(predicted)
        )
    if not annotated or not leads:
        raise ConfigurationError("there are no records or no leads to score")
    if not tolerance_ms > 0:
        raise ConfigurationError(f"tolerance_ms must be positive, got {tolerance_ms}", value=tolerance_ms)
    kinds = [(wave, boundary) for wave in waves for boundary in boundaries]
    # (records, leads, kinds, 5)
    parts = np.array(
        [
            [_score_lead(truth, guess, lead, kinds, tolerance_ms) for lead in leads]
            for truth, guess in zip(annotated, predicted, strict=True)
        ]
    )
    pooled = np.concatenate([parts.sum(axis=1, keepdims=True), parts], axis=1)
    flat = pooled.reshape(len(annotated), -1)
    totals = _statistics(flat.sum(axis=0).reshape(*pooled.shape[1:]))
    samples = np.concatenate(
        [
            _statistics((counts.T.astype(np.float64) @ flat).reshape(-1, *pooled.shape[1:]))
            for counts in resample_counts(len(annotated), n_resamples=n_resamples, seed=seed)
        ]
    )
    low, high = _limits(samples, level)
    sums = pooled.sum(axis=0)
    return [
        BoundaryScore(
            lead,
            wave,
            boundary,
            int(sums[i, k, _ANNOTATED]),
            int(sums[i, k, _FOUND]),
            int(sums[i, k, _SURPLUS]),
            *(Interval(float(totals[i, k, s]), float(low[i, k, s]), float(high[i, k, s])) for s in range(4)),
        )
        for i, lead in enumerate((ALL_LEADS, *leads))
        for k, (wave, boundary) in enumerate(kinds)
    ]


_NO_WAVES = WaveTimes(np.zeros(0), np.zeros(0), np.zeros(0))


def _score_lead(
    annotated: Delineation,
    predicted: Delineation,
    lead: str,
    kinds: Sequence[tuple[str, str]],
    tolerance_ms: float,
) -> list[list[float]]:
    truth, guess = annotated.get(lead, {}), predicted.get(lead, {})
    span = annotated_span(truth)
    if span is None:
        return [[0.0] * 5 for _ in kinds]
    rows = []
    for wave, boundary in kinds:
        marks = truth.get(wave, _NO_WAVES)
        marked = _times(marks, boundary)
        unmarked_peaks = marks.peak[np.isnan(marked) & np.isfinite(marks.peak)]
        marked = marked[np.isfinite(marked)]
        found = _times(guess.get(wave, _NO_WAVES), boundary)
        found = found[np.isfinite(found)]
        first, second = match_times(marked, found, tolerance_ms)
        alone = np.delete(found, second)
        judged = (alone >= span[0]) & (alone <= span[1])
        near = np.abs(alone[:, None] - unmarked_peaks[None, :]) <= tolerance_ms
        errors = found[second] - marked[first]
        rows.append(
            [
                len(marked),
                len(first),
                float((judged & ~near.any(axis=1)).sum()),
                errors.sum(),
                (errors**2).sum(),
            ]
        )
    return rows


def _times(waves: WaveTimes, boundary: str) -> FloatArray:
    if boundary not in ("onset", "peak", "offset"):
        raise ConfigurationError(f"boundary must be onset, peak or offset, got {boundary!r}", value=boundary)
    times: FloatArray = getattr(waves, boundary)
    return times


def _statistics(sums: FloatArray) -> FloatArray:
    """Sensitivity, PPV, mean and SD ``(..., 4)`` of what records contributed ``(..., 5)``."""
    annotated, found, surplus, total, squares = (sums[..., i] for i in range(5))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / found
        variance = np.maximum(squares - found * mean**2, 0.0) / np.where(found > 1, found - 1, np.nan)
        return np.stack([found / annotated, found / (found + surplus), mean, np.sqrt(variance)], axis=-1)


def _limits(samples: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Percentiles over the resamples ``(resamples, ...)`` in which a statistic is defined."""
    if not 0.0 < level < 1.0:
        raise ConfigurationError(f"level must lie between 0 and 1, got {level}", value=level)
    tail = (1.0 - level) / 2.0
    never = np.isnan(samples).all(axis=0)
    filled = np.where(never, 0.0, samples)
    low, high = np.nanquantile(filled, [tail, 1.0 - tail], axis=0)
    return np.where(never, np.nan, low), np.where(never, np.nan, high)
