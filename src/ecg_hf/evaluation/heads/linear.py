"""Linear probe: what a frozen encoder's features say about labels, read by logistic regression."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.heads.base import (
    FeatureScale,
    LogOddsHead,
    checked_features,
    class_names_of,
    learnable_classes,
    macro_quality,
)
from ecg_hf.metrics.ranking import BoolArray, FloatArray, same_in_ties

__all__ = ["DEFAULT_C_GRID", "LinearProbe", "LogisticPath", "LogisticSolution", "logistic_loss"]

DEFAULT_C_GRID: tuple[float, ...] = tuple(float(f"{10.0**e:.4g}") for e in np.arange(-5.0, 1.01, 0.5))
"""1e-5 to 10 in half decades, in scikit-learn's scaling."""


@dataclass(slots=True, eq=False)
class LinearProbe(LogOddsHead):
    """One L2 logistic regression per class on standardised features, with one ``C`` for all classes.

    The features are centred and scaled on the labelled training records alone, and clipped at ``clip_sd``
    standard deviations, so that one wild recording cannot own a direction. ``C`` is the value of the grid
    with the best validation macro AUROC (the smallest such value on a tie); the model is not refitted on the
    validation records. Fitting is deterministic.

    A class without a positive, or without a negative, training record cannot be learnt: it is predicted by a
    constant, is named in :attr:`unfitted`, and takes no part in the choice of ``C``.

    Attributes:
        c_grid: Candidates for ``C``. A single value needs no validation records.
        clip_sd: Limit on standardised features.
        tolerance: See :class:`ecg_hf.evaluation.heads.linear.LogisticPath`.
        c: The chosen ``C`` (after fitting).
        validation_auroc: Validation macro AUROC of every ``C`` tried (after fitting; empty for one value).
        unfitted: Class name -> why it could not be learnt (after fitting).
        c_at_edge: Whether the choice lies at an end of the grid, so that a wider one might do better.
        converged: Whether every regression of the chosen ``C`` met the tolerance.

    Differs from official code:
        MERL trains the head by Adam for 100 epochs and prints the best *test* AUROC over epochs; here the
        optimum is exact and the selection sees validation records only.

    Example:
        >>> probe = LinearProbe().fit(train_x, train_y, validation_x, validation_y)   # doctest: +SKIP
        >>> scores = probe.decision_function(test_x)                                  # doctest: +SKIP
    """

    c_grid: Sequence[float] = DEFAULT_C_GRID
    clip_sd: float = 10.0
    tolerance: float = 1e-7
    max_iterations: int = 500
    c: float = field(default=float("nan"), init=False)
    validation_auroc: dict[float, float] = field(default_factory=dict, init=False)
    unfitted: dict[str, str] = field(default_factory=dict, init=False)
    converged: bool = field(default=False, init=False)
    class_names: tuple[str, ...] = field(default=(), init=False)
    coef: FloatArray | None = field(default=None, init=False, repr=False)
    intercept: FloatArray | None = field(default=None, init=False, repr=False)
    _scale: FeatureScale | None = field(default=None, init=False, repr=False)

    @property
    def c_at_edge(self) -> bool:
        """Whether the chosen ``C`` is the smallest or largest of several candidates."""
        return len(self.c_grid) > 1 and self.c in (min(self.c_grid), max(self.c_grid))

    def fit(
        self,
        features: npt.ArrayLike,
        labels: npt.ArrayLike,
        validation_features: npt.ArrayLike | None = None,
        validation_labels: npt.ArrayLike | None = None,
        *,
        class_names: Sequence[str] | None = None,
    ) -> LinearProbe:
        """Fit on labelled training records, choose ``C`` on validation records.

        Args:
            features: float ``(records, dim)``.
            labels: 0/1 ``(records, classes)``.
            validation_features: float ``(validation records, dim)``.
            validation_labels: 0/1 ``(validation records, classes)``.
            class_names: Names for :attr:`unfitted`; ``class_0``... by default.

        Returns:
            The probe itself.

        Raises:
            ConfigurationError: if shapes do not fit, no class can be learnt, or ``C`` has to be chosen and no
                class is defined on the validation records.
        """
        y = _labels(labels)
        x = checked_features(features, len(y))
        self._scale = FeatureScale.of(x, self.clip_sd)
        x = self._scale(x)
        self.class_names = class_names_of(class_names, y.shape[1])
        fitted, self.unfitted = learnable_classes(y.astype(np.float32), np.ones_like(y), self.class_names)
        validation = None
        if len(self.c_grid) > 1:
            validation = self._validation(validation_features, validation_labels, y.shape[1])
        path = LogisticPath(x, y[:, fitted], tolerance=self.tolerance, max_iterations=self.max_iterations)
        self.validation_auroc = {}
        best = -np.inf
        for solution in path.solve(self.c_grid):
            quality = 0.0
            if validation is not None:
                x_val, y_val = validation
                quality = macro_quality(y_val[:, fitted], x_val @ solution.coef.T + solution.intercept, "C")
                self.validation_auroc[solution.c] = quality
            if quality > best:
                best = quality
                coef = np.zeros((y.shape[1], x.shape[1]))
                intercept = np.zeros(y.shape[1])
                coef[fitted], intercept[fitted] = solution.coef, solution.intercept
                self.c, self.coef, self.intercept = solution.c, coef, intercept
                self.converged = solution.converged
        return self

    def decision_function(self, features: npt.ArrayLike) -> FloatArray:
        """Log-odds float64 ``(records, classes)``; a constant 0 for the classes in :attr:`unfitted`.

        Raises:
            ConfigurationError: if the probe was not fitted, or to features of another width.
        """
        if self.coef is None or self.intercept is None or self._scale is None:
            raise ConfigurationError("the probe has not been fitted")
        x = self._scale(checked_features(features))
        return same_in_ties(x @ self.coef.T + self.intercept)

    def _validation(
        self, features: npt.ArrayLike | None, labels: npt.ArrayLike | None, n_classes: int
    ) -> tuple[FloatArray, BoolArray]:
        if features is None or labels is None:
            raise ConfigurationError("choosing C among several values needs validation features and labels")
        y = _labels(labels)
        if y.shape[1] != n_classes:
            raise ConfigurationError(
                f"validation labels have {y.shape[1]} classes, training labels {n_classes}", value=y.shape
            )
        assert self._scale is not None
        return self._scale(checked_features(features, len(y))), y


