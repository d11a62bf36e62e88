"""Collecting embeddings from all processes with exact gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, distributed

__all__ = ["PoolEmbeddings", "gather_across_processes"]

PoolEmbeddings = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""Local embeddings ``{name: (batch, dim)}`` to the pool ``{name: (pool, dim)}`` a contrastive loss runs over."""


class _RowMajorGradient(torch.autograd.Function):
    """The identity, whose gradient is contiguous.

    The backward pass of gloo's ``all_gather`` takes the memory of the gradient it is handed for row-major. A loss
    that works on transposed embeddings hands it another layout, and gradients come out scrambled without an error.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous()


def gather_across_processes(embeddings: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Concatenate each embedding over the processes, in rank order; the identity without a process group.

    The backward pass sums the gradients of all processes into each local row, so that after the mean of
    DistributedDataParallel a loss over the pool has exactly the gradient of one process with the whole batch.
    (A gather without gradient, own rows put back, has ``1 / world_size`` of it.) Every process must hold the
    same number of rows.

    Differs from official code: MERL, from which CG-DMER takes its gather, lets gradients through the local
    slice only.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return dict(embeddings)
    from torch.distributed.nn.functional import all_gather

    return {
        name: _RowMajorGradient.apply(torch.cat(list(all_gather(rows.contiguous()))))
        for name, rows in embeddings.items()
    }
