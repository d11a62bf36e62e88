"""Position tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["grid_sincos_positions", "interleaved_sincos_positions", "sincos_positions"]


def sincos_positions(length: int, dim: int, *, temperature: float = 10_000.0) -> Tensor:
    """Fixed one-dimensional sine-cosine table, float32 ``(length, dim)``: sine half, then cosine half.

    Raises:
        ValueError: if ``dim`` is odd.
    """
    if dim % 2:
        raise ValueError(f"sine-cosine positions need an even width, got {dim}")
    # In double precision: single precision would cost the angles of late positions six digits.
    frequencies = torch.exp(
        torch.arange(dim // 2, dtype=torch.float64) * (-2.0 * math.log(temperature) / dim)
    )
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def interleaved_sincos_positions(length: int, dim: int) -> Tensor:
    """As :func:`sincos_positions`, with the sine and the cosine of a frequency side by side."""
    sine, cosine = sincos_positions(length, dim).chunk(2, dim=1)
    return torch.stack([sine, cosine], dim=-1).flatten(1)


def grid_sincos_positions(rows: Sequence[int], num_times: int, dim: int) -> Tensor:
    """Fixed two-dimensional sine-cosine table of a lead x time grid.

    Args:
        rows: Position of each lead.
        num_times: Patches per lead.
        dim: Width, a multiple of 4.

    Returns:
        float32 ``(len(rows), num_times, dim)``: the first half of the width encodes the time, the second the lead.

    Raises:
        ValueError: if ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"positions on a grid need a width that is a multiple of 4, got {dim}")
    time = sincos_positions(num_times, dim // 2)[None, :, :].expand(len(rows), -1, -1)
    lead = sincos_positions(max(rows) + 1, dim // 2)[list(rows)][:, None, :].expand(-1, num_times, -1)
    return torch.cat([time, lead], dim=-1)
