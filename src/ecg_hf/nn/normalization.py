"""Batch normalisation with the statistics of the whole batch over all processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from ecg_hf.nn.gather import sum_across_processes

__all__ = ["GlobalBatchNorm1d", "PoolBatchNorm1d", "statistics_kept"]


class GlobalBatchNorm1d(nn.BatchNorm1d):
    """``BatchNorm1d`` over the batches of all processes while training, with exact gradients.

    Without a process group it is ``nn.BatchNorm1d``. With one, mean and variance are taken over the rows of all
    processes, so that 2 x 16 rows give what 1 x 32 give. ``nn.SyncBatchNorm`` does the same but only on GPUs; this
    works with any backend. Two small reductions per call: first the mean, then squares about it, which unlike one
    reduction of both loses no precision. Running statistics come out equal on all processes.

    Gradient accumulation still has statistics per micro-batch, as everywhere.

    If its weight and bias are frozen it works as in evaluation, whatever ``training`` is, so that a frozen network
    gives the same output before and after a head is trained on top of it.

    Attributes:
        tracks: Whether running statistics follow the batches; see :func:`statistics_kept`.
        of_teacher: Whether it belongs to a teacher, which normalises by the batch as its student does although its
            weights are frozen.
    """

    tracks = True
    of_teacher = False

    @property
    def learns(self) -> bool:
        """Whether statistics are those of the batch: while training, unless weight and bias are frozen."""
        trained = self.of_teacher or self.weight.requires_grad or self.bias.requires_grad
        return self.training and trained

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(batch, channels)`` or ``(batch, channels, length)``."""
        self._check_input_dim(input)
        if not self.learns:
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        if not distributed.is_available() or not distributed.is_initialized():
            return self._alone(input)
        if distributed.get_world_size() == 1:
            return self._alone(input)
        with torch.autocast(input.device.type, enabled=False):
            return self._normalize(input.float()).to(input.dtype)

    def _alone(self, input: Tensor) -> Tensor:
        if self.tracks:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        # Copies instead of None: a recomputation must save as many tensors for the backward pass as the first run.
        statistics = self.running_mean.clone(), self.running_var.clone()
        return nn.functional.batch_norm(
            input, *statistics, self.weight, self.bias, training=True, momentum=0.0, eps=self.eps
        )

    def _normalize(self, values: Tensor) -> Tensor:
        axes = [axis for axis in range(values.ndim) if axis != 1]
        rows = values.numel() // values.shape[1]
        local_variance, local_mean = torch.var_mean(values, dim=axes, correction=0)
        sums = sum_across_processes(torch.cat([rows * local_mean, values.new_full((1,), rows)]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        variance = sum_across_processes(rows * (local_variance + (local_mean - mean).square())) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1.0))
        weight = self.weight * (variance + self.eps).rsqrt()
        shape = [1, -1] + [1] * (values.ndim - 2)
        normalized: Tensor = values * weight.view(shape) + (self.bias - mean * weight).view(shape)
        return normalized

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        if not self.tracks:
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(unbiased_variance.to(self.running_var), self.momentum)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Normalise batches inside a module without updating its running statistics.

    For a forward pass that is repeated only to recompute activations.
    """
    norms = [norm for norm in module.modules() if isinstance(norm, GlobalBatchNorm1d) and norm.tracks]
    for norm in norms:
        norm.tracks = False
    try:
        yield
    finally:
        for norm in norms:
            norm.tracks = True


class PoolBatchNorm1d(nn.BatchNorm1d):
    """``BatchNorm1d`` of a pool of embeddings: always by the statistics of its rows, of which none are kept.

    For heads behind ``pool_embeddings``, whose rows are those of all processes and micro-batches on every process:
    losses do not depend on how a batch is spread. Unlike ``nn.BatchNorm1d`` it takes a single row, which becomes the
    bias.

    Args:
        width: Columns.
        affine: Whether to learn a scale and a shift.
    """

    def __init__(self, width: int, *, affine: bool = True) -> None:
        super().__init__(width, affine=affine, track_running_stats=False)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(rows, width)``."""
        self._check_input_dim(input)
        if len(input) > 1:
            return super().forward(input)
        flat = torch.zeros_like(input)
        return flat if self.bias is None else flat + self.bias
