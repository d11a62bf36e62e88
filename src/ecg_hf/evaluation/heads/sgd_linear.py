"""A linear head trained by the stochastic schedules other papers publish.

The gradient of a linear layer under binary cross-entropy is one matrix product, ``x^T (sigmoid(x W) - y)``, so a step
costs microseconds in numpy, where automatic differentiation and an optimiser object spend most of theirs on overhead:
a hundred epochs of batch 16 over PTB-XL are a hundred thousand steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.heads.base import (
    FeatureScale,
    LogOddsHead,
    check_width,
    checked_features,
    checked_labels,
    class_names_of,
    learnable_classes,
    macro_quality,
)
from ecg_hf.evaluation.heads.schedules import Schedule, get_schedule
from ecg_hf.metrics.ranking import FloatArray, same_in_ties
from ecg_hf.progress import progress_bar

__all__ = ["SgdLinearHead"]

SingleArray = npt.NDArray[np.float32]
EPSILON = 1e-8


@dataclass(slots=True, eq=False)
class SgdLinearHead(LogOddsHead):
    """One linear layer, binary cross-entropy, Adam or AdamW, with a published schedule.

    Weights start as those of ``torch.nn.Linear``. Initial weights and the order of records follow from :attr:`seed`,
    the steps are those of torch's optimisers. Unknown labels (NaN) take no part in the loss. A class without a known
    positive, or without a known negative, training record is handled as in :class:`ecg_hf.evaluation.LinearProbe`.

    Attributes:
        schedule: Name of a published schedule, or one of one's own.
        standardise: Centre and scale features on the training records; the published heads do not.
        clip_sd: Limit on standardised features.
        seed: Of everything random.
        progress: Show a progress bar.
        epoch: The chosen epoch, from 1 (after fitting).
        validation_auroc: Validation macro AUROC after every epoch (after fitting; empty without validation records).
        test_auroc: Test macro AUROC after every epoch, of schedules that choose by it; empty for all others.
        unfitted: Class name -> why it could not be learnt (after fitting).

    Differs from official code:
        Float32 throughout instead of mixed precision. MERL lets the BatchNorm statistics of its frozen ResNet move
        during the probe; features computed once cannot.
    """

    schedule: str | Schedule = "merl"
    standardise: bool = False
    clip_sd: float = 10.0
    seed: int = 0
    progress: bool = False
    epoch: int = field(default=0, init=False)
    validation_auroc: tuple[float, ...] = field(default=(), init=False)
    test_auroc: tuple[float, ...] = field(default=(), init=False)
    unfitted: dict[str, str] = field(default_factory=dict, init=False)
    class_names: tuple[str, ...] = field(default=(), init=False)
    coef: FloatArray | None = field(default=None, init=False, repr=False)
    intercept: FloatArray | None = field(default=None, init=False, repr=False)
    _scale: FeatureScale | None = field(default=None, init=False, repr=False)

    def fit(
        self,
        features: npt.ArrayLike,
        labels: npt.ArrayLike,
        validation_features: npt.ArrayLike | None = None,
        validation_labels: npt.ArrayLike | None = None,
        *,
        class_names: Sequence[str] | None = None,
        test_features: npt.ArrayLike | None = None,
        test_labels: npt.ArrayLike | None = None,
    ) -> SgdLinearHead:
        """Train on labelled records, choose the epoch as the schedule says.

        Args:
            features: float ``(records, dim)``.
            labels: 0, 1 or NaN (unknown) ``(records, classes)``.
            validation_features: float ``(validation records, dim)``.
            validation_labels: Their labels; needed where the schedule chooses on validation.
            class_names: Names for :attr:`unfitted`.
            test_features: Taken by schedules that choose by the test score alone.
            test_labels: Their labels.

        Returns:
            The head itself.

        Raises:
            ConfigurationError: if shapes do not fit, no class can be learnt, what the choice needs is missing, or the
                loss is not finite.
        """
        schedule = get_schedule(self.schedule) if isinstance(self.schedule, str) else self.schedule
        y, known = checked_labels(labels)
        x = checked_features(features, len(y))
        self.class_names = class_names_of(class_names, y.shape[1])
        fitted, self.unfitted = learnable_classes(y, known, self.class_names)
        self._scale = FeatureScale.of(x, self.clip_sd) if self.standardise else None
        inputs = self._inputs(x)
        judged = self._judged(schedule, validation_features, validation_labels, y.shape[1], inputs.shape[1])
        tested = self._tested(schedule, test_features, test_labels, y.shape[1], inputs.shape[1])

        weight = (known & fitted).astype(np.float32)
        target = np.nan_to_num(y)
        rng = np.random.default_rng(self.seed)
        bound = 1.0 / np.sqrt(x.shape[1])
        steps = _Adam(
            rng.uniform(-bound, bound, (inputs.shape[1], y.shape[1])).astype(np.float32),
            schedule.weight_decay,
            decoupled=schedule.optimizer == "adamw",
            betas=schedule.betas,
        )
        per_epoch = -(-len(x) // schedule.batch_size)
        plain = bool(weight.all())
        validation_auroc: list[float] = []
        test_auroc: list[float] = []
        best, chosen = -np.inf, steps.weights
        self.epoch = schedule.epochs
        with progress_bar(schedule.epochs, "linear head", "epoch", show=self.progress) as bar:
            for epoch in range(schedule.epochs):
                order = rng.permutation(len(x))
                for number in range(per_epoch):
                    rows = order[number * schedule.batch_size : (number + 1) * schedule.batch_size]
                    batch = inputs[rows]
                    error = expit(batch @ steps.weights) - target[rows]
                    if plain:
                        error /= error.size
                    else:
                        error *= weight[rows]
                        error /= max(float(weight[rows].sum()), 1.0)
                    steps.step(batch.T @ error, schedule.rate(epoch * per_epoch + number, per_epoch))
                if not np.isfinite(steps.weights).all():
                    raise ConfigurationError(
                        f"the weights are not finite after epoch {epoch + 1}: look at the features and the rate",
                        value=epoch + 1,
                    )
                bar.update()
                quality = None
                if judged is not None:
                    validation_auroc.append(_quality(*judged, steps.weights, fitted))
                    quality = validation_auroc[-1] if schedule.select == "validation" else None
                if tested is not None:
                    test_auroc.append(_quality(*tested, steps.weights, fitted))
                    quality = test_auroc[-1]
                if quality is not None and quality > best:
                    best, self.epoch, chosen = quality, epoch + 1, steps.weights.copy()
                if schedule.patience and epoch + 1 - self.epoch >= schedule.patience and quality is not None:
                    break
        if schedule.select == "last":
            chosen = steps.weights
        self.validation_auroc, self.test_auroc = tuple(validation_auroc), tuple(test_auroc)
        self.coef = np.where(fitted[:, None], chosen[:-1].T, 0.0).astype(np.float64)
        self.intercept = np.where(fitted, chosen[-1], 0.0).astype(np.float64)
        return self

    def decision_function(self, features: npt.ArrayLike) -> FloatArray:
        """Log-odds float64 ``(records, classes)``; a constant 0 for the classes in :attr:`unfitted`.

        Raises:
            ConfigurationError: if the head was not fitted, or to features of another width.
        """
        if self.coef is None or self.intercept is None:
            raise ConfigurationError("the head has not been fitted")
        x = checked_features(features)
        check_width(x, self.coef.shape[1])
        if self._scale is not None:
            x = self._scale(x)
        return same_in_ties(x @ self.coef.T + self.intercept)

    def _inputs(self, x: FloatArray) -> SingleArray:
        """Features in float32 with a last column of ones, whose weight is the bias."""
        scaled = x if self._scale is None else self._scale(x)
        inputs = np.ones((len(x), x.shape[1] + 1), dtype=np.float32)
        inputs[:, :-1] = scaled
        return inputs

    def _judged(
        self,
        schedule: Schedule,
        features: npt.ArrayLike | None,
        labels: npt.ArrayLike | None,
        classes: int,
        width: int,
    ) -> tuple[SingleArray, npt.NDArray[np.float32]] | None:
        if features is None or labels is None:
            if schedule.select == "validation":
                raise ConfigurationError("choosing the epoch needs validation features and labels")
            return None
        return self._scored_set("validation", features, labels, classes, width)

    def _tested(
        self,
        schedule: Schedule,
        features: npt.ArrayLike | None,
        labels: npt.ArrayLike | None,
        classes: int,
        width: int,
    ) -> tuple[SingleArray, npt.NDArray[np.float32]] | None:
        if schedule.select != "test_max":
            if features is not None or labels is not None:
                raise ConfigurationError(
                    f"schedule {schedule.name!r} does not look at the test set while training",
                    value=schedule.name,
                )
            return None
        if features is None or labels is None:
            raise ConfigurationError(f"schedule {schedule.name!r} chooses by test records: give them")
        return self._scored_set("test", features, labels, classes, width)

    def _scored_set(
        self, what: str, features: npt.ArrayLike, labels: npt.ArrayLike, classes: int, width: int
    ) -> tuple[SingleArray, npt.NDArray[np.float32]]:
        y, _ = checked_labels(labels)
        x = checked_features(features, len(y))
        if (y.shape[1], x.shape[1] + 1) != (classes, width):
            raise ConfigurationError(
                f"{what} has {y.shape[1]} classes and {x.shape[1]} features, training {classes} and {width - 1}",
                value=(y.shape, x.shape),
            )
        return self._inputs(x), y


def _quality(
    inputs: SingleArray, y: npt.NDArray[np.float32], weights: SingleArray, fitted: npt.NDArray[np.bool_]
) -> float:
    scores = (inputs @ weights).astype(np.float64)
    return macro_quality(y[:, fitted], scores[:, fitted], "the epoch")


class _Adam:
    """Adam and AdamW as ``torch.optim`` computes them, in place and in float32."""

    def __init__(
        self, weights: SingleArray, weight_decay: float, *, decoupled: bool, betas: tuple[float, float]
    ) -> None:
        self._betas = betas
        self.weights = weights
        self.weight_decay = weight_decay
        self.decoupled = decoupled
        self._first, self._second = np.zeros_like(weights), np.zeros_like(weights)
        self._scratch = np.empty_like(weights)
        self._count = 0

    def step(self, gradient: SingleArray, rate: float) -> None:
        """One update; ``gradient`` is used up."""
        weights, scratch = self.weights, self._scratch
        if self.decoupled:
            weights *= np.float32(1.0 - rate * self.weight_decay)
        elif self.weight_decay:
            np.multiply(weights, np.float32(self.weight_decay), out=scratch)
            gradient += scratch
        self._count += 1
        first, second = (np.float32(beta) for beta in self._betas)
        self._first *= first
        np.multiply(gradient, 1 - first, out=scratch)
        self._first += scratch
        self._second *= second
        np.multiply(gradient, gradient, out=scratch)
        scratch *= 1 - second
        self._second += scratch
        np.sqrt(self._second, out=scratch)
        scratch /= np.float32(np.sqrt(1.0 - self._betas[1] ** self._count))
        scratch += np.float32(EPSILON)
        np.divide(self._first, scratch, out=scratch)
        scratch *= np.float32(rate / (1.0 - self._betas[0] ** self._count))
        weights -= scratch
