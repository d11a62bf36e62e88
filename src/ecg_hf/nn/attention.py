"""Multi-head self-attention with an exchangeable kernel.

The projections are here; the kernel that combines queries, keys and values is passed in, so that models can
dispatch to the attention implementation their configuration names while this package stays free of
``transformers``. The kernel's signature is that of the library's attention interface.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

__all__ = ["AttentionKernel", "SelfAttention", "eager_attention"]


class AttentionKernel(Protocol):
    """``(module, query, key, value, mask, dropout=, scaling=)`` to ``((batch, tokens, heads, dim), weights)``.

    The keyword ``need_weights=True`` asks for the weights, even if another kernel is faster.
    """

    def __call__(
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
        """Attend."""
        ...


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Plain attention, the reference for every faster kernel; also returns the weights.

    Args:
        module: Read for ``training`` only.
        query: ``(batch, heads, tokens, dim)``; ``key`` and ``value`` alike.
        key: See ``query``.
        value: See ``query``.
        attention_mask: Boolean (True = attend) or additive, broadcastable to ``(batch, heads, tokens, tokens)``.
        dropout: Probability of dropping a weight while training.
        scaling: Factor on the scores; ``dim ** -0.5`` if not given.
        kwargs: Ignored; kernels of the library receive more than this one needs.
    """
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        if attention_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
        else:
            scores = scores + attention_mask
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    dropped = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (dropped @ value).transpose(1, 2).contiguous(), weights


class SelfAttention(nn.Module):
    """Multi-head self-attention.

    Args:
        hidden_size: Token width.
        num_heads: Heads; must divide ``hidden_size`` unless ``head_size`` is given.
        head_size: Width of each head; ``hidden_size // num_heads`` if not given.
        kernel: How queries, keys and values are combined.
        dropout: Dropout on the attention weights.
        bias: Whether the projections have a bias.
        qkv_bias: Whether those of queries, keys and values have one; as ``bias`` if not given.

    Shapes:
        ``(batch, tokens, hidden_size)`` to the same, and the weights where the kernel gives them.
    """

    is_causal = False

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        head_size: int | None = None,
        kernel: AttentionKernel = eager_attention,
        dropout: float = 0.0,
        bias: bool = True,
        qkv_bias: bool | None = None,
    ) -> None:
        super().__init__()
        if head_size is None and hidden_size % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a width of {hidden_size}")
        head_size = head_size or hidden_size // num_heads
        self.num_heads = num_heads
        self.dropout = dropout
        self.scaling = head_size**-0.5
        self.kernel = kernel
        inner = num_heads * head_size
        self.qkv = nn.Linear(hidden_size, 3 * inner, bias=bias if qkv_bias is None else qkv_bias)
        self.output = nn.Linear(inner, hidden_size, bias=bias)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Attend over the token axis.

        Args:
            hidden_states: ``(batch, tokens, hidden_size)``.
            attention_mask: As the kernel takes it.
            need_weights: Ask the kernel for the weights; otherwise only kernels that compute them anyway return them.
        """
        qkv = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended, weights = self.kernel(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.dropout if self.training else 0.0,
            scaling=self.scaling,
            need_weights=need_weights,
        )
        return self.output(attended.flatten(-2)), weights
