"""Masks of spans of tokens, and which masked tokens a masked one is compared with.

Paper: wav2vec 2.0, arXiv 2006.11477, section 3.1 and 3.2; official code: ``compute_mask_indices`` and
``sample_negatives`` of fairseq.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["mask_spans", "pick_other_masked"]


def mask_spans(
    count: Tensor, order: Tensor, *, probability: float, length: int, min_spans: int = 2
) -> Tensor:
    """Hide spans of neighbouring tokens, ``probability * tokens / length`` of them; they may overlap.

    The number is rounded up or down at random, so that it is right on average. As in the official code no span
    reaches the last token.

    Differs from official code: each row has a number and a mask of its own; there rows are trimmed to as many masked
    tokens as the row of the batch that has the fewest.

    Args:
        count: float ``(rows,)`` uniform in [0, 1): rounds the number of spans.
        order: float ``(rows, tokens)`` uniform: spans begin where it is smallest.
        probability: Share of tokens that would be hidden if spans did not overlap.
        length: Tokens of a span, fewer than all.
        min_spans: At least so many.

    Returns:
        bool ``(rows, tokens)``, True = hidden.
    """
    tokens = order.shape[1]
    places = max(tokens - length, 1)
    spans = (probability * tokens / length + count).floor().clamp(min=min_spans)
    begins = order[:, :places].argsort(dim=1).argsort(dim=1) < spans[:, None]
    begun = F.pad(begins, (0, tokens - places)).long().cumsum(1)
    ended = F.pad(begun, (length, 0))[:, :tokens]
    return begun > ended


def pick_other_masked(masked: Tensor, noise: Tensor) -> Tensor:
    """For each masked token some of the record's other masked ones, uniform with replacement.

    Args:
        masked: bool ``(rows, tokens)``.
        noise: float ``(rows, tokens, picks)`` uniform in [0, 1).

    Returns:
        int64 ``(rows, tokens, picks)``, positions of tokens. Those of tokens that are not masked, and of rows with
        fewer than two masked ones, mean nothing.
    """
    rows, tokens = masked.shape
    places = (~masked).long().argsort(dim=1, stable=True)  # of the masked tokens, then of the others
    others = (masked.sum(1) - 1).clamp(min=1)[:, None, None]
    drawn = torch.minimum((noise * others).floor().long(), others - 1)
    own = (masked.long().cumsum(1) - 1)[:, :, None]
    drawn = (drawn + (drawn >= own)).clamp(max=tokens - 1)
    return places.gather(1, drawn.flatten(1)).view(rows, tokens, -1)
