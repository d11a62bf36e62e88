"""Calibration: whether predicted probabilities are frequencies.

Everything here takes probabilities ``(records, classes)`` of independent labels and 0/1 labels of the same shape, NaN
where a label is unknown. Per class, and *micro*: all known entries of all classes as one long list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import log_expit

from ecg_hf.errors import ConfigurationError
from ecg_hf.metrics.ranking import BoolArray, FloatArray, check_known

__all__ = [
    "Calibration",
    "Reliability",
    "assess_calibration",
    "brier_score",
    "expected_calibration_error",
    "log_loss",
    "reliability",
]

Binning = Literal["width", "mass"]
DEFAULT_BINS = 15


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Predicted against observed frequency, in bins of the prediction.

    Attributes:
        edges: float64 ``(bins + 1,)``, from 0 to 1.
        count: int64 ``(bins,)``, predictions in each bin.
        predicted: float64 ``(bins,)``, mean prediction; NaN in empty bins.
        observed: float64 ``(bins,)``, share of positives; NaN in empty bins.
    """

    edges: FloatArray
    count: npt.NDArray[np.int64]
    predicted: FloatArray
    observed: FloatArray

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of both, weighted by the counts; NaN without predictions."""
        filled = self.count > 0
        if not filled.any():
            return float("nan")
        gap = np.abs(self.predicted[filled] - self.observed[filled])
        return float(np.average(gap, weights=self.count[filled]))

    @property
    def largest_error(self) -> float:
        """The largest distance over the bins that hold predictions."""
        gap = np.abs(self.predicted - self.observed)[self.count > 0]
        return float(gap.max()) if gap.size else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Calibration of a set of predictions.

    Attributes:
        class_names: Names of the classes.
        classes: Reliability of every class.
        micro: Reliability of all entries together.
        error: float64 ``(classes,)``, expected calibration error.
        brier: float64 ``(classes,)``; NaN without known labels.
        macro_error: Mean of ``error`` over the classes that have one.
        macro_brier: The same of ``brier``.
        micro_brier: Of all entries together.
        binning: How the bins were cut.
    """

    class_names: tuple[str, ...]
    classes: tuple[Reliability, ...]
    micro: Reliability
    error: FloatArray
    brier: FloatArray
    macro_error: float
    macro_brier: float
    micro_brier: float
    binning: Binning

    def table(self) -> list[dict[str, float | str]]:
        """Rows ``name, n, error, largest_error, brier``: every class, then ``micro``."""
        rows = zip(
            (*self.class_names, "micro"),
            (*self.classes, self.micro),
            (*self.brier.tolist(), self.micro_brier),
            strict=True,
        )
        return [
            {
                "name": name,
                "n": int(one.count.sum()),
                "error": one.error,
                "largest_error": one.largest_error,
                "brier": brier,
            }
            for name, one, brier in rows
        ]


def reliability(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    bins: int = DEFAULT_BINS,
    binning: Binning = "width",
) -> Reliability:
    """Reliability of all known entries together, whatever the shape.

    Args:
        labels: 0, 1 or NaN, ``(records,)`` or ``(records, classes)``.
        probabilities: In [0, 1], same shape.
        bins: How many.
        binning: ``"width"``: equally wide, ``(a, b]`` with 0 in the first; ``"mass"``: cut at quantiles of the
            predictions, so that each holds about as many. Equal predictions are never torn apart, hence fewer bins
            where many are equal.

    Raises:
        ConfigurationError: for arrays or options that do not fit, or probabilities outside [0, 1].
    """
    truth, known, values = _checked(labels, probabilities)
    _check_bins(bins, binning)
    return _reliability(truth[known], values[known], bins, binning)


