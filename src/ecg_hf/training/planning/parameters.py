"""How many parameters a model has, and where."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

__all__ = ["ParameterCounts", "count_parameters"]


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Parameters of a model; shared ones are counted once.

    Attributes:
        total: All.
        trainable: Those the optimiser moves.
        parts: The same two numbers for each part; parts add up to the whole.
    """

    total: int
    trainable: int
    parts: dict[str, tuple[int, int]]


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Count a model's parameters, on any device.

    Parts are the model's children; of a child that is itself the base model (``base_model_prefix``), its children.
    """
    base = getattr(model, "base_model_prefix", "")
    parts: dict[str, tuple[int, int]] = {}
    for name, parameter in model.named_parameters():
        path = name.split(".")
        # What lies directly in the model, such as a scale, is a part of its own.
        depth = 2 if path[0] == base else 1
        part = ".".join(path[: min(depth, max(len(path) - 1, 1))])
        total, trainable = parts.get(part, (0, 0))
        parts[part] = (total + parameter.numel(), trainable + parameter.numel() * parameter.requires_grad)
    return ParameterCounts(
        total=sum(total for total, _ in parts.values()),
        trainable=sum(trainable for _, trainable in parts.values()),
        parts=parts,
    )
