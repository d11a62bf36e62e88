"""Ridge regression of continuous targets (age, heart rate, intervals) on frozen features, and its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.heads.base import FeatureScale, checked_features, class_names_of
from ecg_hf.metrics.bootstrap import resample_counts
from ecg_hf.metrics.intervals import DEFAULT_LEVEL, DEFAULT_RESAMPLES, Interval, percentiles
from ecg_hf.metrics.ranking import FloatArray

__all__ = ["DEFAULT_ALPHAS", "RegressionHead", "TargetScore", "score_regression", "spearman"]

DEFAULT_ALPHAS: tuple[float, ...] = tuple(float(f"{10.0**e:.4g}") for e in np.arange(-2.0, 6.01, 0.5))
"""0.01 to 1e6 in half decades: penalties of scikit-learn's ``Ridge`` on standardised features and targets."""


@dataclass(slots=True, eq=False)
class RegressionHead:
    """Ridge regression per target on standardised features, with the penalty chosen per target on validation.

    Targets are standardised on the training records, so that one grid of penalties serves milliseconds and years. One
    singular value decomposition serves all penalties and all targets that are known for the same records.

    Attributes:
        alphas: Candidates for the penalty. A single one needs no validation records.
        clip_sd: Limit on standardised features.
        alpha: Target -> chosen penalty, the largest of equally good ones (after fitting).
        validation_error: Target -> mean absolute error, in standard deviations, of every penalty (after fitting).
        centre: float64 ``(targets,)``, mean of the training targets (after fitting).
        spread: float64 ``(targets,)``, their standard deviation (after fitting).
        unfitted: Target name -> why it could not be learnt (after fitting).
    """

    alphas: Sequence[float] = DEFAULT_ALPHAS
    clip_sd: float = 10.0
    alpha: dict[str, float] = field(default_factory=dict, init=False)
    validation_error: dict[str, dict[float, float]] = field(default_factory=dict, init=False)
    target_names: tuple[str, ...] = field(default=(), init=False)
    unfitted: dict[str, str] = field(default_factory=dict, init=False)
    centre: FloatArray | None = field(default=None, init=False, repr=False)
    spread: FloatArray | None = field(default=None, init=False, repr=False)
    coef: FloatArray | None = field(default=None, init=False, repr=False)
    intercept: FloatArray | None = field(default=None, init=False, repr=False)
    _scale: FeatureScale | None = field(default=None, init=False, repr=False)

    def fit(
        self,
        features: npt.ArrayLike,
        targets: npt.ArrayLike,
        validation_features: npt.ArrayLike | None = None,
        validation_targets: npt.ArrayLike | None = None,
        *,
        class_names: Sequence[str] | None = None,
    ) -> RegressionHead:
        """Fit on training records, choose penalties on validation records.

        Args:
            features: float ``(records, dim)``.
            targets: float ``(records, targets)``, NaN where unknown.
            validation_features: float ``(validation records, dim)``.
            validation_targets: Their targets.
            class_names: Names of the targets.

        Returns:
            The head itself.

        Raises:
            ConfigurationError: if shapes do not fit, no target can be learnt, or a penalty has to be chosen and none
                of its validation targets is known.
        """
        if not self.alphas or not min(self.alphas) > 0:
            raise ConfigurationError(f"penalties must be positive, got {tuple(self.alphas)}")
        y = _targets(targets)
        x = checked_features(features, len(y))
        names = self.target_names = class_names_of(class_names, y.shape[1])
        self._scale = FeatureScale.of(x, self.clip_sd)
        x = self._scale(x)
        validation = self._validation(validation_features, validation_targets, y.shape[1])
        known = ~np.isnan(y)
        self.alpha, self.validation_error, self.unfitted = {}, {}, {}
        k = y.shape[1]
        self.centre, self.spread = np.full(k, np.nan), np.full(k, np.nan)
        self.coef, self.intercept = np.zeros((k, x.shape[1])), np.full(k, np.nan)
        for pattern in np.unique(known, axis=1).T:
            members = np.flatnonzero((known == pattern[:, None]).all(axis=0))
            rows = np.flatnonzero(pattern)
            constant = [m for m in members if len(rows) < 2 or np.ptp(y[rows, m]) == 0]
            for m in constant:
                self.unfitted[names[m]] = f"no two different values among {len(rows)} records for training"
            members = np.setdiff1d(members, constant)
            if len(members):
                self._fit_together(x[rows], y[rows], members, validation)
        if len(self.unfitted) == k:
            raise ConfigurationError(f"no target can be learnt from {len(y)} records")
        return self

    def predict(self, features: npt.ArrayLike) -> FloatArray:
        """Predictions float64 ``(records, targets)`` in the targets' units; NaN for those in :attr:`unfitted`.

        Raises:
            ConfigurationError: if the head was not fitted, or to features of another width.
        """
        if self.coef is None or self.intercept is None or self._scale is None:
            raise ConfigurationError("the head has not been fitted")
        return np.asarray(self._scale(checked_features(features)) @ self.coef.T + self.intercept)

    decision_function = predict

    def _fit_together(
        self,
        x: FloatArray,
        y: FloatArray,
        members: npt.NDArray[np.intp],
        validation: tuple[FloatArray, FloatArray] | None,
    ) -> None:
        """Targets ``members``, all known for the records ``x``."""
        assert self.centre is not None
        assert self.spread is not None
        assert self.coef is not None
        assert self.intercept is not None
        centre, spread = y[:, members].mean(axis=0), y[:, members].std(axis=0)
        self.centre[members], self.spread[members] = centre, spread
        middle = x.mean(axis=0)
        # The smaller Gram matrix; directions without variance carry nothing and are dropped.
        left, sizes, right = np.linalg.svd(x - middle, full_matrices=False)
        held = sizes > 1e-10 * sizes[0]
        left, sizes, right = left[:, held], sizes[held], right[held]
        projected = left.T @ ((y[:, members] - centre) / spread)
        best = np.full(len(members), np.inf)
        for alpha in sorted((float(a) for a in self.alphas), reverse=True):
            weights = right.T @ (sizes[:, None] / (sizes[:, None] ** 2 + alpha) * projected)
            offset = -middle @ weights
            error = np.zeros(len(members))
            if validation is not None and len(self.alphas) > 1:
                error = self._errors(weights, offset, members, validation, centre, spread)
                for m, value in zip(members, error, strict=True):
                    self.validation_error.setdefault(self.target_names[m], {})[alpha] = float(value)
            for i in np.flatnonzero(error < best):
                best[i], m = error[i], members[i]
                self.alpha[self.target_names[m]] = alpha
                self.coef[m] = weights[:, i] * spread[i]
                self.intercept[m] = offset[i] * spread[i] + centre[i]

    def _errors(
        self,
        weights: FloatArray,
        offset: FloatArray,
        members: npt.NDArray[np.intp],
        validation: tuple[FloatArray, FloatArray],
        centre: FloatArray,
        spread: FloatArray,
    ) -> FloatArray:
        x, y = validation
        truth = (y[:, members] - centre) / spread
        known = ~np.isnan(truth)
        if not known.any(axis=0).all():
            missing = [self.target_names[m] for m in members[~known.any(axis=0)]]
            raise ConfigurationError(
                f"a penalty cannot be chosen: no validation record with {', '.join(missing)}",
                value=tuple(missing),
            )
        away = np.abs(np.where(known, x @ weights + offset - truth, 0.0))
        return np.asarray(away.sum(axis=0) / known.sum(axis=0))

    def _validation(
        self, features: npt.ArrayLike | None, targets: npt.ArrayLike | None, k: int
    ) -> tuple[FloatArray, FloatArray] | None:
        if features is None or targets is None:
            if len(self.alphas) > 1:
                raise ConfigurationError(
                    "choosing among several penalties needs validation features and targets"
                )
            return None
        assert self._scale is not None
        y = _targets(targets)
        if y.shape[1] != k:
            raise ConfigurationError(f"validation has {y.shape[1]} targets, training {k}", value=y.shape)
        return self._scale(checked_features(features, len(y))), y


