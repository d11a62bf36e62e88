"""Small heads: projectors, pooling, classification, masked-token prediction."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg_hf.nn.normalization import PoolBatchNorm1d
from ecg_hf.nn.precision import full_precision

__all__ = [
    "AttentionQueryPool",
    "AttentionalPooler",
    "MaskedTokenHead",
    "MlpHead",
    "MlpProjector",
    "UnprojectedQueryPool",
    "masked_mean",
    "mean_probability_logits",
    "pooled_statistics",
]


def masked_mean(tokens: Tensor, token_mask: Tensor | None = None) -> Tensor:
    """Mean over the token axis, ``(batch, tokens, dim)`` to ``(batch, dim)``; False tokens are left out.

    A record without tokens gives zeros instead of NaN.
    """
    if token_mask is None:
        return tokens.mean(1)
    weights = token_mask.to(tokens.dtype).unsqueeze(-1)
    return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1.0)


def pooled_statistics(tokens: Tensor, token_mask: Tensor | None = None) -> Tensor:
    """Mean, standard deviation and maximum over the tokens, float32.

    Args:
        tokens: float ``(batch, tokens, dim)``.
        token_mask: bool ``(batch, tokens)``; False tokens are left out.

    Returns:
        float ``(batch, 3 * dim)``; zeros for a record without any token, but for the standard deviation's 0.001.
    """
    values = full_precision(tokens)
    if token_mask is None:
        weight, largest = values.new_ones(values.shape[:2]), values.amax(1)
    else:
        weight = token_mask.to(values.dtype)
        hidden = values.masked_fill(~token_mask.bool().unsqueeze(-1), -torch.inf)
        largest = hidden.amax(1).masked_fill(~token_mask.bool().any(1, keepdim=True), 0.0)
        values = values * weight[..., None]
    count = weight.sum(1, keepdim=True).clamp(min=1.0)
    mean = values.sum(1) / count
    deviation = (values - mean[:, None]) * weight[..., None]
    # The root of zero has no gradient: a channel that never fires has a spread of a thousandth.
    spread = (deviation.square().sum(1) / count + 1e-6).sqrt()
    return torch.cat([mean, spread, largest], dim=1)


def mean_probability_logits(logits: Tensor, weights: Tensor, problem_type: str) -> Tensor:
    """Logits whose probabilities are the weighted mean of the windows' probabilities.

    Computed through logarithms, so that probabilities near 0 and 1 keep their digits.

    Args:
        logits: float ``(batch, windows, classes)``.
        weights: float ``(batch, windows)``, summing to 1.
        problem_type: ``multi_label_classification`` (sigmoid), ``single_label_classification`` (softmax; the result
            is normalised) or ``regression`` (plain mean).

    Returns:
        float32 ``(batch, classes)``.
    """
    logits, weights = logits.float(), weights.unsqueeze(-1)
    if problem_type == "regression":
        return (logits * weights).sum(1)
    log_weights = weights.log()
    if problem_type == "single_label_classification":
        return (logits.log_softmax(-1) + log_weights).logsumexp(1)
    yes, no = F.logsigmoid(logits) + log_weights, F.logsigmoid(-logits) + log_weights
    return yes.logsumexp(1) - no.logsumexp(1)


class MlpProjector(nn.Sequential):
    """``Linear - GELU - Linear``, as MERL's text projector. ``(..., in_size)`` to ``(..., out_size)``."""

    def __init__(self, in_size: int, hidden_size: int, out_size: int) -> None:
        super().__init__(nn.Linear(in_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, out_size))


class MlpHead(nn.Sequential):
    """Projector or predictor of joint-embedding methods: ``Linear - BatchNorm - ReLU`` per hidden layer, then
    linear.

    It runs on the whole pool of embeddings, see :class:`~ecg_hf.nn.normalization.PoolBatchNorm1d`. Layers before a
    norm have no bias, which the norm would take away again.

    Args:
        sizes: Width of the input, of each hidden layer and of the output.
        last_norm: A batch norm without scale and shift after the last layer.

    Shapes:
        ``(rows, sizes[0])`` to ``(rows, sizes[-1])``.
    """

    def __init__(self, sizes: Sequence[int], *, last_norm: bool = False) -> None:
        layers: list[nn.Module] = []
        for width, hidden in pairwise(sizes[:-1]):
            layers += [nn.Linear(width, hidden, bias=False), PoolBatchNorm1d(hidden), nn.ReLU()]
        layers.append(nn.Linear(sizes[-2], sizes[-1], bias=not last_norm))
        if last_norm:
            layers.append(PoolBatchNorm1d(sizes[-1], affine=False))
        super().__init__(*layers)


