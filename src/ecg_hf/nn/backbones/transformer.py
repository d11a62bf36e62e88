"""Transformer blocks and stacks, pre- or post-norm, shared by the ViT-like methods."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ecg_hf.nn.attention import AttentionKernel, SelfAttention, eager_attention

__all__ = ["DropPath", "TransformerBlock", "TransformerStack", "drop_path_rates"]


class TransformerBlock(nn.Module):
    """Self-attention and a two-layer MLP (exact GELU), each with a residual connection.

    Args:
        hidden_size: Token width.
        num_heads: Attention heads.
        intermediate_size: Width of the MLP.
        kernel: Attention kernel, see :class:`ecg_hf.nn.attention.SelfAttention`.
        dropout: Dropout after attention and MLP.
        attention_dropout: Dropout on attention weights.
        norm_eps: Epsilon of the layer norms.
        norm_first: Pre-norm (default) or post-norm.
        qkv_bias: Whether the projections to queries, keys and values have a bias.
        bias: Whether the other layers have one, the norms included.
        drop_path: Probability of skipping each of the two branches for a row (stochastic depth).
        head_size: Width of each head; ``hidden_size // num_heads`` if not given.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        intermediate_size: int,
        *,
        kernel: AttentionKernel = eager_attention,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        norm_eps: float = 1e-5,
        norm_first: bool = True,
        qkv_bias: bool = True,
        bias: bool = True,
        drop_path: float = 0.0,
        head_size: int | None = None,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = SelfAttention(
            hidden_size,
            num_heads,
            head_size=head_size,
            kernel=kernel,
            dropout=attention_dropout,
            bias=bias,
            qkv_bias=qkv_bias,
        )
        self.attention_norm = nn.LayerNorm(hidden_size, eps=norm_eps, bias=bias)
        self.mlp = nn.Sequential(
            nn.Linear(hidden_size, intermediate_size, bias=bias),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(intermediate_size, hidden_size, bias=bias),
        )
        self.mlp_norm = nn.LayerNorm(hidden_size, eps=norm_eps, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, need_weights: bool = False
    ) -> Tensor:
        """``(batch, tokens, hidden_size)`` to the same; see :class:`SelfAttention` for the other arguments."""
        if self.norm_first:
            attended, _ = self.attention(self.attention_norm(hidden_states), attention_mask, need_weights)
            hidden_states = hidden_states + self._branch(attended)
            transformed: Tensor = hidden_states + self._branch(self.mlp(self.mlp_norm(hidden_states)))
            return transformed
        attended, _ = self.attention(hidden_states, attention_mask, need_weights)
        hidden_states = self.attention_norm(hidden_states + self._branch(attended))
        normed: Tensor = self.mlp_norm(hidden_states + self._branch(self.mlp(hidden_states)))
        return normed

    def _branch(self, branch: Tensor) -> Tensor:
        dropped: Tensor = self.drop_path(self.dropout(branch))
        return dropped


class TransformerStack(nn.Module):
    """Blocks in sequence."""

    def __init__(self, num_layers: int, make_block: Callable[[], TransformerBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([make_block() for _ in range(num_layers)])

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        positions: Tensor | None = None,
        need_weights: bool = False,
    ) -> Tensor:
        """Run all blocks on ``(batch, tokens, hidden_size)``.

        Args:
            hidden_states: The tokens.
            attention_mask: For the kernel of each block.
            positions: Broadcastable to the tokens; if given, added to them before every block and not removed after
                it.
            need_weights: For the kernel of each block.
        """
        for block in self.blocks:
            if positions is not None:
                hidden_states = hidden_states + positions
            hidden_states = block(hidden_states, attention_mask, need_weights)
        return hidden_states


class DropPath(nn.Module):
    """While training, zeroes whole rows with some probability and scales up the others.

    Args:
        probability: Of dropping a row, in [0, 1).

    Shapes:
        ``(batch, ...)`` to the same.
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= probability < 1.0:
            raise ValueError(f"probability must be in [0, 1), got {probability}")
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """Drop rows of a residual branch."""
        if not self.training or self.probability == 0.0:
            return branch
        keep = 1.0 - self.probability
        shape = (branch.shape[0], *([1] * (branch.ndim - 1)))
        return branch * (torch.empty(shape, dtype=branch.dtype, device=branch.device).bernoulli_(keep) / keep)

    def extra_repr(self) -> str:
        """For the module's representation."""
        return f"probability={self.probability:g}"


def drop_path_rates(highest: float, num_layers: int) -> list[float]:
    """Probability of each layer: linear from 0 at the first to ``highest`` at the last."""
    return [highest * layer / max(num_layers - 1, 1) for layer in range(num_layers)]
