"""A running average of the weights while they are trained, which is what the run leaves in the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ecg_hf.errors import ModelFolderError

__all__ = ["WeightAverage"]

FILE = "weight_average.safetensors"


class WeightAverage:
    """Exponential moving average of a model's trainable weights and running statistics.

    The first steps count for more: after step ``t`` the decay is at most ``1 - 1 / (1 + t / 2)``.

    Args:
        model: The model; the average starts at its weights.
        decay: Decay per optimiser step, such as 0.998.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._values = {name: tensor.detach().clone() for name, tensor in _averaged(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Follow optimiser step ``step`` (from 1)."""
        weight = 1.0 - min(self.decay, 1.0 - 1.0 / (1.0 + 0.5 * step))
        current = _averaged(model)
        torch._foreach_lerp_(list(self._values.values()), [current[name] for name in self._values], weight)

    @contextmanager
    def installed(self, model: nn.Module) -> Iterator[None]:
        """The model has the averaged weights within the context."""
        kept = {name: tensor.detach().clone() for name, tensor in _averaged(model).items()}
        self.copy_to(model)
        try:
            yield
        finally:
            _copy(kept, model)

    def copy_to(self, model: nn.Module) -> None:
        """Give the model the averaged weights for good."""
        _copy(self._values, model)

    def save(self, folder: str | Path) -> None:
        """Write the average beside a checkpoint's weights."""
        save_file({name: value.contiguous() for name, value in self._values.items()}, Path(folder) / FILE)

    def load(self, folder: str | Path) -> None:
        """Read what :meth:`save` wrote.

        Raises:
            ModelFolderError: if it is missing or belongs to another model.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            raise ModelFolderError("the checkpoint has no averaged weights", path=path)
        found = load_file(path)
        if found.keys() != self._values.keys():
            raise ModelFolderError("the averaged weights are another model's", path=path)
        for name, value in self._values.items():
            value.copy_(found[name])


def _averaged(model: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters, and the floating-point buffers of modules that have any: running statistics."""
    found = {name: one.data for name, one in model.named_parameters() if one.requires_grad}
    for prefix, module in model.named_modules():
        trained = any(one.requires_grad for one in module.parameters(recurse=False))
        for name, buffer in module.named_buffers(recurse=False):
            if trained and buffer.is_floating_point():
                found[f"{prefix}.{name}"] = buffer
    return found


@torch.no_grad()
def _copy(values: dict[str, Tensor], model: nn.Module) -> None:
    for name, target in _averaged(model).items():
        target.copy_(values[name])
