"""Masks over time: the same moments are hidden in every lead.

Papers: ECG-JEPA (Kim), arXiv 2410.08559; official code, ``_make_rand_mask`` and ``_make_block_mask``. ECG-JEPA
(Weimann and Conrad), arXiv 2410.13867; official code, ``MaskCollator``.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "TimeMask",
    "TimeMaskStrategy",
    "block_time_mask",
    "covered_time_mask",
    "draw_covered_times",
    "draw_time_mask",
    "random_time_mask",
]

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


def covered_time_mask(
    rows: int, times: int, hidden: int, shortest: int, generator: torch.Generator
) -> Tensor:
    """Hide exactly ``hidden`` moments of each row in blocks, drawn row by row.

    A block falls into one of the stretches still visible, chosen by their lengths. Its length is uniform between
    ``shortest`` and what is left to hide, its place within the stretch too; it ends with the stretch if that is
    shorter. What is left in the end, if less than ``shortest``, joins the block on one side of a stretch.

    Paper: ECG-JEPA (Weimann and Conrad), official code, ``MaskCollator.sample_mask``, of all rows at a time.

    Args:
        rows: Records.
        times: Moments of a record.
        hidden: How many of them to hide, 0 to ``times``.
        shortest: Least length of a block by itself, at least 1.
        generator: On the CPU: how often it is asked depends on the draw.

    Returns:
        bool ``(rows, times)``, True = hidden.
    """
    mask = torch.zeros(rows, times, dtype=torch.bool)
    moment = torch.arange(times)
    while True:
        left = hidden - mask.sum(1)
        if not left.any():
            return mask
        which, length, place = torch.rand(3, rows, generator=generator, dtype=torch.float64)
        rank = (which * (times - mask.sum(1))).long()
        picked = ((~mask).cumsum(1) <= rank[:, None]).sum(1, keepdim=True)
        begin = torch.where(mask & (moment < picked), moment, -1).amax(1) + 1
        end = torch.where(mask & (moment > picked), moment, times).amin(1)
        alone = left >= shortest
        block = torch.where(alone, shortest + (length * (left - shortest + 1)).long(), left)
        block = block.minimum(end - begin)
        joins_left = (begin > 0) & ((end == times) | (place < 0.5))
        anywhere = begin + (place * (end - begin - block + 1)).long()
        joined = torch.where(joins_left, begin, end - block)
        # Without any block yet there is none to join.
        start = torch.where(alone | ((begin == 0) & (end == times)), anywhere, joined)
        mask |= (moment >= start[:, None]) & (moment < (start + block)[:, None])


def draw_covered_times(
    rows: int, times: int, keep: tuple[float, float], shortest: int, generator: torch.Generator
) -> TimeMask:
    """Each row's own :func:`covered_time_mask`; one share of visible moments, drawn uniformly, for all rows.

    Args:
        rows: Records.
        times: Moments of a record.
        keep: Lowest and highest share that stays visible; rounded up to moments, at least one is hidden.
        shortest: Least length of a block.
        generator: On the CPU.
    """
    share = keep[0] + (keep[1] - keep[0]) * float(torch.rand((), generator=generator, dtype=torch.float64))
    visible = min(math.ceil(share * times), times - 1)
    mask = covered_time_mask(rows, times, times - visible, shortest, generator)
    order = mask.byte().argsort(dim=1, stable=True)
    return TimeMask(order[:, :visible], order[:, visible:])