def _reliability(truth: BoolArray, values: FloatArray, bins: int, binning: Binning) -> Reliability:
    if binning == "width" or values.size == 0:
        edges = np.linspace(0.0, 1.0, bins + 1)
    else:
        inner = np.quantile(values, np.linspace(0.0, 1.0, bins + 1)[1:-1], method="inverted_cdf")
        edges = np.unique(np.concatenate([[0.0], inner, [1.0]]))
    place = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, len(edges) - 2)
    size = len(edges) - 1
    count = np.bincount(place, minlength=size).astype(np.int64)
    predicted, observed = (np.bincount(place, weights=column, minlength=size) for column in (values, truth))
    with np.errstate(invalid="ignore"):
        return Reliability(edges, count, predicted / count, observed / count)


def expected_calibration_error(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    bins: int = DEFAULT_BINS,
    binning: Binning = "width",
) -> FloatArray:
    """Expected calibration error of every class, float64 ``(classes,)``; see :func:`reliability`.

    Raises:
        ConfigurationError: see :func:`reliability`.
    """
    truth, known, values = _checked(labels, probabilities)
    _check_bins(bins, binning)
    return np.array(
        [_reliability(truth[r, k], values[r, k], bins, binning).error for k, r in enumerate(known.T)]
    )


def brier_score(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> FloatArray:
    """Mean squared error of the probabilities, float64 ``(classes,)``; NaN for a class without known labels.

    Equal to ``sklearn.metrics.brier_score_loss``.

    Raises:
        ConfigurationError: for arrays that do not fit, or probabilities outside [0, 1].
    """
    truth, known, values = _checked(labels, probabilities)
    return _column_means((values - truth) ** 2, known)


def log_loss(labels: npt.ArrayLike, logits: npt.ArrayLike) -> FloatArray:
    """Mean binary cross-entropy of log-odds, float64 ``(classes,)``; NaN for a class without known labels.

    Raises:
        ConfigurationError: for arrays that do not fit.
    """
    truth, known, values = check_known(labels, logits)
    return _column_means(-log_expit(np.where(truth, values, -values)), known)


def assess_calibration(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    names: Sequence[str] | None = None,
    *,
    bins: int = DEFAULT_BINS,
    binning: Binning = "width",
) -> Calibration:
    """Reliability, calibration error and Brier score of every class and of all together.

    Args:
        labels: 0, 1 or NaN ``(records, classes)``.
        probabilities: In [0, 1], same shape.
        names: Class names; ``class_0``... by default.
        bins: See :func:`reliability`.
        binning: See :func:`reliability`.

    Raises:
        ConfigurationError: for arrays, names or options that do not fit.
    """
    truth, known, values = _checked(labels, probabilities)
    _check_bins(bins, binning)
    k = truth.shape[1]
    given = tuple(names) if names is not None else tuple(f"class_{i}" for i in range(k))
    if len(given) != k:
        raise ConfigurationError(f"{len(given)} names for {k} classes", value=given)
    classes = tuple(_reliability(truth[r, i], values[r, i], bins, binning) for i, r in enumerate(known.T))
    error = np.array([one.error for one in classes])
    brier = _column_means((values - truth) ** 2, known)
    return Calibration(
        class_names=given,
        classes=classes,
        micro=_reliability(truth[known], values[known], bins, binning),
        error=error,
        brier=brier,
        macro_error=_mean(error),
        macro_brier=_mean(brier),
        micro_brier=_mean(((values - truth) ** 2)[known]),
        binning=binning,
    )


def _checked(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[BoolArray, BoolArray, FloatArray]:
    truth, known, values = check_known(labels, probabilities)
    outside = values[known & ((values < 0.0) | (values > 1.0))]
    if outside.size:
        raise ConfigurationError(
            f"probabilities must lie in [0, 1], got {outside[0]:g} (log-odds? apply a sigmoid)",
            value=float(outside[0]),
        )
    return truth, known, values


def _check_bins(bins: int, binning: str) -> None:
    if bins < 1 or binning not in get_args(Binning):
        raise ConfigurationError(
            f"need at least one bin of equal width or mass, got {bins} of {binning!r}", value=(bins, binning)
        )


def _column_means(values: FloatArray, known: BoolArray) -> FloatArray:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0))


def _mean(values: FloatArray) -> float:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if kept.size else float("nan")
