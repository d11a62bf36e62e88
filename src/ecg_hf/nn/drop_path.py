"""Stochastic depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["DropPath", "drop_path_rates"]


class DropPath(nn.Module):
    """While training, replaces the whole of a row by zeros with some probability and scales the others up.

    Args:
        probability: Of dropping a row, in [0, 1).

    Shapes:
        ``(batch, ...)`` to the same.
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= probability < 1.0:
            raise ValueError(f"probability must be in [0, 1), got {probability}")
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """Drop rows of a residual branch."""
        if not self.training or self.probability == 0.0:
            return branch
        keep = 1.0 - self.probability
        shape = (branch.shape[0], *([1] * (branch.ndim - 1)))
        return branch * (torch.empty(shape, dtype=branch.dtype, device=branch.device).bernoulli_(keep) / keep)

    def extra_repr(self) -> str:
        """Shown in the module's representation."""
        return f"probability={self.probability:g}"


def drop_path_rates(highest: float, num_layers: int) -> list[float]:
    """Probability of each layer: linear from 0 at the first to ``highest`` at the last."""
    return [highest * layer / max(num_layers - 1, 1) for layer in range(num_layers)]
