"""Attention masks of the cardiac conduction view: which lead tokens and beat tokens attend to which.

Sequences begin with one token per lead (``c_i``), followed by beat tokens in lead-major order. All masks are computed
from token numbers at once: no loop over rows, no host sync.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "beat_mask_indices",
    "conduction_decoder_mask",
    "official_encoder_bias",
    "restrict_keys",
    "view_encoder_mask",
]


def beat_mask_indices(noise: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor]:
    """Split tokens into visible and masked ones, each in the order of its noise.

    Official code: ``random_masking_atten``. ``int(tokens * (1 - ratio))`` tokens stay visible, without any guard
    against rounding: 35 of 180 at a ratio of 0.8, not 36.

    Args:
        noise: float ``(rows, tokens)``.
        mask_ratio: Share of masked tokens in ``[0, 1)``.

    Returns:
        int64 ``(rows, visible)`` and ``(rows, masked)``.

    Raises:
        ValueError: if the ratio is outside its range.
    """
    if not 0.0 <= mask_ratio < 1.0:
        raise ValueError(f"mask ratio must be in [0, 1), got {mask_ratio}")
    kept = max(1, int(noise.shape[1] * (1 - mask_ratio)))
    order = noise.argsort(dim=1)
    return order[:, :kept], order[:, kept:]


def view_encoder_mask(token_leads: Tensor, num_leads: int) -> Tensor:
    """The "view-guided" encoder mask of the paper's Figure 2: a lead token sees itself and the beats of its lead.

    Beats see all beats and their own lead token (the figure leaves beat rows open; the code does not restrict them).

    Args:
        token_leads: int64 ``(rows, tokens)``: lead of each beat token, from 0.
        num_leads: Number of lead tokens in front.

    Returns:
        bool ``(rows, 1, num_leads + tokens, num_leads + tokens)``, True where the row attends to the column.
    """
    leads = torch.arange(num_leads, device=token_leads.device)
    rows, tokens = token_leads.shape
    own = leads[None, :, None] == token_leads[:, None, :]
    top = torch.cat(
        [torch.eye(num_leads, dtype=torch.bool, device=own.device).expand(rows, -1, -1), own], dim=2
    )
    bottom = torch.cat([own.transpose(1, 2), own.new_ones(rows, tokens, tokens)], dim=2)
    return torch.cat([top, bottom], dim=1).unsqueeze(1)


def official_encoder_bias(token_leads: Tensor, num_leads: int) -> Tensor:
    """What the official code adds to the encoder's logits: a mask meant to block, but added as the numbers 0 and 1.

    Rows of lead tokens get +1 everywhere but in a window as long as their lead has tokens; the windows follow each
    other from column 0, as if no lead tokens stood in front and tokens were sorted by lead.

    Args:
        token_leads: int64 ``(rows, tokens)``, in the order in which the encoder gets them.
        num_leads: Number of lead tokens in front.

    Returns:
        float32 ``(rows, 1, num_leads + tokens, num_leads + tokens)``, to be added.
    """
    rows, tokens = token_leads.shape
    leads = torch.arange(num_leads, device=token_leads.device)
    counts = (token_leads[:, None, :] == leads[None, :, None]).sum(2)
    stop = counts.cumsum(1)
    column = torch.arange(num_leads + tokens, device=token_leads.device)
    window = (column >= (stop - counts)[..., None]) & (column < stop[..., None])
    bias = torch.zeros(rows, num_leads + tokens, num_leads + tokens, device=token_leads.device)
    bias[:, :num_leads] = (~window).float()
    return bias.unsqueeze(1)


def conduction_decoder_mask(masked: Tensor, num_leads: int) -> Tensor:
    """The "conduction-view-guided" decoder mask (paper, Figure 2; official ``utils/mask_atten.py``).

    * A lead token sees itself and the beats of its lead, masked or visible.
    * A masked beat sees the same beat of all leads, itself included, and its lead token.
    * A visible beat sees all visible beats and its lead token, never a masked one.

    Args:
        masked: bool ``(rows, tokens)``, lead-major; True where the token is to be rebuilt.
        num_leads: Number of leads; must divide ``tokens``.

    Returns:
        bool ``(rows, 1, num_leads + tokens, num_leads + tokens)``, True where the row attends to the column.
    """
    tokens = masked.shape[1]
    number = torch.arange(tokens, device=masked.device)
    lead, beat = number // (tokens // num_leads), number % (tokens // num_leads)
    same_beat = beat[:, None] == beat[None, :]
    row, column = masked[:, :, None], masked[:, None, :]
    allowed = view_encoder_mask(lead[None], num_leads).repeat(len(masked), 1, 1, 1)
    allowed[:, 0, num_leads:, num_leads:] = torch.where(row, same_beat, ~column)
    return allowed


def restrict_keys(mask: Tensor | None, keys: Tensor | None) -> Tensor | None:
    """Hide tokens that must not be attended to (missing leads, empty slots).

    A token always sees itself, so that no row of the softmax is empty.

    Args:
        mask: Boolean or additive ``(rows, 1, tokens, tokens)``, or None for dense attention.
        keys: bool ``(batch, tokens)``, False for hidden tokens, or None to hide none.

    Returns:
        A mask of the same kind, or None if everything sees everything.
    """
    if keys is None:
        return mask
    tokens = keys.shape[1]
    seen = keys[:, None, None, :] | torch.eye(tokens, dtype=torch.bool, device=keys.device)
    if mask is None:
        return seen
    if mask.dtype == torch.bool:
        return mask & seen
    return mask.masked_fill(~seen, torch.finfo(mask.dtype).min)
