"""Ranking metrics per class and their macro mean, vectorised over classes.

A class of which a test set holds no positive, or no negative, record has no AUROC. Such a class is
reported as undefined together with its counts, and the macro mean is taken over the classes that are
defined: never a silent 0.5, never a crash. Every score carries ``n`` and ``positives``, because a class
with two positives moves a macro mean as much as one with two thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from ecg_hf.errors import ConfigurationError

__all__ = [
    "ClassScore",
    "MacroScore",
    "auprc",
    "auroc",
    "check_known",
    "check_scores",
    "known_auroc",
    "macro_auroc",
    "same_in_ties",
    "score_classes",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Score of one class.

    Attributes:
        name: Label of the class.
        auroc: Area under the ROC curve; ``None`` where it is undefined or the class was excluded.
        n: Records scored.
        positives: Records carrying the label.
        auprc: Average precision; ``None`` exactly where ``auroc`` is. Its chance level is ``positives / n``.
        excluded: Why the class takes no part in the macro mean (empty if it does).
    """

    name: str
    auroc: float | None
    n: int
    positives: int
    auprc: float | None = None
    excluded: str = ""


@dataclass(frozen=True, slots=True)
class MacroScore:
    """Scores of all classes and their unweighted mean over those defined.

    Attributes:
        classes: One entry per class, in column order, the undefined ones included.
        macro_auroc: Mean AUROC of the defined classes; ``None`` if there is none.
        macro_auprc: Mean average precision of the same classes.
        n: Records scored.
    """

    classes: tuple[ClassScore, ...]
    macro_auroc: float | None
    macro_auprc: float | None
    n: int

    @property
    def defined(self) -> tuple[str, ...]:
        """Names of the classes the macro mean is taken over."""
        return tuple(c.name for c in self.classes if c.auroc is not None)

    @property
    def undefined(self) -> tuple[str, ...]:
        """Names of the classes left out of the macro mean."""
        return tuple(c.name for c in self.classes if c.auroc is None)

    @property
    def positives(self) -> dict[str, int]:
        """Number of positive records of every class."""
        return {c.name: c.positives for c in self.classes}


