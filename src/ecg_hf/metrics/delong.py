"""DeLong's variance of the AUROC, covariances between classes and models, and the paired test.

The AUROC of class ``k`` is a mean over (positive, negative) pairs. Its *structural components* say how each record
takes part in it: of a positive record the share of negatives below it, of a negative record the share of positives
above it. Centred and divided by the number of positives (negatives), they are the influence of each record on the
AUROC, and

    cov(A_k, A_l) = sum over records i of  influence_k(i) * influence_l(i)

For one class this is DeLong's estimator, ``S10 / m + S01 / n``. Because it is a sum over records it extends to
classes that share the records but not the labels, hence to the macro mean, and to patients with several records
(components are then added within a patient first).

Of a class with two or three positive records the components say next to nothing about their spread, and the estimated
variance is often far too small: in simulations with the counts of PTB-XL's rhythm and form statements, nominal 95 %
intervals of the macro AUROC cover 74 to 84 %. ``floor=True`` does not let the variance of such a class fall below
Hanley and McNeil's, which follows from the AUROC and the counts alone: 95 to 98 %. Of common classes DeLong's own is
the better one (94 %, where Hanley and McNeil's covers 96 %), so theirs stay as they are.

References:
    DeLong, DeLong, Clarke-Pearson, Biometrics 44 (1988) 837-845; Sun and Xu, IEEE Signal Processing Letters 21 (2014)
    1389-1393 (components from ranks in O(n log n)); Obuchowski, Biometrics 53 (1997) 567-578 (clustered records);
    Hanley and McNeil, Radiology 143 (1982) 29-36 and 148 (1983) 839-843.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_ndtr, logit, ndtri
from scipy.stats import rankdata

from ecg_hf.errors import ConfigurationError
from ecg_hf.metrics.intervals import DEFAULT_LEVEL, Interval, check_level, included_classes, unit_numbers
from ecg_hf.metrics.ranking import BoolArray, FloatArray, check_known

__all__ = [
    "DelongResult",
    "DelongTest",
    "auroc_influence",
    "delong_auroc",
    "delong_interval",
    "delong_p_value",
    "hanley_mcneil_variance",
    "paired_delong",
    "rare_classes",
]

# Units of the rarer label value below which a class's own components are not trusted with its variance.
RARE = 10
# How near to 0 or 1 the AUROC of a rare class is believed, in units of the rarer label value. Chosen by simulation
# (normal scores, 1 to 9 positives, true AUROCs of 0.6 to 0.99): nominal 95 % intervals cover 97 % or more.
EDGE = 0.1
Transform = Literal["logit", "none"]


@dataclass(frozen=True, slots=True, eq=False)
class DelongResult:
    """AUROCs of one model with their sampling error.

    Attributes:
        classes: Estimate and interval of every class; NaN where undefined. Limits are NaN where a class has a single
            positive or a single negative record (unit), from which no variance can be had.
        macro: The same of the mean over the classes whose variance is defined and that were included.
        standard_errors: float64 ``(classes,)``.
        macro_standard_error: Of the macro mean, covariances between classes included.
        covariance: float64 ``(classes, classes)``; NaN rows and columns where a class has no variance.
        included: bool ``(classes,)``: the classes the macro mean is taken over.
        level: Nominal coverage.
        unit: ``"records"`` or ``"patients"``.
    """

    classes: tuple[Interval, ...]
    macro: Interval
    standard_errors: FloatArray
    macro_standard_error: float
    covariance: FloatArray
    included: BoolArray
    level: float
    unit: str


@dataclass(frozen=True, slots=True, eq=False)
class DelongTest:
    """Two models on the same records.

    Attributes:
        differences: ``first - second`` of every class with its interval; NaN where undefined.
        p_values: float64 ``(classes,)``, two-sided, not corrected for the number of classes.
        macro: Difference of the macro means with its interval.
        macro_p_value: Two-sided.
        standard_errors: float64 ``(classes,)`` of the differences.
        macro_standard_error: Of the macro difference.
        level: Nominal coverage.
        unit: ``"records"`` or ``"patients"``.
    """

    differences: tuple[Interval, ...]
    p_values: FloatArray
    macro: Interval
    macro_p_value: float
    standard_errors: FloatArray
    macro_standard_error: float
    level: float
    unit: str


def auroc_influence(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    groups: Sequence[object] | npt.NDArray[np.generic] | None = None,
) -> tuple[FloatArray, FloatArray]:
    """AUROC of every class and the influence of every unit on it.

    Args:
        labels: 0, 1 or NaN (unknown) ``(records, classes)``.
        scores: Same shape; ties count one half.
        groups: Patient of every record; units are then patients, otherwise records. A record whose patient is
            ``None`` or empty is a unit of its own.

    Returns:
        AUROC float64 ``(classes,)`` and influence float64 ``(units, classes)``. The sum of squares of a column is the
        variance of its AUROC, the inner product of two columns their covariance. A column is NaN where there are
        fewer than two units with a positive, or with a negative, record.

    Raises:
        ConfigurationError: for arrays that do not fit.

    Differs from the original papers:
        With several records per patient the two sums of squares are corrected each by its own number of patients,
        ``I / (I - 1)``, and their cross term by the geometric mean of both corrections instead of by one more:
        the covariance matrix is then positive semi-definite. With one record per patient nothing differs.
    """
    truth, known, values = check_known(labels, scores)
    n, k = truth.shape
    unit_of, n_units = unit_numbers(n, groups)
    areas = np.full(k, np.nan)
    influence = np.full((n_units, k), np.nan)
    for column in range(k):
        rows = known[:, column]
        positive, negative = np.flatnonzero(rows & truth[:, column]), np.flatnonzero(rows & ~truth[:, column])
        if len(positive) == 0 or len(negative) == 0:
            continue
        of_positives, of_negatives = _components(values[positive, column], values[negative, column])
        area = areas[column] = float(of_positives.mean())
        parts = [
            _unit_sums(of_positives - area, unit_of[positive], n_units),
            _unit_sums(of_negatives - area, unit_of[negative], n_units),
        ]
        if all(part is not None for part in parts):
            influence[:, column] = sum(part for part in parts if part is not None)
    return areas, influence


def _unit_counts(
    labels: npt.ArrayLike, scores: npt.ArrayLike, groups: Sequence[object] | npt.NDArray[np.generic] | None
) -> tuple[FloatArray, FloatArray]:
    """Units with a positive, and with a negative, record of every class."""
    truth, known, _ = check_known(labels, scores)
    unit_of, n_units = unit_numbers(len(truth), groups)
    counts = []
    for side in (known & truth, known & ~truth):
        seen = np.zeros((n_units, truth.shape[1]), dtype=bool)
        np.logical_or.at(seen, unit_of, side)
        counts.append(seen.sum(axis=0).astype(np.float64))
    return counts[0], counts[1]


def _components(positive: FloatArray, negative: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Share of negatives below each positive, share of positives above each negative; ties count one half."""
    above, below = np.sort(positive), np.sort(negative)
    lower = np.searchsorted(below, positive, "left") + np.searchsorted(below, positive, "right")
    higher = np.searchsorted(above, negative, "left") + np.searchsorted(above, negative, "right")
    return lower / (2.0 * len(negative)), 1.0 - higher / (2.0 * len(positive))


