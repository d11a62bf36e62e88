"""What parameters that are sharded (FSDP2) ask of a model."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from torch import Tensor, nn

__all__ = ["as_scalars", "list_launch_configs", "scalars_to_vectors"]


def scalars_to_vectors(model: nn.Module) -> frozenset[str]:
    """Give every parameter without dimensions one of length 1: only that can be divided among processes.

    A temperature or a bias acts as before, because it is broadcast. The model's folder keeps the scalar, see
    :func:`as_scalars`.

    Returns:
        Names of the parameters changed.
    """
    changed = set()
    for prefix, module in model.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.ndim == 0:
                vector = nn.Parameter(parameter.detach().view(1), requires_grad=parameter.requires_grad)
                module.register_parameter(name, vector)
                changed.add(f"{prefix}.{name}" if prefix else name)
    return frozenset(changed)


def as_scalars(state_dict: Mapping[str, Tensor], names: frozenset[str]) -> dict[str, Tensor]:
    """A state dict in which the named parameters have no dimensions, as the model class expects them."""
    return {name: value.reshape(()) if name in names else value for name, value in state_dict.items()}


def list_launch_configs() -> dict[str, Path]:
    """Files that start the package on several devices or machines, by name; the first comment of each says how.

    ``ddp`` and ``fsdp2`` are for ``accelerate launch --config_file``, where single values are overridden on the
    command line (``--num_processes 4``); the others are for Slurm and Kubernetes. Copy one to change it.
    """
    folder = Path(str(resources.files("ecg_hf.training") / "launch"))
    return {file.stem: file for file in sorted(folder.iterdir()) if file.suffix in (".sh", ".yaml")}
