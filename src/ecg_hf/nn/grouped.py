"""Several small networks of one shape as one batched computation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ecg_hf.nn.normalization import GlobalBatchNorm1d

__all__ = ["GroupedLinear", "GroupedMlp"]


class GroupedLinear(nn.Module):
    """``groups`` linear layers without bias: ``(batch, groups, in_size)`` to ``(batch, groups, out_size)``.

    ``weight`` is ``(groups, out_size, in_size)``: group g is a ``nn.Linear`` with ``weight[g]``.
    """

    def __init__(self, groups: int, in_size: int, out_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(groups, out_size, in_size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal with variance 2 / in_size, which keeps the scale through a ReLU."""
        nn.init.normal_(self.weight, std=(2.0 / self.weight.shape[-1]) ** 0.5)

    def forward(self, values: Tensor) -> Tensor:
        """Apply each group's matrix to its own row."""
        return torch.bmm(values.transpose(0, 1), self.weight.transpose(1, 2)).transpose(0, 1)


class GroupedMlp(nn.Module):
    """``groups`` MLPs side by side: linear, batch norm, ReLU, ..., linear. Nothing is shared between groups.

    Args:
        groups: How many.
        sizes: Widths from input to output.
    """

    def __init__(self, groups: int, sizes: Sequence[int]) -> None:
        super().__init__()
        pairs = list(pairwise(sizes))
        self.layers = nn.ModuleList([GroupedLinear(groups, *pair) for pair in pairs])
        self.norms = nn.ModuleList([GlobalBatchNorm1d(groups * width) for width in sizes[1:-1]])

    def forward(self, values: Tensor) -> Tensor:
        """``(batch, groups, sizes[0])`` to ``(batch, groups, sizes[-1])``."""
        for layer, norm in zip(self.layers, self.norms, strict=False):
            values = layer(values)
            values = torch.relu(norm(values.flatten(1).unsqueeze(-1)).view_as(values))
        projected: Tensor = self.layers[-1](values)
        return projected