def _labels(labels: npt.ArrayLike) -> BoolArray:
    y = np.asarray(labels)
    if y.ndim != 2 or 0 in y.shape or not np.isin(y, (0, 1)).all():
        raise ConfigurationError(
            f"labels must be 0/1 of shape (records, classes), got {y.shape}", value=y.shape
        )
    return y.astype(bool)


HISTORY = 8


LINE_SEARCH_STEPS = 12


@dataclass(frozen=True, slots=True, eq=False)
class LogisticSolution:
    """Weights of all labels for one ``C``.

    Attributes:
        c: Inverse strength of the penalty, in scikit-learn's scaling.
        coef: float64 ``(labels, features)``.
        intercept: float64 ``(labels,)``.
        loss: float64 ``(labels,)``: value of the objective.
        iterations: Steps taken until the slowest label had converged.
        converged: Whether every label met the tolerance.
    """

    c: float
    coef: FloatArray
    intercept: FloatArray
    loss: FloatArray
    iterations: int
    converged: bool


def logistic_loss(
    features: npt.ArrayLike, labels: npt.ArrayLike, coef: FloatArray, intercept: FloatArray, c: float
) -> FloatArray:
    """The objective of every label at given weights, in float64.

    Args:
        features: ``(records, features)``.
        labels: 0/1 ``(records, labels)``.
        coef: ``(labels, features)``.
        intercept: ``(labels,)``.
        c: Inverse penalty strength.
    """
    x = np.asarray(features, dtype=np.float64)
    signs = np.where(np.asarray(labels, dtype=bool), 1.0, -1.0)
    margins = signs * (x @ coef.T + intercept)
    loss: FloatArray = 0.5 * (coef**2).sum(axis=1) + c * np.logaddexp(0.0, -margins).sum(axis=0)
    return loss


