"""Spatio-Temporal Dual Masking: whole time columns and whole leads.

Idea and the probabilities 0.5 and 0.2: CoRe-ECG (arXiv 2604.11359), as quoted by readers of the paper; how the two
combine is inferred. Limb leads are linear combinations of each other: with masks drawn lead by lead, a hidden patch
can be computed from other leads at the same time. A hidden column prevents this.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ecg_hf.nn.masks.patches import PatchMask

__all__ = [
    "DualMaskCounts",
    "DualMaskMode",
    "draw_dual_counts",
    "dual_mask",
    "present_leads_first",
    "random_order",
]

DualMaskMode = Literal["union", "alternate"]


class DualMaskCounts(NamedTuple):
    """How many leads and time columns stay visible in each record of a step.

    Attributes:
        leads: Leads kept.
        times: Columns kept.
    """

    leads: int
    times: int


def draw_dual_counts(
    seed: int,
    num_leads: int,
    num_times: int,
    *,
    time_ratio: float,
    lead_probability: float,
    min_leads: int,
    mode: DualMaskMode = "union",
) -> DualMaskCounts:
    """Draw the size of a step's masks, on the host: all records of a step hide equally many tokens.

    The number of hidden columns is fixed; the number of dropped leads is binomial, as if each lead were dropped with
    ``lead_probability``, cut so that ``min_leads`` remain. Drawing it once per step instead of once per record
    keeps tensors rectangular without padding and the expected share of masked tokens the same.

    Args:
        seed: Decides the draw.
        num_leads: Leads of a record.
        num_times: Patches of a lead.
        time_ratio: Share of hidden columns.
        lead_probability: Probability of dropping a lead.
        min_leads: Leads that stay at least.
        mode: ``union`` hides columns and leads; ``alternate`` tosses a coin for one of them (at least one lead).
    """
    generator = torch.Generator().manual_seed(seed)
    coin, *leads = torch.rand(1 + num_leads, generator=generator).tolist()
    dropped = sum(value < lead_probability for value in leads)
    hidden = int(num_times * time_ratio + 0.5)
    if mode == "alternate":
        dropped, hidden = (0, hidden) if coin < 0.5 else (max(1, dropped), 0)
    return DualMaskCounts(num_leads - min(dropped, num_leads - min_leads), max(1, num_times - hidden))


def random_order(*shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Random permutations of the last dimension, int64 of the given shape."""
    return torch.rand(shape, generator=generator, device=device).argsort(-1)


def present_leads_first(kept: Tensor, dropped: Tensor, lead_mask: Tensor) -> Tensor:
    """Drop the leads a record lacks before those it has.

    Args:
        kept: int64 ``(batch, views, kept)`` leads drawn to stay.
        dropped: int64 ``(batch, views, dropped)``, the others.
        lead_mask: ``(batch, leads)``: 0 for leads that are missing.

    Returns:
        int64 ``(batch, views, kept)``.
    """
    order = torch.cat([kept, dropped], dim=-1)
    present = lead_mask.bool()[:, None, :].expand(order.shape).gather(-1, order)
    return order.gather(-1, (~present).to(torch.uint8).argsort(dim=-1, stable=True))[..., : kept.shape[-1]]


def dual_mask(kept_leads: Tensor, kept_times: Tensor, num_leads: int, num_times: int) -> PatchMask:
    """The tokens of the kept leads at the kept times stay visible, all others are masked.

    Args:
        kept_leads: int64 ``(rows, leads kept)``, distinct.
        kept_times: int64 ``(rows, columns kept)``, distinct.
        num_leads: Leads of a record.
        num_times: Patches of a lead.

    Returns:
        Indices into ``num_leads * num_times`` tokens, lead-major.
    """
    rows = kept_leads.shape[0]
    visible = kept_leads[:, :, None] * num_times + kept_times[:, None, :]
    hidden = torch.ones(rows, num_leads * num_times, dtype=torch.uint8, device=visible.device)
    hidden = hidden.scatter(1, visible.flatten(1), 0)
    # Visible tokens first, each part in ascending order: one sort instead of two.
    order = hidden.argsort(dim=1, stable=True)
    count = visible.shape[1] * visible.shape[2]
    return PatchMask(order[:, :count], order[:, count:])
