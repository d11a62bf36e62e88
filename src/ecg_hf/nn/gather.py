"""Sums and pools over all processes with exact gradients.

Plain collectives inside autograd functions: the differentiable ones of ``torch.distributed.nn`` are deprecated, and
a process may abort at exit after their backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, distributed

__all__ = [
    "PoolEmbeddings",
    "gather_across_processes",
    "sum_across_processes",
    "take_from_first_process",
]

PoolEmbeddings = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""Local embeddings ``{name: (batch, dim)}`` to the pool ``{name: (pool, dim)}`` a contrastive loss runs over."""


class _Sum(torch.autograd.Function):
    """Sum over the processes. Every process' output depends on every input, so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        # Collectives write in place and assume row-major memory, ignoring strides.
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return sum_across_processes(gradient)


class _Gather(torch.autograd.Function):
    """Rows of all processes in rank order. A row is in the pool of every process, so its gradients are summed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows)
        ctx.rows = len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return sum_across_processes(gradient).narrow(0, distributed.get_rank() * ctx.rows, ctx.rows)


def sum_across_processes(values: Tensor) -> Tensor:
    """Sum of ``values`` (one shape on all processes) over the processes of the running group, for all of them."""
    total: Tensor = _Sum.apply(values)
    return total


@torch.no_grad()
def take_from_first_process(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors by those of the first process of the running group; nothing without one."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return
    for tensor in tensors:
        values = tensor.contiguous()
        distributed.broadcast(values, 0)
        tensor.copy_(values)


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
    return {name: _Gather.apply(rows) for name, rows in embeddings.items()}
