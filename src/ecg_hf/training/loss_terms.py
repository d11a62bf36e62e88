"""Means of the loss terms and metrics a model reports, without waiting for the device in each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

__all__ = ["RunningMeans", "reported_values"]


def reported_values(outputs: Mapping[str, object]) -> dict[str, Tensor]:
    """Scalars worth logging from a model's output.

    Args:
        outputs: Model output with ``loss_terms`` (parts of the loss) and perhaps ``metrics`` (anything else
            worth following, such as the masked error over the error of predicting zero).

    Returns:
        Loss terms as ``loss_<name>``, metrics under their own name; scalar tensors without gradient.
    """
    values: dict[str, Tensor] = {}
    for field, prefix in (("loss_terms", "loss_"), ("metrics", "")):
        reported = outputs.get(field)
        if isinstance(reported, Mapping):
            for name, value in reported.items():
                values[name if name.startswith(prefix) else prefix + name] = value.detach()
    return values


class RunningMeans:
    """Weighted means of named scalars, kept as tensors on their device until :meth:`drain`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}

    def update(self, values: Mapping[str, Tensor], weight: float = 1.0) -> None:
        """Add one observation of each scalar."""
        for name, value in values.items():
            term = value.float() * weight
            self._sums[name] = self._sums[name] + term if name in self._sums else term
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def drain(self, sum_across_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Means since the last drain, over all processes, and a fresh start.

        The one place that waits for the device, once for all scalars. Every process must call it.

        Args:
            sum_across_processes: Adds a tensor up over the processes.
        """
        if not self._sums:
            return {}
        names = sorted(self._sums)
        sums = torch.stack([self._sums[name] for name in names])
        weights = torch.tensor([self._weights[name] for name in names], device=sums.device)
        totals = sum_across_processes(torch.stack([sums, weights]))
        means: list[float] = (totals[0] / totals[1]).tolist()
        self.reset()
        return dict(zip(names, means, strict=True))

    def reset(self) -> None:
        """Forget everything seen so far."""
        self._sums, self._weights = {}, {}