class LogisticPath:
    """Solves the same problems for a growing series of ``C``, each started from the one before.

    Args:
        features: ``(records, features)``; should be standardised, since the penalty treats all columns alike.
        labels: 0/1 ``(records, labels)``, each column with at least one 0 and one 1.
        tolerance: A label is done when the decrease a Newton-like step would still bring is below this share
            of its objective.
        max_iterations: Steps per ``C``.

    Raises:
        ConfigurationError: for shapes that do not fit, features that are not finite, or a label that is
            constant (its intercept would be infinite).
    """

    def __init__(
        self,
        features: npt.ArrayLike,
        labels: npt.ArrayLike,
        *,
        tolerance: float = 1e-7,
        max_iterations: int = 500,
    ) -> None:
        # float64 throughout: in float32 the weak directions of correlated features drown in rounding, and the
        # path of a PTB-XL sized probe takes three seconds either way.
        x = np.asarray(features, dtype=np.float64)
        y = np.asarray(labels, dtype=bool)
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or 0 in x.shape or 0 in y.shape:
            raise ConfigurationError(
                f"need (records, features) and (records, labels), got {x.shape} and {y.shape}",
                value=(x.shape, y.shape),
            )
        if not np.isfinite(x).all():
            raise ConfigurationError("features of a logistic regression must be finite")
        counts = y.sum(axis=0)
        if ((counts == 0) | (counts == len(y))).any():
            raise ConfigurationError(
                "every label needs a positive and a negative record", value=counts.tolist()
            )
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self._signs = np.where(y, 1.0, -1.0)
        self._basis, self._curvature = _eigenbasis(x)
        self._rotated = x @ self._basis
        # Start at the base rates: right for C -> 0, where all weights vanish.
        base = np.log(counts / (len(y) - counts))
        self._weights = np.concatenate([np.zeros((self._rotated.shape[1], y.shape[1])), base[None]])

    def solve(self, grid: Iterable[float]) -> Iterator[LogisticSolution]:
        """Solutions for every ``C`` of ``grid``, in ascending order of ``C``."""
        values = sorted(float(c) for c in grid)
        if not values or not (values[0] > 0 and np.isfinite(values[-1])):
            raise ConfigurationError(f"C must be positive and finite, got {values}", value=tuple(values))
        for c in values:
            yield self._solve_one(c)

    def _solve_one(self, c: float) -> LogisticSolution:
        weights = self._weights
        loss, iterations, converged = _minimise(
            self._rotated, self._signs, self._curvature, weights, c, self.tolerance, self.max_iterations
        )
        return LogisticSolution(
            c=c,
            coef=np.ascontiguousarray((self._basis @ weights[:-1]).T),
            intercept=weights[-1].copy(),
            loss=loss,
            iterations=iterations,
            converged=converged,
        )