@dataclass(frozen=True, slots=True)
class TargetScore:
    """Scores of one target.

    Attributes:
        name: Its name.
        n: Records with a known value.
        mae: Mean absolute error in the target's unit, with its interval.
        z_mae: The same in standard deviations of the training targets (predicting the mean gives about 0.8).
        spearman: Rank correlation; NaN where truth or predictions are constant.
    """

    name: str
    n: int
    mae: Interval
    z_mae: Interval
    spearman: Interval


def score_regression(
    targets: npt.ArrayLike,
    predictions: npt.ArrayLike,
    spread: npt.ArrayLike,
    names: Sequence[str] | None = None,
    *,
    groups: Sequence[object] | npt.NDArray[np.generic] | None = None,
    n_resamples: int = DEFAULT_RESAMPLES,
    level: float = DEFAULT_LEVEL,
    seed: int = 0,
) -> tuple[TargetScore, ...]:
    """Mean absolute error, plain and z-normalised, and Spearman's correlation, with bootstrap intervals.

    Args:
        targets: float ``(records, targets)``, NaN where unknown.
        predictions: Same shape; NaN throughout a target that was not learnt.
        spread: ``(targets,)``, standard deviations of the training targets (:attr:`RegressionHead.spread`).
        names: Names of the targets.
        groups: Patient of every record, to resample patients.
        n_resamples: Resamples; 0 for limits that are NaN.
        level: Nominal coverage.
        seed: Seed of the resamples.

    Raises:
        ConfigurationError: for arrays or options that do not fit.
    """
    y, p = _targets(targets), np.asarray(predictions, dtype=np.float64)
    sizes = np.asarray(spread, dtype=np.float64)
    if p.shape != y.shape or sizes.shape != (y.shape[1],):
        raise ConfigurationError(
            f"targets, predictions and spread do not fit: {y.shape}, {p.shape}, {sizes.shape}",
            value=(y.shape, p.shape, sizes.shape),
        )
    labels = class_names_of(names, y.shape[1])
    counts = [
        block.astype(np.float64)
        for block in (
            resample_counts(len(y), n_resamples=n_resamples, seed=seed, groups=groups) if n_resamples else ()
        )
    ]
    scores = []
    for k, name in enumerate(labels):
        rows = np.flatnonzero(~np.isnan(y[:, k]) & ~np.isnan(p[:, k]))
        truth, guess = y[rows, k], p[rows, k]
        away = np.abs(guess - truth)
        weights = [np.ones((len(rows), 1)), *(block[rows] for block in counts)]
        with np.errstate(divide="ignore", invalid="ignore"):
            mae = np.concatenate([away @ w / w.sum(axis=0) for w in weights])
        rho = np.concatenate([_weighted_spearman(truth, guess, w) for w in weights])
        scores.append(
            TargetScore(
                name,
                len(rows),
                *(
                    Interval(float(s[0]), *percentiles(s[1:], level))
                    for s in (mae, mae / (sizes[k] or np.nan), rho)
                ),
            )
        )
    return tuple(scores)


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Spearman's rank correlation with average ranks; NaN where a side is constant."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return float(_weighted_spearman(a, b, np.ones((len(a), 1)))[0])


