"""What every head does with its features and labels before and after training: checks, scaling, selection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.metrics.ranking import BoolArray, FloatArray, macro_auroc
from ecg_hf.progress import progress_bar

if TYPE_CHECKING:
    import torch

__all__ = [
    "FeatureScale",
    "Head",
    "LogOddsHead",
    "checked_features",
    "checked_labels",
    "class_names_of",
    "learnable_classes",
    "macro_quality",
    "to_probability",
    "train_by_epochs",
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


class LogOddsHead(ABC):
    """A :class:`Head` whose scores are log-odds, so that it also has probabilities.

    Attributes:
        class_names: Names of the classes (after fitting).
        unfitted: Class name -> why it could not be learnt (after fitting).
    """

    __slots__ = ()
    class_names: tuple[str, ...]
    unfitted: dict[str, str]

    @abstractmethod
    def decision_function(self, features: Any) -> FloatArray:
        """Log-odds float64 ``(records, classes)``; 0 for the classes in :attr:`unfitted`."""

    def predict(self, features: Any) -> FloatArray:
        """:meth:`decision_function`, under scikit-learn's usual name."""
        return self.decision_function(features)

    def predict_proba(self, features: Any) -> FloatArray:
        """Probabilities float64 ``(records, classes)``; NaN for the classes in :attr:`unfitted`."""
        probability = to_probability(self.decision_function(features))
        probability[:, self._not_learnt()] = np.nan
        return probability

    def _not_learnt(self) -> list[bool]:
        return [name in self.unfitted for name in self.class_names]


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


def macro_quality(y: npt.NDArray[Any], scores: FloatArray, what: str) -> float:
    """Macro AUROC of validation records, by which something is chosen.

    Args:
        y: 0, 1 or NaN (unknown) ``(records, classes)`` of the classes that can be learnt.
        scores: Same shape.
        what: What is being chosen, for the message.

    Raises:
        ConfigurationError: if none of these classes is defined.
    """
    area, defined = macro_auroc(y, scores)
    if not defined:
        raise ConfigurationError(
            f"{what} cannot be chosen: no class that can be learnt is defined on the validation records"
        )
    return area


def to_probability(logits: FloatArray) -> FloatArray:
    """Logistic function without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))


def train_by_epochs(
    module: torch.nn.Module,
    forward: Callable[[], Iterable[tuple[Any, torch.Tensor]]],
    y: npt.NDArray[np.float32],
    trained: BoolArray,
    *,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
    score: Callable[[], float] | None = None,
    patience: int = 0,
    title: str = "",
    progress: bool = False,
) -> tuple[int, tuple[float, ...]]:
    """Train a head by AdamW on binary cross-entropy; keep the epoch with the best score, the first such on a tie.

    Args:
        module: The head, in evaluation mode afterwards.
        forward: One pass over the records: row numbers and logits ``(batch, classes)`` of one batch after the other,
            each computed when it is asked for.
        y: 0, 1 or NaN ``(records, classes)``.
        trained: bool, same shape: labels that count in the loss, which is their mean.
        epochs: Passes at most.
        learning_rate: Of AdamW, constant.
        weight_decay: Of AdamW, on every parameter.
        score: Judges the module after an epoch, higher is better; without it the last epoch is kept.
        patience: Epochs without a better score before training stops; 0 never stops.
        title: Of the progress bar.
        progress: Show it.

    Returns:
        The chosen epoch, from 1, and the score after every epoch.

    Raises:
        ConfigurationError: if the loss is not finite.
    """
    import torch
    from torch.nn import functional as F

    optimizer = torch.optim.AdamW(module.parameters(), lr=learning_rate, weight_decay=weight_decay)
    device = next(module.parameters()).device
    targets = torch.from_numpy(np.nan_to_num(y)).to(device)
    weights = torch.from_numpy(trained.astype(np.float32)).to(device)
    scores: list[float] = []
    chosen, best, best_state = epochs, -np.inf, None
    with progress_bar(epochs, title, "epoch", show=progress) as bar:
        for epoch in range(1, epochs + 1):
            module.train()
            total = torch.zeros((), device=device)
            for rows, logits in forward():
                losses = F.binary_cross_entropy_with_logits(logits, targets[rows], reduction="none")
                loss = (losses * weights[rows]).sum() / weights[rows].sum().clamp(min=1.0)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += loss.detach()
            if not bool(torch.isfinite(total)):
                raise ConfigurationError(
                    f"the loss is not finite in epoch {epoch}: look at the features and the learning rate",
                    value=epoch,
                )
            bar.update()
            if score is None:
                continue
            scores.append(score())
            if scores[-1] > best:
                chosen, best = epoch, scores[-1]
                best_state = {name: value.clone() for name, value in module.state_dict().items()}
            elif patience and epoch - chosen >= patience:
                break
    if best_state is not None:
        module.load_state_dict(best_state)
    module.eval()
    return chosen, tuple(scores)
