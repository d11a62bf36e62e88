"""The attention probe's head: one learnable query over frozen tokens, then a linear layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg_hf.nn.heads import UnprojectedQueryPool

__all__ = ["QueryHead", "pool_with_one_query"]


class QueryHead(nn.Module):
    """:class:`~ecg_hf.nn.heads.UnprojectedQueryPool` and a linear layer; ``(batch, tokens, dim)`` to logits.

    Args:
        dim: Width of the tokens.
        num_heads: Attention heads; the largest smaller number that divides ``dim`` where this one does not.
        num_classes: Width of the output.
        bias: Whether the linear layer has a bias.
        seed: The initial weights follow from it alone; the query starts with variance ``1 / dim``.
    """

    def __init__(self, dim: int, num_heads: int, num_classes: int, *, bias: bool, seed: int) -> None:
        super().__init__()
        heads = next(heads for heads in range(min(num_heads, dim), 0, -1) if dim % heads == 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.pool = UnprojectedQueryPool(dim, heads)
            self.classifier = nn.Linear(dim, num_classes, bias=bias)
            nn.init.normal_(self.pool.query, std=dim**-0.5)

    def forward(self, tokens: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Logits ``(batch, classes)``; False tokens are not attended to."""
        logits: Tensor = self.classifier(pool_with_one_query(self.pool, tokens, token_mask))
        return logits


def pool_with_one_query(
    pool: UnprojectedQueryPool, tokens: Tensor, token_mask: Tensor | None = None
) -> Tensor:
    """What ``pool(tokens, token_mask)`` gives, without a key and a value for every token.

    With a single query ``q`` a head's scores are ``x . (W_k^T q)``, and its output is ``W_v`` times the weighted mean
    of ``x``: both projections move from the tokens to the query and the pooled vector. Per token that leaves
    ``2 heads * dim`` multiplications of ``2 dim * dim``. Meant for frozen tokens, which need no gradient.

    Args:
        pool: The layer whose weights are used.
        tokens: ``(batch, tokens, dim)``.
        token_mask: bool ``(batch, tokens)``; False tokens are not attended to. A record with no token at all pools
            over all of them.

    Returns:
        ``(batch, dim)``.
    """
    heads, dim = pool.num_heads, tokens.shape[-1]
    size = dim // heads
    query = F.linear(pool.query[0, 0], pool.query_projection.weight).view(heads, 1, size)
    directions = (query @ pool.key_projection.weight.view(heads, size, dim)).squeeze(1) / math.sqrt(size)
    scores = tokens @ directions.T
    if token_mask is not None:
        there = token_mask | ~token_mask.any(1, keepdim=True)
        scores = scores.masked_fill(~there.unsqueeze(-1), -math.inf)
    means = scores.softmax(1).transpose(1, 2) @ tokens
    by_head = pool.value_projection.weight.view(heads, size, dim).transpose(1, 2)
    return (means.unsqueeze(-2) @ by_head).flatten(1)