def _weighted_spearman(a: FloatArray, b: FloatArray, weights: FloatArray) -> FloatArray:
    """The correlation of every resample, records counted ``weights`` (records, resamples) times."""
    total = weights.sum(axis=0)
    if len(a) == 0:
        return np.full(weights.shape[1], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ranks = [_weighted_ranks(values, weights) - (total + 1.0) / 2.0 for values in (a, b)]
        products = [
            (weights * one * other).sum(axis=0) for one, other in (ranks, ranks[:1] * 2, ranks[1:] * 2)
        ]
        correlation = products[0] / np.sqrt(products[1] * products[2])
    return np.where((products[1] > 0) & (products[2] > 0), correlation, np.nan)


def _weighted_ranks(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Average rank of every record among the repeated records of each resample."""
    place = rankdata(values, method="dense").astype(np.intp) - 1
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    of_value = np.add.reduceat(weights[order], starts, axis=0)
    below = np.cumsum(of_value, axis=0) - of_value
    return np.asarray((below + (of_value + 1.0) / 2.0)[place])


def _targets(targets: npt.ArrayLike) -> FloatArray:
    y = np.asarray(targets, dtype=np.float64)
    if y.ndim != 2 or 0 in y.shape or np.isinf(y).any():
        raise ConfigurationError(
            f"targets must be finite or NaN and (records, targets), got {y.shape}", value=y.shape
        )
    return y