class AttentionQueryPool(nn.Module):
    """Pools tokens with one learnable query. ``(batch, tokens, dim)`` to ``(batch, dim)``."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.attention = nn.MultiheadAttention(hidden_size, num_heads, batch_first=True)

    def forward(self, tokens: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Pool; False tokens are not attended to."""
        query = self.query.expand(tokens.shape[0], -1, -1)
        ignored = None if token_mask is None else ~token_mask
        pooled: Tensor = self.attention(query, tokens, tokens, key_padding_mask=ignored, need_weights=False)[
            0
        ]
        return pooled.squeeze(1)


class AttentionalPooler(nn.Module):
    """Learnable queries, each of which gathers what it wants of the tokens; both are normed first.

    Source: CoCa (Yu et al., arXiv 2205.01917), as MELP has it.

    Args:
        num_queries: Queries.
        out_size: Width of the queries and of what they gather.
        hidden_size: Width of the tokens.
        num_heads: Attention heads; must divide ``out_size``.
    """

    def __init__(self, num_queries: int, out_size: int, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(num_queries, out_size))
        self.query_norm = nn.LayerNorm(out_size)
        self.token_norm = nn.LayerNorm(hidden_size)
        self.attention = nn.MultiheadAttention(
            out_size, num_heads, kdim=hidden_size, vdim=hidden_size, batch_first=True
        )

    def forward(self, tokens: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Pool ``(batch, tokens, hidden_size)`` to ``(batch, num_queries, out_size)``.

        False tokens are not attended to. A record without tokens pools over its padding.
        """
        query = self.query_norm(self.query).expand(tokens.shape[0], -1, -1)
        keys = self.token_norm(tokens)
        ignored = None if token_mask is None else ~token_mask & token_mask.any(1, keepdim=True)
        pooled: Tensor = self.attention(query, keys, keys, key_padding_mask=ignored, need_weights=False)[0]
        return pooled


class UnprojectedQueryPool(nn.Module):
    """Pools tokens with one learnable query, without biases and without a projection behind the heads.

    The classifier that follows replaces the projection. ``(batch, tokens, dim)`` to ``(batch, dim)``.

    Args:
        hidden_size: Token width.
        num_heads: Heads; must divide ``hidden_size``.
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a width of {hidden_size}")
        self.num_heads = num_heads
        self.query = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.query_projection = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key_projection = nn.Linear(hidden_size, hidden_size, bias=False)
        self.value_projection = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, tokens: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Pool; False tokens are not attended to. A record without tokens pools over its padding."""
        query, key, value = (
            projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projected in (
                self.query_projection(self.query).expand(tokens.shape[0], -1, -1),
                self.key_projection(tokens),
                self.value_projection(tokens),
            )
        )
        mask = (
            None if token_mask is None else (token_mask | ~token_mask.any(1, keepdim=True))[:, None, None, :]
        )
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attended.transpose(1, 2).flatten(1)


class MaskedTokenHead(nn.Module):
    """BERT's masked-language-model head, its decoder tied to the word embeddings passed in at call time.

    Taking the embedding matrix as an argument keeps the tie without registering one parameter twice.
    """

    def __init__(self, hidden_size: int, vocab_size: int, *, norm_eps: float = 1e-12) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.activation = nn.GELU()
        self.norm = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden_states: Tensor, embedding_weight: Tensor) -> Tensor:
        """``(..., hidden_size)`` and ``(vocab, hidden_size)`` to logits ``(..., vocab)``."""
        hidden_states = self.norm(self.activation(self.dense(hidden_states)))
        return nn.functional.linear(hidden_states, embedding_weight, self.bias)
