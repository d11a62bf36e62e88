"""Position tables."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["sincos_positions"]


def sincos_positions(length: int, dim: int, *, temperature: float = 10_000.0) -> Tensor:
    """Fixed one-dimensional sine-cosine table, float32 ``(length, dim)``: sine half, then cosine half.

    Raises:
        ValueError: if ``dim`` is odd.
    """
    if dim % 2:
        raise ValueError(f"sine-cosine positions need an even width, got {dim}")
    frequencies = torch.exp(
        torch.arange(dim // 2, dtype=torch.float32) * (-2.0 * math.log(temperature) / dim)
    )
    angles = torch.arange(length, dtype=torch.float32)[:, None] * frequencies[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
