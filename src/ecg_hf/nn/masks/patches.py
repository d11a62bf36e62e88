"""Token masks as pure functions of noise.

Every function takes uniform noise drawn by the caller, so that the same noise gives the same mask on any number
of processes and after a resume, and all of them are vectorised over the batch.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

__all__ = ["MaskStrategy", "PatchMask", "TokenMask", "mask_patches", "mask_text_tokens"]

MaskStrategy = Literal["per_lead", "joint", "tube"]


class PatchMask(NamedTuple):
    """Which of the ``leads * patches`` tokens (lead-major) stay visible.

    Attributes:
        visible: int64 ``(batch, visible)`` token indices, ascending.
        masked: int64 ``(batch, masked)`` token indices, ascending.
    """

    visible: Tensor
    masked: Tensor


def mask_patches(noise: Tensor, mask_ratio: float, strategy: MaskStrategy = "per_lead") -> PatchMask:
    """Choose visible and masked patches; the same number in every record.

    Args:
        noise: float ``(batch, leads, patches)``, independent and uniform.
        mask_ratio: Share of masked patches in ``[0, 1)``.
        strategy: ``per_lead`` hides ``int``-rounded equal counts in each lead, positions drawn per lead (ST-MEM);
            ``joint`` draws over all tokens of a record; ``tube`` hides the same positions in every lead.

    Returns:
        Index tensors. Per lead ``int(patches * (1 - mask_ratio))`` patches stay visible, at least one.

    Raises:
        ValueError: if the ratio or the strategy is unknown.
    """
    if not 0.0 <= mask_ratio < 1.0:
        raise ValueError(f"mask ratio must be in [0, 1), got {mask_ratio}")
    if strategy not in get_args(MaskStrategy):
        raise ValueError(f"unknown mask strategy {strategy!r}, expected one of {get_args(MaskStrategy)}")
    batch, leads, patches = noise.shape
    # The epsilon keeps e.g. 40 * (1 - 0.7) = 12.000000000000002 and 11.999999999999998 on the same side.
    kept_per_lead = max(1, int(patches * (1.0 - mask_ratio) + 1e-9))
    if strategy == "joint":
        order = noise.flatten(1).argsort(dim=1)
        kept = max(1, int(leads * patches * (1.0 - mask_ratio) + 1e-9))
        return PatchMask(order[:, :kept].sort(dim=1).values, order[:, kept:].sort(dim=1).values)
    if strategy == "tube":
        noise = noise[:, :1].expand(-1, leads, -1)
    order = noise.argsort(dim=2)
    offset = torch.arange(leads, device=noise.device)[None, :, None] * patches
    visible = order[..., :kept_per_lead].sort(dim=2).values + offset
    masked = order[..., kept_per_lead:].sort(dim=2).values + offset
    return PatchMask(visible.reshape(batch, -1), masked.reshape(batch, -1))


class TokenMask(NamedTuple):
    """Which text tokens are to be predicted, in a shape that does not depend on the data.

    Attributes:
        positions: int64 ``(batch, k)`` token positions, ``k = max(1, round(probability * length))``.
        weights: float ``(batch, k)``: 1 where the position is really predicted, else 0 (short texts).
    """

    positions: Tensor
    weights: Tensor


def mask_text_tokens(noise: Tensor, maskable: Tensor, probability: float) -> TokenMask:
    """Choose ``round(probability * n)`` of the ``n`` maskable tokens of each text, at least one.

    Padding does not change the choice, which depends only on a text's own noise and length.

    Args:
        noise: float ``(batch, length)``, independent and uniform.
        maskable: bool ``(batch, length)``; False for special and padding tokens.
        probability: Share of maskable tokens to predict.
    """
    length = noise.shape[1]
    k = max(1, int(length * probability + 0.5))
    order = noise.masked_fill(~maskable, torch.inf).argsort(dim=1)[:, :k]
    available = maskable.sum(1, keepdim=True)
    wanted = (available * probability + 0.5).floor().clamp(min=1).minimum(available)
    rank = torch.arange(k, device=noise.device)[None, :]
    return TokenMask(order, (rank < wanted).to(noise.dtype))
