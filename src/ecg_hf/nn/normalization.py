"""Batch normalisation whose statistics are those of the whole batch, on however many processes it lies."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

from ecg_hf.nn.gather import sum_across_processes

__all__ = ["GlobalBatchNorm1d"]


class GlobalBatchNorm1d(nn.BatchNorm1d):
    """``BatchNorm1d`` over the batches of all processes while training, with exact gradients.

    Without a process group it is ``nn.BatchNorm1d``. With one, mean and variance are taken over the rows of all
    processes, so that 2 x 16 rows give what 1 x 32 give. ``nn.SyncBatchNorm`` does the same but only on GPUs; this
    works with any backend. Two small reductions per call: mean first, then squares about it, which unlike one
    reduction of both loses no digits. Running statistics come out equal on all processes.

    Gradient accumulation still has statistics per micro-batch, as everywhere.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(batch, channels)`` or ``(batch, channels, length)``."""
        if not self.training or not distributed.is_available() or not distributed.is_initialized():
            return super().forward(input)
        if distributed.get_world_size() == 1:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            return self._normalize(input.float()).to(input.dtype)

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
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(unbiased_variance.to(self.running_var), self.momentum)
