"""CoRe-ECG's encoder of visible patches behind a [CLS] token, and the decoder of masked ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg_hf.models.core_ecg.configuration_core_ecg import CoreEcgConfig
from ecg_hf.models.modeling import attention_kernel
from ecg_hf.nn.backbones.transformer import TransformerStack
from ecg_hf.nn.masks.patches import PatchMask
from ecg_hf.nn.positions import sincos_positions
from ecg_hf.nn.precision import match_weights
from ecg_hf.nn.tokenizers import gather_tokens

__all__ = ["CoreEcgDecoder", "CoreEcgEncoder", "LeadTimeEmbedding"]


class LeadTimeEmbedding(nn.Module):
    """A fixed sine-cosine table of time plus a learned vector per lead.

    ``CoreEcgPreTrainedModel._init_weights`` draws the latter; the fixed part is not stored in checkpoints.
    """

    time: Tensor

    def __init__(self, num_leads: int, num_patches: int, width: int) -> None:
        super().__init__()
        self.lead = nn.Parameter(torch.zeros(num_leads, width))
        self.register_buffer("time", sincos_positions(num_patches, width), persistent=False)

    def forward(self, num_patches: int, index: Tensor | None = None) -> Tensor:
        """Embeddings of all tokens, ``(leads * num_patches, width)``, or of ``index``: ``(*index.shape, width)``."""
        table = (self.lead[:, None, :] + self.time[None, :num_patches, :]).flatten(0, 1)
        # The times are a fixed float32 table, which would turn half-precision tokens into float32 if added directly.
        table = table.to(self.lead.dtype)
        return table if index is None else F.embedding(index, table)


class CoreEcgEncoder(nn.Module):
    """Tokens of patches (norm - linear - norm, as ST-MEM) behind a [CLS] token through a pre-norm transformer."""

    def __init__(self, config: CoreEcgConfig) -> None:
        super().__init__()
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgTransformerBlock

        width = config.hidden_size
        self.patch_norm = nn.LayerNorm(config.patch_size) if config.normalize_patches else nn.Identity()
        self.patch_projection = nn.Linear(config.patch_size, width)
        self.token_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.embedding = LeadTimeEmbedding(config.num_leads, config.num_patches, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.dropout = nn.Dropout(float(config.hidden_dropout_prob))
        kernel = attention_kernel(config)
        self.layers = TransformerStack(
            config.num_hidden_layers,
            lambda: EcgTransformerBlock(
                width,
                config.num_attention_heads,
                config.intermediate_size,
                kernel=kernel,
                dropout=float(config.hidden_dropout_prob),
                attention_dropout=float(config.attention_probs_dropout_prob),
                norm_eps=config.layer_norm_eps,
            ),
        )
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(
        self,
        patches: Tensor,
        token_mask: Tensor | None = None,
        visible: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> Tensor:
        """Encode.

        Args:
            patches: float ``(rows, leads, patches, patch_size)``.
            token_mask: bool ``(rows, leads * patches)``; False tokens are not attended to.
            visible: int64 ``(rows, k)``: only these patches are tokenised and encoded; all if not given.
            need_weights: Use a kernel that returns attention weights.

        Returns:
            Normed ``(rows, 1 + tokens, hidden_size)``, [CLS] first.
        """
        num_patches = patches.shape[2]
        patches = match_weights(patches.flatten(1, 2), self)
        if visible is not None:
            patches = gather_tokens(patches, visible)
            token_mask = None if token_mask is None else token_mask.gather(1, visible)
        tokens = self.token_norm(self.patch_projection(self.patch_norm(patches)))
        tokens = tokens + self.embedding(num_patches, visible)
        tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], dim=1)
        tokens = self.layers(self.dropout(tokens), attention_mask(token_mask), need_weights=need_weights)
        encoded: Tensor = self.norm(tokens)
        return encoded


class CoreEcgDecoder(nn.Module):
    """Predicts masked patches of all leads together from [CLS], the visible tokens and a mask token."""

    def __init__(self, config: CoreEcgConfig) -> None:
        super().__init__()
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgTransformerBlock

        width = config.decoder_hidden_size
        self.projection = nn.Linear(config.hidden_size, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.embedding = LeadTimeEmbedding(config.num_leads, config.num_patches, width)
        kernel = attention_kernel(config)
        self.layers = TransformerStack(
            config.decoder_num_layers,
            lambda: EcgTransformerBlock(
                width,
                config.decoder_num_attention_heads,
                config.decoder_intermediate_size,
                kernel=kernel,
                norm_eps=config.layer_norm_eps,
            ),
        )
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.head = nn.Linear(width, config.patch_size)

    def forward(self, encoded: Tensor, mask: PatchMask, token_mask: Tensor | None = None) -> Tensor:
        """Reconstruct.

        Args:
            encoded: float ``(rows, 1 + visible, hidden_size)`` from the encoder.
            mask: Indices of visible and masked tokens.
            token_mask: bool ``(rows, tokens)``; False tokens are not attended to.

        Returns:
            Predicted samples of the masked patches, ``(rows, masked, patch_size)``.
        """
        # Attention is invariant to the order, so the masked tokens simply follow the visible ones.
        index = torch.cat([mask.visible, mask.masked], dim=1)
        num_patches = index.shape[1] // len(self.embedding.lead)
        count = mask.masked.shape[1]
        projected = self.projection(encoded)
        hidden = self.mask_token.to(projected.dtype).expand(len(projected), count, -1)
        patches = torch.cat([projected[:, 1:], hidden], dim=1) + self.embedding(num_patches, index)
        tokens = torch.cat([projected[:, :1], patches.to(projected.dtype)], dim=1)
        token_mask = None if token_mask is None else token_mask.gather(1, index)
        tokens = self.layers(tokens, attention_mask(token_mask))
        prediction: Tensor = self.head(self.norm(tokens[:, tokens.shape[1] - count :]))
        return prediction


def attention_mask(token_mask: Tensor | None) -> Tensor | None:
    """Mask of keys for ``1 + tokens`` tokens: ``(rows, tokens)`` to ``(rows, 1, 1, 1 + tokens)``; [CLS] is True."""
    return None if token_mask is None else F.pad(token_mask, (1, 0), value=True)[:, None, None, :]
