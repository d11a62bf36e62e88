"""MLP probe: one hidden layer or more on frozen features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.heads.base import (
    FeatureScale,
    LogOddsHead,
    checked_features,
    checked_labels,
    class_names_of,
    learnable_classes,
    macro_quality,
    train_by_epochs,
)
from ecg_hf.metrics.ranking import FloatArray

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["MlpProbe"]


@dataclass(slots=True, eq=False)
class MlpProbe(LogOddsHead):
    """Linear, GELU, dropout for every hidden width, then a linear layer; standardised features.

    What a linear probe cannot read but a small network can is in the features all the same; the difference between
    the two says how linearly. The loss is the binary cross-entropy averaged over known labels, the optimiser AdamW at
    a constant rate; the epoch with the best validation macro AUROC is kept, without validation records the last one.
    Everything random follows from :attr:`seed`. A class that cannot be learnt is handled as in
    :class:`ecg_hf.evaluation.LinearProbe`.

    Attributes:
        hidden: Widths of the hidden layers.
        dropout: Rate behind each of them.
        epochs: Passes over the training records at most.
        learning_rate: Of AdamW, constant.
        weight_decay: Of AdamW, on every parameter.
        batch_size: Records per step.
        patience: Epochs without a better validation score before training stops; 0 never stops.
        clip_sd: Limit on standardised features.
        seed: Of everything random.
        device: Where the head is trained.
        progress: Show a progress bar.
        epoch: The chosen epoch, from 1 (after fitting).
        validation_auroc: Validation macro AUROC after every epoch (after fitting; empty without validation records).
        unfitted: Class name -> why it could not be learnt (after fitting).

    No published protocol prescribes this head; its settings are this package's own.
    """

    hidden: tuple[int, ...] = (512,)
    dropout: float = 0.1
    epochs: int = 50
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    batch_size: int = 128
    patience: int = 10
    clip_sd: float = 10.0
    seed: int = 0
    device: str = "cpu"
    progress: bool = False
    epoch: int = field(default=0, init=False)
    validation_auroc: tuple[float, ...] = field(default=(), init=False)
    unfitted: dict[str, str] = field(default_factory=dict, init=False)
    class_names: tuple[str, ...] = field(default=(), init=False)
    network: nn.Sequential | None = field(default=None, init=False, repr=False)
    _scale: FeatureScale | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the settings."""
        numbers = (self.epochs, self.batch_size, self.learning_rate, self.clip_sd, *self.hidden)
        if not self.hidden or min(numbers) <= 0 or not 0.0 <= self.dropout < 1.0:
            raise ConfigurationError(
                f"an MLP probe needs hidden widths, epochs, batch size, rate and clip above 0 and dropout in [0, 1), "
                f"got {self.hidden}, {numbers[:4]}, {self.dropout}"
            )

    def fit(
        self,
        features: npt.ArrayLike,
        labels: npt.ArrayLike,
        validation_features: npt.ArrayLike | None = None,
        validation_labels: npt.ArrayLike | None = None,
        *,
        class_names: Sequence[str] | None = None,
    ) -> MlpProbe:
        """Train on labelled records, choose the epoch on validation records.

        Args:
            features: float ``(records, dim)``.
            labels: 0, 1 or NaN (unknown) ``(records, classes)``.
            validation_features: float ``(validation records, dim)``.
            validation_labels: Their labels.
            class_names: Names for :attr:`unfitted`.

        Returns:
            The probe itself.

        Raises:
            ConfigurationError: if shapes do not fit, no class can be learnt, the epoch cannot be chosen, or the loss
                is not finite.
        """
        import torch

        y, known = checked_labels(labels)
        x = checked_features(features, len(y))
        self.class_names = class_names_of(class_names, y.shape[1])
        fitted, self.unfitted = learnable_classes(y, known, self.class_names)
        self._scale = FeatureScale.of(x, self.clip_sd)
        inputs = self._inputs(x)
        validation = self._validation(validation_features, validation_labels, y.shape[1])
        random = np.random.default_rng(self.seed)

        def forward() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            order = torch.from_numpy(random.permutation(len(x)))
            for rows in order.split(self.batch_size):
                yield rows, network(inputs[rows])

        def score() -> float:
            assert validation is not None
            return macro_quality(
                validation[1][:, fitted], self._logits(validation[0])[:, fitted], "the epoch"
            )

        # Dropout draws from torch's global generator: put back, so that a probe changes nothing around it.
        with torch.random.fork_rng(devices=[] if self.device == "cpu" else None):
            torch.manual_seed(self.seed)
            network = self.network = self._build(x.shape[1], y.shape[1]).to(self.device)
            self.epoch, self.validation_auroc = train_by_epochs(
                network,
                forward,
                y,
                known & fitted,
                epochs=self.epochs,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                score=None if validation is None else score,
                patience=self.patience,
                title="MLP probe",
                progress=self.progress,
            )
        return self

    def decision_function(self, features: npt.ArrayLike) -> FloatArray:
        """Log-odds float64 ``(records, classes)``; a constant 0 for the classes in :attr:`unfitted`.

        Raises:
            ConfigurationError: if the probe was not fitted, or to features of another width.
        """
        if self.network is None:
            raise ConfigurationError("the head has not been fitted")
        scores = self._logits(self._inputs(checked_features(features)))
        scores[:, self._not_learnt()] = 0.0
        return scores

    def _build(self, dim: int, classes: int) -> nn.Sequential:
        from torch import nn

        layers: list[nn.Module] = []
        for width in self.hidden:
            layers += [nn.Linear(dim, width), nn.GELU(), nn.Dropout(self.dropout)]
            dim = width
        return nn.Sequential(*layers, nn.Linear(dim, classes))

    def _inputs(self, x: FloatArray) -> torch.Tensor:
        import torch

        assert self._scale is not None
        return torch.from_numpy(self._scale(x)).float().to(self.device)

    def _logits(self, inputs: torch.Tensor) -> FloatArray:
        import torch

        assert self.network is not None
        self.network.eval()
        with torch.inference_mode():
            return np.asarray(self.network(inputs).cpu().double().numpy())

    def _validation(
        self, features: npt.ArrayLike | None, labels: npt.ArrayLike | None, classes: int
    ) -> tuple[torch.Tensor, npt.NDArray[np.float32]] | None:
        if features is None and labels is None:
            return None
        if features is None or labels is None:
            raise ConfigurationError("choosing the epoch needs both validation features and labels")
        y, _ = checked_labels(labels)
        if y.shape[1] != classes:
            raise ConfigurationError(
                f"validation has {y.shape[1]} classes, training {classes}", value=y.shape
            )
        return self._inputs(checked_features(features, len(y))), y
