"""Cross-pattern attention (CroPA): a token attends only to its own lead and to its own time.

Tokens lie on a grid of leads x times, numbered lead by lead. In a grid of 8 x 50 a token sees 57 of 400 tokens. Two
ways to compute the same thing:

* masked: attention over all pairs with a boolean mask, by any kernel that takes one;
* factorised: scores within each lead and scores within each time (the token itself counted once), concatenated
  under one softmax. Nothing is computed for pairs that do not attend.

A mask of five dimensions, made by :func:`factorised_cropa_mask`, asks :func:`cropa_kernel` for the second.

Paper: ECG-JEPA (Kim), arXiv 2410.08559. Differs from official code: it has the masked form only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ecg_hf.nn.attention import AttentionKernel

__all__ = [
    "cropa_kernel",
    "cropa_mask",
    "factorised_cropa",
    "factorised_cropa_mask",
    "factorised_is_faster",
    "masked_cropa_mask",
    "restrict_cropa",
]

# Ratio of all tokens to a token's partners above which the factorised form is faster on a CPU.
_WORTHWHILE = 6.5


def cropa_mask(num_leads: int, num_times: int) -> Tensor:
    """Who may attend to whom: bool ``(leads * times, leads * times)``, symmetric, with the diagonal."""
    lead = torch.arange(num_leads).repeat_interleave(num_times)
    time = torch.arange(num_times).repeat(num_leads)
    return (lead[:, None] == lead[None, :]) | (time[:, None] == time[None, :])


def restrict_cropa(mask: Tensor, num_leads: int, num_times: int) -> Tensor:
    """The mask among the tokens of any ``num_times`` times of each lead.

    Times are removed from all leads, so the rest is a grid again, and the rows and columns of its mask depend only on
    how many times remain.

    Args:
        mask: bool ``(leads * times, leads * times)`` of the whole grid.
        num_leads: Leads of the grid.
        num_times: Remaining times.
    """
    grid = mask.unflatten(1, (num_leads, -1)).unflatten(0, (num_leads, -1))
    restricted: Tensor = grid[:, :num_times, :, :num_times].flatten(2, 3).flatten(0, 1)
    return restricted


def masked_cropa_mask(mask: Tensor, token_mask: Tensor | None) -> Tensor:
    """A CroPA mask for kernels that take boolean masks.

    Args:
        mask: bool ``(tokens, tokens)``.
        token_mask: bool ``(batch, tokens)``; no other token attends to a False one. It still attends to itself, so
            that no row of the softmax is empty.

    Returns:
        bool ``(batch or 1, 1, tokens, tokens)``.
    """
    if token_mask is None:
        return mask[None, None]
    itself = torch.eye(mask.shape[0], dtype=torch.bool, device=mask.device)
    return (mask & (token_mask[:, None, :] | itself))[:, None]


def factorised_cropa_mask(
    num_leads: int, num_times: int, token_mask: Tensor | None, device: torch.device
) -> Tensor:
    """The mask of :func:`factorised_cropa`.

    Args:
        num_leads: Leads of the grid.
        num_times: Times of the grid.
        token_mask: As in :func:`masked_cropa_mask`.
        device: Where to create it without a ``token_mask``.

    Returns:
        bool ``(batch or 1, 1, leads, times, times + leads)``: for each token the times of its own lead, then the
        leads at its own time. The token itself is among the former only.
    """
    itself = torch.eye(num_times, dtype=torch.bool, device=device)
    others = ~torch.eye(num_leads, dtype=torch.bool, device=device)
    if token_mask is None:
        present = torch.ones(1, num_leads, num_times, dtype=torch.bool, device=device)
    else:
        present = token_mask.unflatten(1, (num_leads, num_times))
    same_lead = present[:, :, None, :] | itself
    same_time = present.transpose(1, 2)[:, None, :, :] & others[:, None, :]
    return torch.cat([same_lead, same_time], dim=-1)[:, None]


def factorised_cropa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float) -> Tensor:
    """Exact CroPA without the pairs that do not attend.

    Per head ``leads * times * (times + leads)`` scores instead of ``(leads * times) ** 2``.

    Args:
        query: ``(batch, heads, leads * times, dim)``; ``key`` and ``value`` alike.
        key: See ``query``.
        value: See ``query``.
        mask: Of :func:`factorised_cropa_mask`.
        scaling: Factor on the scores.

    Returns:
        ``(batch, leads * times, heads, dim)``.
    """
    leads, times = mask.shape[2:4]
    # Made contiguous once: otherwise every product below would copy its view of the projections.
    query, key, value = (
        part.contiguous().unflatten(2, (leads, times)) for part in (query * scaling, key, value)
    )
    same_lead = query @ key.transpose(-1, -2)
    same_time = torch.einsum("bhltd,bhmtd->bhltm", query, key)
    scores = torch.cat([same_lead, same_time], dim=-1)
    scores = scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    in_lead, in_time = weights.split([times, leads], dim=-1)
    attended: Tensor = in_lead @ value + torch.einsum("bhltm,bhmtd->bhltd", in_time, value)
    return attended.flatten(2, 3).transpose(1, 2).contiguous()


def factorised_is_faster(num_leads: int, num_times: int, device: torch.device) -> bool:
    """Which form ``auto`` chooses, by measurements of ``benchmarks/bench_ecg_jepa.py``.

    On the CPU the factorised form pays where it saves enough scores for its smaller products: at 8 x 40 and above,
    where a token has 6.7 times fewer partners than there are tokens, and increasingly as the grid grows (12 x 150:
    about 2.7 times faster); at 8 x 32 and below the masked kernel's forward pass is faster. On accelerators the two
    have not been compared yet, and the masked kernel is taken.
    """
    return device.type == "cpu" and num_leads * num_times >= _WORTHWHILE * (num_leads + num_times)


def cropa_kernel(masked: AttentionKernel) -> AttentionKernel:
    """An attention kernel that takes either form of CroPA mask.

    Args:
        masked: Kernel for masks of four dimensions, or none.
    """
    return _CropaKernel(masked).attend


class _CropaKernel:
    # A class instead of a closure, because models are pickled and copied with their kernels.
    def __init__(self, masked: AttentionKernel) -> None:
        self.masked = masked

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        dropout: float = 0.0,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        if attention_mask is None or attention_mask.ndim != 5:
            return self.masked(
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
            )
        if dropout:
            raise ValueError("factorised attention has no dropout on its weights")
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        return factorised_cropa(query, key, value, attention_mask, scaling), None
