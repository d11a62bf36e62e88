"""Numerical precision of losses and of a module's inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["full_precision", "match_weights", "similarity"]


def full_precision(tensor: Tensor) -> Tensor:
    """The tensor in float32 if it is float16 or bfloat16, else unchanged (float64 stays float64)."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """Dot products of rows in float32 (or float64), even under autocast.

    Divided by a small temperature and exponentiated, a product in bfloat16 costs a contrastive loss up to a fifth of
    its gradient.

    Args:
        first: float ``(..., rows, dim)``.
        second: float ``(..., others, dim)``.

    Returns:
        ``(..., rows, others)``.
    """
    with torch.autocast(first.device.type, enabled=False):
        return full_precision(first) @ full_precision(second).transpose(-1, -2)


def match_weights(tensor: Tensor, module: nn.Module) -> Tensor:
    """The tensor in the floating dtype of a module's parameters.

    float32 for a module without any, such as ``nn.Identity`` instead of a head, or a layer with quantised weights.
    """
    dtypes = (parameter.dtype for parameter in module.parameters() if parameter.is_floating_point())
    return tensor.to(next(dtypes, torch.float32))
