"""Discrimination of the tokens of one record."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision, similarity

__all__ = ["instance_discrimination_loss"]


def instance_discrimination_loss(first: Tensor, second: Tensor, token_mask: Tensor | None = None) -> Tensor:
    """How alike the tokens of a record are: mean over records of ``log sum_{i != j} exp(cos(first_i, second_j))``.

    Paper: CRT, instance discrimination constraint; computed in float32.

    Args:
        first: float ``(batch, tokens, dim)``, such as what enters an encoder.
        second: Same shape, such as what leaves it.
        token_mask: bool ``(batch, tokens)``: False tokens are left out; all count if not given.

    Returns:
        Scalar loss; a record with fewer than two tokens contributes nothing.
    """
    cosines = similarity(
        F.normalize(full_precision(first), dim=-1), F.normalize(full_precision(second), dim=-1)
    )
    pairs = ~torch.eye(cosines.shape[1], dtype=torch.bool, device=cosines.device)
    if token_mask is None:
        return cosines.masked_fill(~pairs, -torch.inf).logsumexp((1, 2)).mean()
    pairs = pairs & token_mask[:, :, None] & token_mask[:, None, :]
    there = pairs.flatten(1).any(1)
    # A record without pairs must not give the infinity that would make its gradient NaN.
    hidden = torch.where(there[:, None, None], ~pairs, False)
    per_record = cosines.masked_fill(hidden, -torch.inf).logsumexp((1, 2))
    return (per_record * there).sum() / there.sum().clamp(min=1)
