"""Numerical precision of losses."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["full_precision", "similarity"]


def full_precision(tensor: Tensor) -> Tensor:
    """The tensor in float32 if it is float16 or bfloat16, else unchanged (float64 stays float64)."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """Dot products of rows in float32 (or float64), whatever autocast says.

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