def _unit_sums(centred: FloatArray, units: npt.NDArray[np.intp], n_units: int) -> FloatArray | None:
    """Components of one side added within units, scaled so that their sum of squares is that side's variance."""
    concerned = len(np.unique(units))
    if concerned < 2:
        return None
    sums = np.bincount(units, weights=centred, minlength=n_units)
    return np.asarray(sums / len(centred) * np.sqrt(concerned / (concerned - 1.0)))


def hanley_mcneil_variance(
    area: npt.ArrayLike, positives: npt.ArrayLike, negatives: npt.ArrayLike
) -> FloatArray:
    """Variance of an AUROC from its value and the counts alone (exponential scores); NaN where it is undefined.

    Areas below 0.5 count as 0.5, where the variance is largest: chance, and not a model that knows the opposite, is
    what puts the AUROC of a few records there.

    Args:
        area: AUROC.
        positives: Positive records (or patients).
        negatives: Negative ones.
    """
    a = np.maximum(np.asarray(area, dtype=np.float64), 0.5)
    m, n = (np.asarray(count, dtype=np.float64) for count in (positives, negatives))
    of_positives, of_negatives = a / (2.0 - a) - a**2, 2.0 * a**2 / (1.0 + a) - a**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((a * (1.0 - a) + (m - 1.0) * of_positives + (n - 1.0) * of_negatives) / (m * n))


