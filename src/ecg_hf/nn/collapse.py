"""What tells embeddings that have collapsed from those that say something, as their losses may look alike."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.precision import similarity

__all__ = ["effective_rank", "embedding_spread", "mean_cosine", "pair_accuracy"]


@torch.no_grad()
def embedding_spread(embeddings: Tensor) -> Tensor:
    """Standard deviation of L2-normalised rows, mean over columns, times the root of their number.

    About 1 if directions are uniform, 0 if all rows point the same way. Paper: SimSiam, section 4.1.

    Args:
        embeddings: float ``(rows, dim)``.
    """
    rows = F.normalize(embeddings.float(), dim=-1)
    spread: Tensor = rows.std(0, correction=0).mean() * rows.shape[-1] ** 0.5
    return spread


@torch.no_grad()
def mean_cosine(embeddings: Tensor) -> Tensor:
    """Mean cosine of two different rows of ``(rows, dim)``; 1 if they have collapsed."""
    rows = F.normalize(embeddings.float(), dim=-1)
    count = len(rows)
    total: Tensor = rows.sum(0).square().sum() - rows.square().sum()
    return total / max(count * (count - 1), 1)


@torch.no_grad()
def effective_rank(features: Tensor) -> Tensor:
    """How many directions the rows of ``(rows, dim)`` use: between 1 and the smaller of ``rows - 1`` and ``dim``.

    The participation ratio of the covariance's eigenvalues, ``(sum)^2 / sum of squares``: it needs no decomposition
    and can be computed in every step.
    """
    centred = features.float() - features.float().mean(0)
    gram = similarity(centred, centred)
    rank: Tensor = gram.diagonal().sum().square() / gram.square().sum().clamp(min=1e-30)
    return rank


@torch.no_grad()
def pair_accuracy(first: Tensor, second: Tensor, *, top: int) -> Tensor:
    """Share of rows whose partner is among the ``top`` most similar of the other side, mean of both directions.

    Args:
        first: float ``(batch, dim)``.
        second: float ``(batch, dim)``; row i belongs to row i of ``first``.
        top: How many count; at most all.
    """
    cosines = similarity(F.normalize(first.float(), dim=-1), F.normalize(second.float(), dim=-1))
    own = torch.arange(len(cosines), device=cosines.device)[:, None]
    hits = [(side.topk(min(top, len(side)), dim=1).indices == own).any(1) for side in (cosines, cosines.T)]
    return torch.stack(hits).float().mean()
