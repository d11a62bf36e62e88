"""Standardised targets and the heads that predict them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecg_hf.nn.normalization import GlobalBatchNorm1d
from ecg_hf.nn.precision import match_weights

__all__ = ["PrincipalComponents", "Standardizer", "TargetHead"]


class Standardizer(nn.Module):
    """Zero mean and unit variance over the training records, cut off at ``limit`` standard deviations.

    Args:
        size: Values per record.
        limit: Largest magnitude of the output.

    Attributes:
        mean: float buffer ``(size,)``.
        scale: float buffer ``(size,)``: standard deviations.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def reset_buffers(self) -> None:
        """Back to the state after construction, also from storage without values."""
        self.mean.zero_()
        self.scale.fill_(1.0)

    @torch.no_grad()
    def fit(self, values: Tensor) -> None:
        """Learn mean and spread of float ``(records, size)``; NaN is left out, constants keep the scale 1.

        Outliers are cut off at ``limit`` times the first estimate before the second, final one.
        """
        values = values.double()
        limited = values
        for _ in range(2):
            count = limited.isfinite().sum(0).clamp(min=1)
            mean = limited.nan_to_num(0.0).sum(0) / count
            spread = ((limited - mean).nan_to_num(0.0).square().sum(0) / count).sqrt()
            spread = torch.where(spread > 1e-6, spread, torch.ones_like(spread))
            limited = (values - mean).clamp(-self.limit * spread, self.limit * spread) + mean
        self.mean.copy_(mean)
        self.scale.copy_(spread)

    def forward(self, values: Tensor) -> Tensor:
        """Standardised float ``(batch, size)``; NaN stays NaN."""
        return ((values - self.mean) / self.scale).clamp(-self.limit, self.limit)


class PrincipalComponents(nn.Module):
    """Coordinates on the main directions of variation of the training records, each with unit variance.

    Args:
        size: Values per record.
        components: Directions kept.
        limit: Values further from the mean are cut off before, coordinates after the projection (in units of
            ``value_limit`` and standard deviations).
        value_limit: See ``limit``.

    Attributes:
        mean: float buffer ``(size,)``.
        directions: float buffer ``(size, components)``, each divided by its coordinate's standard deviation.
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, size: int, components: int, *, limit: float = 4.0, value_limit: float = 2.0) -> None:
        super().__init__()
        self.limit, self.value_limit = limit, value_limit
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("directions", torch.eye(size, components))

    def reset_buffers(self) -> None:
        """Back to the state after construction, also from storage without values."""
        self.mean.zero_()
        self.directions.zero_()
        self.directions.fill_diagonal_(1.0)

    @torch.no_grad()
    def fit(self, values: Tensor) -> None:
        """Learn mean and directions of finite float ``(records, size)``."""
        self.mean.copy_(values.double().mean(0))
        centred = (values - self.mean).clamp(-self.value_limit, self.value_limit).double()
        _, vectors = torch.linalg.eigh(centred.T @ centred)
        kept = vectors.flip(1)[:, : self.directions.shape[1]]
        # The sign of an eigenvector is free: the largest entry is made positive, on every machine.
        kept = kept * kept.gather(0, kept.abs().argmax(0, keepdim=True)).sign()
        spread = (centred @ kept).std(0, correction=0).clamp(min=1e-6)
        self.directions.copy_(kept / spread)

    def forward(self, values: Tensor) -> Tensor:
        """Float ``(batch, size)`` to ``(batch, components)``."""
        centred = (values - self.mean).clamp(-self.value_limit, self.value_limit)
        return (centred @ self.directions.to(centred.dtype)).clamp(-self.limit, self.limit)


class TargetHead(nn.Sequential):
    """Batch norm and one linear layer: ``(batch, in_size)`` to ``(batch, out_size)``."""

    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__(GlobalBatchNorm1d(in_size), nn.Linear(in_size, out_size))

    @property
    def linear(self) -> nn.Linear:
        """The linear layer."""
        layer = self[1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """Predict; features are converted to the type of the weights."""
        predicted: Tensor = super().forward(match_weights(features, self))
        return predicted