def delong_interval(
    estimate: float,
    standard_error: float,
    *,
    level: float = DEFAULT_LEVEL,
    transform: Transform = "logit",
) -> Interval:
    """Normal interval of an AUROC, on the logit scale by default, where it keeps inside [0, 1] and covers better.

    Args:
        estimate: The AUROC.
        standard_error: Of the AUROC itself.
        level: Nominal coverage.
        transform: ``"logit"`` or ``"none"``. At an AUROC of exactly 0 or 1, or without sampling error, both limits
            are the estimate: the formula knows nothing there, and neither does a bootstrap.

    Raises:
        ConfigurationError: for a level outside (0, 1) or an unknown transform.
    """
    check_level(level)
    if transform not in get_args(Transform):
        raise ConfigurationError(f"transform must be logit or none, got {transform!r}", value=transform)
    half = float(-ndtri((1.0 - level) / 2.0)) * standard_error
    if not np.isfinite(half):
        return Interval(estimate, float("nan"), float("nan"))
    if transform == "none" or half == 0.0 or not 0.0 < estimate < 1.0:
        return Interval(estimate, estimate - half, estimate + half)
    centre, half = float(logit(estimate)), half / (estimate * (1.0 - estimate))
    return Interval(estimate, float(expit(centre - half)), float(expit(centre + half)))


def delong_auroc(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    groups: Sequence[object] | npt.NDArray[np.generic] | None = None,
    include: npt.ArrayLike | None = None,
    level: float = DEFAULT_LEVEL,
    transform: Transform = "logit",
    floor: bool = False,
) -> DelongResult:
    """AUROC of every class and their macro mean, with DeLong intervals.

    Args:
        labels: 0, 1 or NaN (unknown) ``(records, classes)``.
        scores: Same shape.
        groups: Patient of every record, see :func:`auroc_influence`.
        include: Booleans ``(classes,)``: classes the macro mean is taken over; all by default.
        level: Nominal coverage.
        transform: Scale of the intervals, see :func:`delong_interval`.
        floor: Do not let the variance of a class with fewer than ten positive (or negative) units fall below
            :func:`hanley_mcneil_variance`, counts taken in units. Classes with a single positive (negative) unit then
            have a variance and take part in the macro mean. Covariances between classes are kept. Variance and
            interval are those of an AUROC no nearer to 0 or 1 than a tenth of one of these few units: a class whose
            three positives all score highest is not known to be perfect.

    Raises:
        ConfigurationError: for arrays or options that do not fit.
    """
    areas, influence = auroc_influence(labels, scores, groups=groups)
    trusted, least = areas, None
    if floor:
        counts = _unit_counts(labels, scores, groups)
        trusted = _trusted(areas, counts)
        least = np.where(_rare(counts), hanley_mcneil_variance(trusted, *counts), 0.0)
    covariance = _covariance(areas, influence, least)
    errors = np.sqrt(np.diag(covariance))
    chosen = included_classes(len(areas), include) & np.isfinite(errors)
    macro, error = _macro(areas, covariance, chosen)
    return DelongResult(
        classes=tuple(
            _around(float(a), delong_interval(float(t), float(e), level=level, transform=transform))
            for a, t, e in zip(areas, trusted, errors, strict=True)
        ),
        macro=delong_interval(macro, error, level=level, transform=transform),
        standard_errors=errors,
        macro_standard_error=error,
        covariance=covariance,
        included=chosen,
        level=level,
        unit="records" if groups is None else "patients",
    )


def paired_delong(
    labels: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    groups: Sequence[object] | npt.NDArray[np.generic] | None = None,
    include: npt.ArrayLike | None = None,
    level: float = DEFAULT_LEVEL,
    floor: bool = False,
) -> DelongTest:
    """Test of two models' AUROCs on the same records, per class and for the macro mean.

    Args:
        labels: 0, 1 or NaN (unknown) ``(records, classes)``.
        first: Scores of one model, same shape.
        second: Scores of the other, for the same records.
        groups: Patient of every record, see :func:`auroc_influence`.
        include: Classes the macro mean is taken over.
        level: Nominal coverage.
        floor: As of :func:`delong_auroc`, for the variance of the difference. The two AUROCs of a class with few
            positives (negatives) are taken to be as correlated as the two models' rankings of its other records
            (Hanley and McNeil 1983).

    Returns:
        Differences with normal intervals and two-sided p-values. Where two models agree in every component (equal
        rankings) there is no sampling error: the difference is 0 and p is 1.

    Raises:
        ConfigurationError: for arrays or options that do not fit.
    """
    areas, influence = auroc_influence(labels, first, groups=groups)
    other_areas, other_influence = auroc_influence(labels, second, groups=groups)
    delta, of_delta = areas - other_areas, influence - other_influence
    least = None
    if floor:
        counts = _unit_counts(labels, first, groups)
        one, two = (hanley_mcneil_variance(_trusted(a, counts), *counts) for a in (areas, other_areas))
        shared = _ranking_correlation(labels, first, second, _rare(counts))
        # one + two - 2 shared sqrt(one * two), without what rounding leaves of equal models.
        of_difference = (np.sqrt(one) - np.sqrt(two)) ** 2 + 2.0 * (1.0 - shared) * np.sqrt(one * two)
        least = np.where(_rare(counts), of_difference, 0.0)
    covariance = _covariance(delta, of_delta, least)
    errors = np.sqrt(np.diag(covariance))
    chosen = included_classes(len(areas), include) & np.isfinite(errors)
    macro, error = _macro(delta, covariance, chosen)
    p_values = _two_sided(np.append(delta, macro), np.append(errors, error))
    return DelongTest(
        differences=tuple(
            delong_interval(float(d), float(e), level=level, transform="none")
            for d, e in zip(delta, errors, strict=True)
        ),
        p_values=p_values[:-1],
        macro=delong_interval(macro, error, level=level, transform="none"),
        macro_p_value=float(p_values[-1]),
        standard_errors=errors,
        macro_standard_error=error,
        level=level,
        unit="records" if groups is None else "patients",
    )


