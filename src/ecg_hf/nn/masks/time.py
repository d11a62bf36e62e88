"""Masks over time: the same moments are hidden in every lead.

Paper: ECG-JEPA (Kim), arXiv 2410.08559; official code, ``_make_rand_mask`` and ``_make_block_mask``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["TimeMask", "TimeMaskStrategy", "block_time_mask", "draw_time_mask", "random_time_mask"]

TimeMaskStrategy = Literal["random", "block"]

# Masks drawn for each record when all are to hide about the same number. Of 32, the nearest is off by less than one
# patch on average unless the wanted number is rare.
_CANDIDATES = 32


class TimeMask(NamedTuple):
    """Which moments of a record are visible and which are to be predicted.

    Attributes:
        visible: int64 ``(rows, visible)``, ascending.
        masked: int64 ``(rows, masked)``, ascending.
    """

    visible: Tensor
    masked: Tensor


def random_time_mask(ratio: Tensor, order: Tensor) -> Tensor:
    """Hide ``int(times * ratio)`` moments of each row, chosen without replacement.

    Args:
        ratio: float ``(rows,)``.
        order: float ``(rows, times)``, uniform noise: the smallest are hidden.

    Returns:
        bool ``(rows, times)``, True = hidden.
    """
    rank = order.argsort(dim=1).argsort(dim=1)
    return rank < (order.shape[1] * ratio).floor()[:, None]


def block_time_mask(ratio: Tensor, start: Tensor, times: int, *, mask_last: bool = False) -> Tensor:
    """Hide the union of some blocks of ``int(times * ratio)`` neighbouring moments; blocks may overlap.

    Args:
        ratio: float ``(rows, blocks)``, each block's length as a share of ``times``.
        start: float ``(rows, blocks)`` uniform in [0, 1): where each block begins, as a share of where it can.
        times: Moments of a record.
        mask_last: Let blocks reach the last moment. The official code does not: it draws the start from
            ``times - length`` values instead of one more, so that the last patch is never hidden.

    Returns:
        bool ``(rows, times)``, True = hidden.
    """
    length = (times * ratio).floor()
    choices = times - length + int(mask_last)
    first = (start * choices).floor().minimum(choices - 1)
    moment = torch.arange(times, device=ratio.device)[None, None, :]
    return ((moment >= first[..., None]) & (moment < (first + length)[..., None])).any(1)


def draw_time_mask(
    rows: int,
    times: int,
    strategy: TimeMaskStrategy,
    scale: tuple[float, float],
    generator: torch.Generator,
    *,
    num_blocks: int = 4,
    mask_last: bool = False,
    per_row: bool = False,
) -> TimeMask:
    """Draw on the CPU which moments are visible and which are to be predicted.

    Every row has the same counts, so that the result is two index tensors. One mask for all rows (the official code)
    ensures that. With a mask per row the number to hide is drawn once for all rows. ``random`` then hides that many
    in each row. ``block`` takes, of several masks drawn for a row, the one whose number comes nearest; surplus
    moments, chosen at random, are neither visible nor to be predicted.

    Args:
        rows: Records.
        times: Moments of a record.
        strategy: ``random`` or ``block``.
        scale: Lowest and highest ratio; each is drawn uniformly in between.
        generator: On the CPU, so that counts are known without waiting for a device.
        num_blocks: Blocks of ``block``.
        mask_last: See :func:`block_time_mask`.
        per_row: Whether each row has its own mask.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def ratios(*shape: int) -> Tensor:
        return scale[0] + (scale[1] - scale[0]) * uniform(*shape)

    def blocks(number: int) -> Tensor:
        noise = ratios(number, num_blocks), uniform(number, num_blocks)
        return block_time_mask(*noise, times, mask_last=mask_last)

    if strategy == "random":
        drawn = rows if per_row else 1
        hidden = random_time_mask(ratios(1).expand(drawn), uniform(drawn, times))
    else:
        hidden = blocks(1)
        if per_row:
            candidates = blocks(rows * _CANDIDATES).unflatten(0, (rows, _CANDIDATES))
            nearest = (candidates.sum(-1) - hidden.sum()).abs().argmin(1)
            hidden = candidates[torch.arange(rows), nearest]
    counts, noise = hidden.sum(1), uniform(*hidden.shape)
    visible = _choose(~hidden, noise, times - int(counts.max()))
    masked = _choose(hidden, noise, int(counts.min()))
    return TimeMask(visible.expand(rows, -1), masked.expand(rows, -1))


def _choose(wanted: Tensor, noise: Tensor, number: int) -> Tensor:
    """Indices of ``number`` True elements of each row, chosen at random if more are True; ascending."""
    return noise.masked_fill(~wanted, torch.inf).argsort(dim=1)[:, :number].sort(dim=1).values
