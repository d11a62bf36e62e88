"""Teachers that follow their student: exponential moving averages of weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["copy_weights", "cosine_momentum", "ema_update", "linear_momentum"]


def _pairs(teacher: nn.Module, student: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    own, followed = dict(teacher.named_parameters()), dict(student.named_parameters())
    if own.keys() != followed.keys():
        odd = sorted(own.keys() ^ followed.keys())
        raise ValueError(f"teacher and student differ in {odd[0]!r} and {len(odd) - 1} more")
    return [own[name] for name in followed], list(followed.values())


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move every parameter of the teacher a step towards the student: ``m * teacher + (1 - m) * student``.

    Buffers are copied, because running statistics are averages already.

    Args:
        teacher: Module with the student's parameter names and shapes.
        student: Module to follow.
        momentum: ``m`` in [0, 1].

    Raises:
        ValueError: The two do not have the same parameters, or the momentum is out of range.
    """
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"momentum must be in [0, 1], got {momentum}")
    own, followed = _pairs(teacher, student)
    torch._foreach_mul_(own, momentum)
    torch._foreach_add_(own, followed, alpha=1.0 - momentum)
    for buffer, source in zip(teacher.buffers(), student.buffers(), strict=True):
        buffer.copy_(source)


@torch.no_grad()
def copy_weights(teacher: nn.Module, student: nn.Module) -> None:
    """Initialise a teacher with its student's weights, and freeze it."""
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)


def linear_momentum(step: int, total_steps: int, start: float, end: float) -> float:
    """Momentum after optimiser step ``step`` (from 0) of ``total_steps``: linear from ``start`` to ``end``."""
    return start + (end - start) * min(step, total_steps) / max(total_steps, 1)


def cosine_momentum(step: int, total_steps: int, start: float, end: float = 1.0) -> float:
    """Momentum after optimiser step ``step`` (from 0) of ``total_steps``: half a cosine from ``start`` to ``end``.

    Paper: BYOL, ``1 - (1 - start) (cos(pi step / total_steps) + 1) / 2``.
    """
    share = min(step, total_steps) / max(total_steps, 1)
    return end - (end - start) * (math.cos(math.pi * share) + 1.0) / 2.0
