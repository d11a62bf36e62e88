"""Heads that make the embedding of a record which is aligned with that of its report."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecg_hf.models.ecg_text.configuration import EcgTextConfig
from ecg_hf.models.joint_embedding.backbones import Backbone
from ecg_hf.nn.heads import masked_mean
from ecg_hf.nn.normalization import GlobalBatchNorm1d
from ecg_hf.nn.precision import full_precision, match_weights

__all__ = ["AttentionPoolHead", "EcgHead", "LinearHead", "MlpNormHead", "build_ecg_head"]


class EcgHead(nn.Module):
    """From the backbone's tokens and embedding to the record's projection.

    Attributes:
        view_size: Width of what two views of a record are made of.
    """

    view_size: int

    def forward(self, tokens: Tensor, pooled: Tensor, token_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Project.

        Args:
            tokens: float ``(batch, tokens, hidden_size)``.
            pooled: float32 ``(batch, hidden_size)``, the backbone's embedding.
            token_mask: bool ``(batch, tokens)``, False for padding; None if all tokens hold signal.

        Returns:
            float32 ``(batch, projection_dim)``, not normalised, and float32 ``(batch, view_size)``.
        """
        raise NotImplementedError


class LinearHead(EcgHead):
    """One linear layer on the embedding."""

    def __init__(self, hidden_size: int, projection_dim: int) -> None:
        super().__init__()
        self.view_size = hidden_size
        self.output = nn.Linear(hidden_size, projection_dim)

    def forward(self, tokens: Tensor, pooled: Tensor, token_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """See :class:`EcgHead`."""
        return full_precision(self.output(match_weights(pooled, self))), pooled


class MlpNormHead(EcgHead):
    """Two layers with batch norms on the embedding.

    Official code: ``proj_e`` of MERL's ViT. Running statistics are used in evaluation, those of all processes in
    training.
    """

    def __init__(self, hidden_size: int, inner_size: int, projection_dim: int) -> None:
        super().__init__()
        self.view_size = hidden_size
        self.layers = nn.Sequential(
            nn.Linear(hidden_size, inner_size),
            GlobalBatchNorm1d(inner_size),
            nn.ReLU(),
            nn.Linear(inner_size, projection_dim),
            GlobalBatchNorm1d(projection_dim),
        )

    def forward(self, tokens: Tensor, pooled: Tensor, token_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """See :class:`EcgHead`."""
        return full_precision(self.layers(match_weights(pooled, self))), pooled


class AttentionPoolHead(EcgHead):
    """A class token attends over narrowed tokens; a linear layer follows. Views are made of the tokens' mean.

    Official code: ``downconv`` and ``att_pool_head`` of MERL's ResNet. As there, the class token has its position
    added twice.

    Args:
        hidden_size: Width of the backbone's tokens.
        projection_dim: Width of the narrowed tokens and of the output.
        num_heads: Attention heads.
        max_tokens: Most tokens of a record.
    """

    def __init__(self, hidden_size: int, projection_dim: int, num_heads: int, max_tokens: int) -> None:
        super().__init__()
        self.view_size = projection_dim
        self.narrow = nn.Linear(hidden_size, projection_dim)
        self.class_token = nn.Parameter(torch.zeros(1, 1, projection_dim))
        self.positions = nn.Parameter(torch.zeros(1, 1 + max_tokens, projection_dim))
        self.attention = nn.MultiheadAttention(projection_dim, num_heads, batch_first=True)
        self.output = nn.Linear(projection_dim, projection_dim)

    def forward(self, tokens: Tensor, pooled: Tensor, token_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """See :class:`EcgHead`."""
        narrowed = self.narrow(match_weights(tokens, self))
        query = (self.class_token + 2.0 * self.positions[:, :1]).expand(tokens.shape[0], -1, -1)
        keys = torch.cat([query, narrowed + self.positions[:, 1 : 1 + narrowed.shape[1]]], dim=1)
        ignored = None
        if token_mask is not None:
            ignored = torch.cat([torch.zeros_like(token_mask[:, :1]), ~token_mask], dim=1)
        attended, _ = self.attention(query, keys, keys, key_padding_mask=ignored, need_weights=False)
        embedding = full_precision(self.output(attended.squeeze(1)))
        return embedding, masked_mean(full_precision(narrowed), token_mask)


def build_ecg_head(config: EcgTextConfig, backbone: Backbone) -> EcgHead:
    """The head that ``config.ecg_head`` names."""
    width, out = config.hidden_size, config.projection_dim
    if config.ecg_head == "linear":
        return LinearHead(width, out)
    if config.ecg_head == "mlp":
        return MlpNormHead(width, config.projection_hidden_size, out)
    longest = backbone.output_mask(torch.ones(1, config.num_samples, dtype=torch.bool, device="cpu"))
    return AttentionPoolHead(width, out, config.attention_pool_heads, longest.shape[1])
