"""Linear probe: what a frozen encoder's features say about labels, read by logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.head_inputs import (
    FeatureScale,
    checked_features,
    class_names_of,
    learnable_classes,
    to_probability,
)
from ecg_hf.evaluation.logistic import LogisticPath
from ecg_hf.evaluation.metrics import BoolArray, FloatArray, auroc, same_in_ties

__all__ = ["DEFAULT_C_GRID", "LinearProbe"]

DEFAULT_C_GRID: tuple[float, ...] = tuple(float(f"{10.0**e:.4g}") for e in np.arange(-5.0, 1.01, 0.5))
"""1e-5 to 10 in half decades, in scikit-learn's scaling."""


@dataclass(slots=True, eq=False)
class LinearProbe:
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
        tolerance: See :class:`ecg_hf.evaluation.logistic.LogisticPath`.
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
                areas = auroc(y_val[:, fitted], x_val @ solution.coef.T + solution.intercept)
                if not np.isfinite(areas).any():
                    raise ConfigurationError(
                        "C cannot be chosen: no class that can be learnt is defined on the validation records"
                    )
                quality = float(np.nanmean(areas))
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

    def predict_proba(self, features: npt.ArrayLike) -> FloatArray:
        """Probabilities float64 ``(records, classes)``; NaN for the classes in :attr:`unfitted`."""
        probability = to_probability(self.decision_function(features))
        probability[:, [name in self.unfitted for name in self.class_names]] = np.nan
        return probability

    predict = decision_function

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
