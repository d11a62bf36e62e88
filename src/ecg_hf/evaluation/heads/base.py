"""What every head does with its features and labels before and after training: checks, scaling, selection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.metrics.ranking import BoolArray, FloatArray, macro_auroc

__all__ = [
    "FeatureScale",
    "Head",
    "checked_features",
    "checked_labels",
    "class_names_of",
    "learnable_classes",
    "macro_quality",
    "to_probability",
]


@runtime_checkable
class Head(Protocol):
    """A classifier on frozen features.

    Attributes:
        unfitted: Class name -> why it could not be learnt.
    """

    unfitted: dict[str, str]

    def fit(
        self,
        features: Any,
        labels: npt.ArrayLike,
        validation_features: Any = None,
        validation_labels: npt.ArrayLike | None = None,
        *,
        class_names: Sequence[str] | None = None,
    ) -> Head:
        """Train on labelled records, choose on validation records."""
        ...

    def decision_function(self, features: Any) -> FloatArray:
        """Log-odds ``(records, classes)``; 0 for classes that could not be learnt."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FeatureScale:
    """Centre and spread of the labelled training records' features; standardised values are clipped.

    Attributes:
        centre: float64 ``(dim,)``.
        spread: float64 ``(dim,)``; infinite for a column that is constant but for rounding, which then is 0.
        clip_sd: Limit on standardised values, so that one wild recording cannot own a direction.
    """

    centre: FloatArray
    spread: FloatArray
    clip_sd: float

    @classmethod
    def of(cls, x: FloatArray, clip_sd: float) -> FeatureScale:
        """The scale of features ``(records, dim)``."""
        centre, spread = x.mean(axis=0), x.std(axis=0)
        # An encoder that says the same of every record does so to a few float32 ulps, which batches decide.
        constant = spread <= 1e-6 * np.maximum(np.abs(centre), 1e-30)
        return cls(centre, np.where(constant, np.inf, spread), clip_sd)

    def __call__(self, x: FloatArray) -> FloatArray:
        """Standardised features."""
        check_width(x, len(self.centre))
        scaled = (x - self.centre) / self.spread
        return np.clip(scaled, -self.clip_sd, self.clip_sd, out=scaled)


def check_width(x: npt.NDArray[Any], width: int) -> None:
    """Raise unless features have the width a head was fitted to."""
    if x.shape[1] != width:
        raise ConfigurationError(f"the head was fitted to {width} features, got {x.shape[1]}", value=x.shape)


def checked_features(features: npt.ArrayLike, n: int | None = None) -> FloatArray:
    """Features as float64 ``(records, dim)``.

    Raises:
        ConfigurationError: for another shape or type, or values that are not finite.
    """
    x = np.asarray(features)
    if x.ndim != 2 or x.dtype.kind not in "fiu" or (n is not None and len(x) != n):
        wanted = "(records, dim)" if n is None else f"({n}, dim)"
        raise ConfigurationError(
            f"features must be real and {wanted}, got {x.dtype} {x.shape}", value=x.shape
        )
    x = x.astype(np.float64)
    if not np.isfinite(x).all():
        row = int(np.argwhere(~np.isfinite(x))[0, 0])
        raise ConfigurationError(f"features of record {row} are not finite", value=row)
    return x


def checked_labels(labels: npt.ArrayLike, n: int | None = None) -> tuple[npt.NDArray[np.float32], BoolArray]:
    """Labels 0, 1 or NaN (unknown) as float32 ``(records, classes)``, and which are known.

    Raises:
        ConfigurationError: for another shape or other values.
    """
    y = np.asarray(labels, dtype=np.float32)
    known = ~np.isnan(y)
    if y.ndim != 2 or 0 in y.shape or (n is not None and len(y) != n) or not np.isin(y[known], (0, 1)).all():
        records = "records" if n is None else n
        raise ConfigurationError(
            f"labels must be 0, 1 or NaN and ({records}, classes), got {y.shape}", value=y.shape
        )
    return y, known


def class_names_of(names: Sequence[str] | None, k: int) -> tuple[str, ...]:
    """``names``, or ``class_0``..., checked to be as many as classes."""
    chosen = tuple(names) if names is not None else tuple(f"class_{i}" for i in range(k))
    if len(chosen) != k:
        raise ConfigurationError(f"{len(chosen)} names for {k} classes", value=chosen)
    return chosen


def learnable_classes(
    y: npt.NDArray[np.float32], known: BoolArray, names: Sequence[str]
) -> tuple[BoolArray, dict[str, str]]:
    """Classes with a known positive and a known negative training record, and why the others cannot be learnt.

    Raises:
        ConfigurationError: if there is no such class.
    """
    positives, counts = (y == 1).sum(axis=0), known.sum(axis=0)
    fitted: BoolArray = (positives > 0) & (positives < counts)
    unfitted = {
        name: f"no {'positive' if positive == 0 else 'negative'} record among {count} for training"
        for name, positive, count, ok in zip(names, positives, counts, fitted, strict=True)
        if not ok
    }
    if not fitted.any():
        raise ConfigurationError(f"no class can be learnt from {len(y)} records: all labels are constant")
    return fitted, unfitted


def macro_quality(y: npt.NDArray[np.float32], scores: FloatArray, fitted: BoolArray, what: str) -> float:
    """Macro AUROC over the known labels of the classes that can be learnt.

    Args:
        y: 0, 1 or NaN ``(records, classes)``.
        scores: Same shape.
        fitted: bool ``(classes,)``.
        what: What is being chosen, for the message.

    Raises:
        ConfigurationError: if none of these classes is defined.
    """
    area, defined = macro_auroc(y[:, fitted], scores[:, fitted])
    if not defined:
        raise ConfigurationError(
            f"{what} cannot be chosen: no class that can be learnt is defined on the validation records"
        )
    return area


def to_probability(logits: FloatArray) -> FloatArray:
    """Logistic function without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))