def _eigenbasis(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Orthonormal directions spanning the rows of ``x``, and the sum of squares along each."""
    n, d = x.shape
    if n < d:
        # Thin case: the Gram matrix of the records is the smaller one.
        values, vectors = np.linalg.eigh(x @ x.T)
        kept = values > values[-1] * n * np.finfo(x.dtype).eps
        values, vectors = values[kept], vectors[:, kept]
        directions = (x.T @ vectors) / np.sqrt(values)
        # The division amplifies rounding in the weak directions; the projection must stay orthonormal for the
        # penalty to be the same in both bases.
        directions, _ = np.linalg.qr(directions)
        values = ((x @ directions) ** 2).sum(axis=0)
    else:
        values, directions = np.linalg.eigh(x.T @ x)
    return directions, np.maximum(values, 0.0)


def _minimise(
    x: FloatArray,
    signs: FloatArray,
    curvature: FloatArray,
    weights: FloatArray,
    c: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[FloatArray, int, bool]:
    """Preconditioned L-BFGS on all columns of ``weights``, in place. Returns loss, steps, converged."""
    penalty = np.ones((len(weights), 1))
    penalty[-1] = 0.0
    full_curvature = np.concatenate([curvature, [len(x)]])[:, None]

    active = np.arange(weights.shape[1])
    loss = np.empty(weights.shape[1])
    margins = x @ weights[:-1] + weights[-1]
    iterations = 0
    # The starting Hessian is fixed by the typical curvature p (1 - p) of each label at the start of this C.
    probability = _sigmoid(margins)
    spread = (probability * (1.0 - probability)).mean(axis=0)
    preconditioner = 1.0 / (penalty + c * np.maximum(spread, 1e-6) * full_curvature + 1e-12)

    gradient = _gradient(x, signs, margins, weights, penalty, c)
    memory: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    while True:
        current = weights[:, active]
        direction = -_two_loop(gradient, memory, preconditioner)
        slope = (gradient * direction).sum(axis=0)
        uphill = slope >= 0  # only by rounding; the preconditioned gradient always descends
        if uphill.any():
            direction[:, uphill] = -(preconditioner * gradient)[:, uphill]
            slope = (gradient * direction).sum(axis=0)
        value = _objective(margins, signs[:, active], current, penalty, c)
        loss[active] = value
        open_ = -slope > tolerance * value
        if iterations >= max_iterations or not open_.any():
            return loss, iterations, not open_.any()
        if not open_.all():
            active = active[open_]
            current, direction, gradient = current[:, open_], direction[:, open_], gradient[:, open_]
            margins, preconditioner = margins[:, open_], preconditioner[:, open_]
            memory = [(s[:, open_], y[:, open_], r[open_]) for s, y, r in memory]
        along = x @ direction[:-1] + direction[-1]
        step = _line_search(margins, along, signs[:, active], current, direction, penalty, c)
        moved = step * direction
        weights[:, active] = current + moved
        margins = margins + step * along
        new_gradient = _gradient(x, signs[:, active], margins, weights[:, active], penalty, c)
        change = new_gradient - gradient
        curvature_along = (moved * change).sum(axis=0)
        # The objective is convex, so this is positive but for rounding; a pair that is not is switched off.
        usable = curvature_along > 1e-14 * np.sqrt((moved**2).sum(axis=0) * (change**2).sum(axis=0))
        inverse = np.divide(1.0, curvature_along, out=np.zeros_like(curvature_along), where=usable)
        memory = [*memory[-(HISTORY - 1) :], (moved, change, inverse)]
        gradient = new_gradient
        iterations += 1


def _sigmoid(margins: FloatArray) -> FloatArray:
    return 0.5 * (1.0 + np.tanh(0.5 * margins))


def _objective(
    margins: FloatArray, signs: FloatArray, weights: FloatArray, penalty: FloatArray, c: float
) -> FloatArray:
    fit: FloatArray = np.logaddexp(0.0, -signs * margins).sum(axis=0)
    return c * fit + 0.5 * np.asarray((penalty * weights**2).sum(axis=0))


def _gradient(
    x: FloatArray,
    signs: FloatArray,
    margins: FloatArray,
    weights: FloatArray,
    penalty: FloatArray,
    c: float,
) -> FloatArray:
    residual = -signs * _sigmoid(-signs * margins)
    of_weights = x.T @ residual
    return penalty * weights + c * np.concatenate([of_weights, residual.sum(axis=0)[None]])


def _two_loop(
    gradient: FloatArray,
    memory: list[tuple[FloatArray, FloatArray, FloatArray]],
    preconditioner: FloatArray,
) -> FloatArray:
    """L-BFGS product of the inverse Hessian with the gradient, per column."""
    q = gradient.copy()
    shares = []
    for moved, change, inverse in reversed(memory):
        share = inverse * (moved * q).sum(axis=0)
        q -= share * change
        shares.append(share)
    q *= preconditioner
    for (moved, change, inverse), share in zip(memory, reversed(shares), strict=True):
        q += moved * (share - inverse * (change * q).sum(axis=0))
    return q


def _line_search(
    margins: FloatArray,
    along: FloatArray,
    signs: FloatArray,
    weights: FloatArray,
    direction: FloatArray,
    penalty: FloatArray,
    c: float,
) -> FloatArray:
    """Minimiser of the objective along ``direction``, per column, by safeguarded Newton steps.

    The derivative along the line is increasing, so its root is kept between a point where it is negative
    and one where it is positive.
    """
    linear = (penalty * weights * direction).sum(axis=0)
    quadratic = (penalty * direction**2).sum(axis=0)
    step = np.ones(margins.shape[1])
    low, high = np.zeros_like(step), np.full_like(step, np.inf)
    start = None
    for _ in range(LINE_SEARCH_STEPS):
        moved = signs * (margins + step * along)
        p = _sigmoid(-moved)
        slope = linear + step * quadratic - c * (signs * along * p).sum(axis=0)
        bend = quadratic + c * (along**2 * p * (1.0 - p)).sum(axis=0)
        start = np.abs(slope) if start is None else start
        low, high = np.where(slope <= 0, step, low), np.where(slope > 0, step, high)
        newton = step - slope / np.maximum(bend, 1e-300)
        inside = (newton > low) & (newton < high)
        fallback = np.where(np.isfinite(high), 0.5 * (low + high), 2.0 * np.maximum(step, 1e-3))
        candidate = np.where(inside, newton, fallback)
        if (np.abs(candidate - step) <= 0.05 * np.abs(step)).all():
            return candidate
        step = candidate
    return step