def check_scores(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[BoolArray, FloatArray]:
    """Labels and scores as two-dimensional arrays of one shape, or a typed error.

    Args:
        labels: 0/1 of shape ``(records, classes)`` or ``(records,)`` for a single class.
        scores: Real numbers of the same shape; higher means more likely.

    Returns:
        Boolean labels and float64 scores, both ``(records, classes)``.

    Raises:
        ConfigurationError: if shapes differ or are empty, labels are not 0/1, or a score is not finite.
    """
    truth = np.asarray(labels)
    values = np.asarray(scores)
    if truth.shape != values.shape or truth.ndim not in (1, 2):
        raise ConfigurationError(
            f"labels and scores must share one (records, classes) shape, got {truth.shape} and {values.shape}",
            value=(truth.shape, values.shape),
        )
    if truth.ndim == 1:
        truth, values = truth[:, None], values[:, None]
    if 0 in truth.shape:
        raise ConfigurationError(f"nothing to score: shape {truth.shape}", value=truth.shape)
    if truth.dtype.kind not in "biuf" or not np.isin(truth, (0, 1)).all():
        raise ConfigurationError("labels must be 0 or 1; leave unknown labels out")
    if values.dtype.kind not in "biuf":
        raise ConfigurationError(f"scores must be real numbers, got {values.dtype}", value=str(values.dtype))
    values = values.astype(np.float64, copy=False)
    if not np.isfinite(values).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ConfigurationError(f"score of record {row}, class {column} is not finite", value=(row, column))
    return truth.astype(bool, copy=False), values


def same_in_ties(scores: FloatArray) -> FloatArray:
    """Scores from a matrix product to 12 decimals, so that equal records tie.

    BLAS adds up in another order in other rows, and on other processors: equal rows come out an ulp apart, and ranks
    would tell them apart.
    """
    return np.asarray(np.round(scores, 12))


def check_known(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[BoolArray, BoolArray, FloatArray]:
    """As :func:`check_scores`, with NaN allowed among the labels where a label is unknown.

    Returns:
        Boolean labels (False where unknown), which of them are known, and float64 scores, all
        ``(records, classes)``.

    Raises:
        ConfigurationError: see :func:`check_scores`.
    """
    given = np.asarray(labels)
    if given.dtype.kind != "f":
        truth, values = check_scores(given, scores)
        return truth, np.ones_like(truth), values
    known = ~np.isnan(given)
    truth, values = check_scores(np.where(known, given, 0.0), scores)
    return truth, known.reshape(truth.shape), values


def known_auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> FloatArray:
    """:func:`auroc` of every class over the records whose label of that class is known.

    Args:
        labels: 0, 1 or NaN (unknown) ``(records, classes)``.
        scores: Same shape.

    Returns:
        float64 ``(classes,)``; NaN where a class has no known positive or no known negative.

    Raises:
        ConfigurationError: see :func:`check_scores`.
    """
    truth, known, values = check_known(labels, scores)
    if known.all():
        return auroc(truth, values)
    areas = np.full(truth.shape[1], np.nan)
    for k, rows in enumerate(known.T):
        if rows.any():
            areas[k] = auroc(truth[rows, k], values[rows, k])[0]
    return areas


def macro_auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[float, int]:
    """Mean AUROC over the classes where it is defined, and how many these are.

    Args:
        labels: 0, 1 or NaN (unknown) ``(records, classes)``.
        scores: Same shape.

    Returns:
        The mean, NaN if no class is defined, and the number of defined classes.

    Raises:
        ConfigurationError: see :func:`check_scores`.
    """
    areas = known_auroc(labels, scores)
    defined = int(np.isfinite(areas).sum())
    return (float(np.nanmean(areas)) if defined else float("nan")), defined


def auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> FloatArray:
    """Area under the ROC curve of every class; ties count one half.

    The Mann-Whitney form: the rank sum of the positives, with average ranks, so that the value is exact
    up to float64 rounding and equal to ``sklearn.metrics.roc_auc_score``.

    Args:
        labels: 0/1 ``(records, classes)`` or ``(records,)``.
        scores: Same shape.

    Returns:
        float64 ``(classes,)``; NaN where a class has no positive or no negative record.

    Raises:
        ConfigurationError: see :func:`check_scores`.
    """
    truth, values = check_scores(labels, scores)
    ranks = rankdata(values, axis=0)
    positives = truth.sum(axis=0, dtype=np.float64)
    negatives = len(truth) - positives
    rank_sum = np.einsum("nk,nk->k", ranks, truth, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        area = (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
    return np.where((positives > 0) & (negatives > 0), area, np.nan)


def auprc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> FloatArray:
    """Average precision of every class, tied scores taken as one threshold.

    Equal to ``sklearn.metrics.average_precision_score``: the step-wise sum of precision over recall
    increments, without interpolation.

    Returns:
        float64 ``(classes,)``; NaN where a class has no positive or no negative record.

    Raises:
        ConfigurationError: see :func:`check_scores`.
    """
    truth, values = check_scores(labels, scores)
    n = len(truth)
    order = np.argsort(-values, axis=0, kind="stable")
    hits = np.take_along_axis(truth, order, axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    # Precision changes only where a run of equal scores ends; every member of a run gets its end's value.
    last_of_run = np.ones_like(hits)
    last_of_run[:-1] = ordered[1:] != ordered[:-1]
    position = np.where(last_of_run, np.arange(n)[:, None], n)
    run_end = np.minimum.accumulate(position[::-1], axis=0)[::-1]
    precision = np.cumsum(hits, axis=0) / np.arange(1, n + 1)[:, None]
    at_run_end = np.take_along_axis(precision, run_end, axis=0)
    positives = truth.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        area = (at_run_end * hits).sum(axis=0) / positives
    return np.where((positives > 0) & (positives < n), area, np.nan)


def score_classes(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    names: Sequence[str] | None = None,
    *,
    excluded: dict[str, str] | None = None,
) -> MacroScore:
    """AUROC and AUPRC of every class with its counts, and the macro means over the defined ones.

    Args:
        labels: 0/1 ``(records, classes)``.
        scores: Same shape.
        names: Class names in column order; ``class_0``... by default.
        excluded: Classes to leave out although a number could be computed, with the reason, e.g. those a
            probe was never shown a positive of.

    Raises:
        ConfigurationError: see :func:`check_scores`; also if the names do not fit the columns.
    """
    truth, values = check_scores(labels, scores)
    k = truth.shape[1]
    names = [f"class_{i}" for i in range(k)] if names is None else list(names)
    if len(names) != k or len(set(names)) != k:
        raise ConfigurationError(f"{k} classes need {k} distinct names, got {names}", value=tuple(names))
    reasons = dict(excluded or {})
    unknown = sorted(set(reasons) - set(names))
    if unknown:
        raise ConfigurationError(f"excluded classes are not among the names: {unknown}", value=tuple(unknown))
    roc, pr = auroc(truth, values), auprc(truth, values)
    positives = truth.sum(axis=0)
    classes = []
    for i, name in enumerate(names):
        reason = reasons.get(name, "")
        if not reason and not np.isfinite(roc[i]):
            reason = "no positive record" if positives[i] == 0 else "no negative record"
        classes.append(
            ClassScore(
                name=name,
                auroc=None if reason else float(roc[i]),
                n=len(truth),
                positives=int(positives[i]),
                auprc=None if reason else float(pr[i]),
                excluded=reason,
            )
        )
    kept_roc = [c.auroc for c in classes if c.auroc is not None]
    kept_pr = [c.auprc for c in classes if c.auprc is not None]
    return MacroScore(
        classes=tuple(classes),
        macro_auroc=float(np.mean(kept_roc)) if kept_roc else None,
        macro_auprc=float(np.mean(kept_pr)) if kept_pr else None,
        n=len(truth),
    )