def rare_classes(
    labels: npt.ArrayLike, scores: npt.ArrayLike, groups: Sequence[object] | npt.NDArray[np.generic] | None
) -> BoolArray:
    """Which classes have positives and negatives, but fewer than ten units of either, bool ``(classes,)``.

    Args:
        labels: 0, 1 or NaN (unknown) ``(records, classes)``.
        scores: Same shape.
        groups: Patient of every record, see :func:`auroc_influence`.
    """
    counts = _unit_counts(labels, scores, groups)
    return _rare(counts) & (np.minimum(*counts) > 0)


def _rare(counts: tuple[FloatArray, FloatArray]) -> BoolArray:
    return np.asarray(np.minimum(*counts) < RARE)


def _trusted(areas: FloatArray, counts: tuple[FloatArray, FloatArray]) -> FloatArray:
    """AUROCs, those of rare classes kept away from 0 and 1."""
    edge = EDGE / np.maximum(np.minimum(*counts), 1.0)
    return np.where(_rare(counts), np.clip(areas, edge, 1.0 - edge), areas)


def _covariance(areas: FloatArray, influence: FloatArray, least: FloatArray | None) -> FloatArray:
    """Covariances between classes, variances not below ``least`` if given."""
    if least is not None:
        # A class without a variance of its own has that of the floor alone.
        influence = np.where(np.isfinite(areas) & np.isnan(influence), 0.0, influence)
    covariance = influence.T @ influence
    if least is not None:
        covariance += np.diag(np.maximum(least - np.diag(covariance), 0.0))
    return np.asarray(covariance)


def _macro(values: FloatArray, covariance: FloatArray, chosen: BoolArray) -> tuple[float, float]:
    """Mean of the chosen classes' values and its standard error; NaN if there are none."""
    if not chosen.any():
        return float("nan"), float("nan")
    variance = covariance[np.ix_(chosen, chosen)].mean().clip(min=0.0)
    return float(values[chosen].mean()), float(np.sqrt(variance))


def _ranking_correlation(
    labels: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, wanted: BoolArray
) -> FloatArray:
    """Rank correlation of two models' scores over the records of each wanted class's commoner label; 0 elsewhere."""
    truth, known, one = check_known(labels, first)
    two = check_known(labels, second)[2]
    shared = np.zeros(truth.shape[1])
    for k in np.flatnonzero(wanted):
        positive, negative = known[:, k] & truth[:, k], known[:, k] & ~truth[:, k]
        rows = positive if positive.sum() > negative.sum() else negative
        ranks = [rankdata(values[rows, k]) for values in (one, two)]
        if min(np.ptp(values) if len(values) else 0.0 for values in ranks) > 0.0:
            # Equal rankings have a correlation of 1, and their difference no error, not even that of rounding.
            shared[k] = np.round(np.corrcoef(*ranks)[0, 1], 12)
    return shared


def _around(estimate: float, interval: Interval) -> Interval:
    """The interval, made to hold the estimate."""
    return Interval(estimate, min(interval.low, estimate), max(interval.high, estimate))


def delong_p_value(difference: float, error: float) -> float:
    """Two-sided p-value of a difference with its standard error; 1 where both are 0 but for rounding."""
    return float(_two_sided(np.array([difference]), np.array([error]))[0])


def _two_sided(differences: FloatArray, errors: FloatArray) -> FloatArray:
    # Rounding leaves 1e-17 where two rankings are the same; nothing real is that small.
    same = (np.abs(differences) < 1e-12) & (errors < 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.abs(differences) / errors
    return np.where(same, 1.0, np.minimum(1.0, 2.0 * np.exp(log_ndtr(-z))))
