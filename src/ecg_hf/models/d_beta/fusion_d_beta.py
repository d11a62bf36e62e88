"""What D-BETA has beside its two encoders: the fusion of both modalities, and the decoder of hidden ECG tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecg_hf.models.d_beta.configuration_d_beta import DBetaConfig
from ecg_hf.nn.positions import interleaved_sincos_positions

__all__ = ["FusionLayer", "FusionTower", "TokenDecoder"]

_FUSION_EPS = 1e-12


class FusionLayer(nn.Module):
    """Attention to the own tokens, attention to the other modality's, and two layers; a norm follows each.

    Official code: ``BertCrossLayer``.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()

        def attention() -> nn.MultiheadAttention:
            return nn.MultiheadAttention(hidden_size, num_heads, dropout=dropout, batch_first=True)

        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(hidden_size, eps=_FUSION_EPS)

        self.attention, self.attention_norm = attention(), norm()
        self.cross_attention, self.cross_norm = attention(), norm()
        self.mlp = nn.Sequential(
            nn.Linear(hidden_size, 4 * hidden_size), nn.GELU(), nn.Linear(4 * hidden_size, hidden_size)
        )
        self.mlp_norm = norm()
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, own: Tensor, other: Tensor, own_ignored: Tensor | None, other_ignored: Tensor | None
    ) -> Tensor:
        """``(batch, tokens, hidden_size)`` to the same; tokens that a mask calls True are not attended to."""
        attended = self.attention(own, own, own, key_padding_mask=own_ignored, need_weights=False)[0]
        own = self.attention_norm(own + self.dropout(attended))
        seen = self.cross_attention(own, other, other, key_padding_mask=other_ignored, need_weights=False)[0]
        own = self.cross_norm(own + self.dropout(seen))
        fused: Tensor = self.mlp_norm(own + self.dropout(self.mlp(own)))
        return fused


class FusionTower(nn.Module):
    """Layers of both modalities side by side; each attends to what the other's layer is given.

    Attributes:
        modality: What is added to tokens of texts (row 0) and of ECGs (row 1).
    """

    def __init__(self, config: DBetaConfig) -> None:
        super().__init__()

        def layers() -> nn.ModuleList:
            return nn.ModuleList(
                FusionLayer(config.projection_dim, config.fusion_heads, float(config.fusion_dropout))
                for _ in range(config.fusion_layers)
            )

        self.reconstruction_layer = config.reconstruction_layer
        self.modality = nn.Parameter(torch.zeros(2, config.projection_dim))
        self.text_layers, self.ecg_layers = layers(), layers()

    def forward(
        self, text: Tensor, ecg: Tensor, text_ignored: Tensor | None, ecg_ignored: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Fused texts and ECGs, and ECG tokens as they enter the layer that hidden ones are rebuilt from."""
        text, ecg = text + self.modality[0], ecg + self.modality[1]
        for index, (of_text, of_ecg) in enumerate(zip(self.text_layers, self.ecg_layers, strict=True)):
            if index == self.reconstruction_layer:
                entering = ecg
            text, ecg = (
                of_text(text, ecg, text_ignored, ecg_ignored),
                of_ecg(ecg, text, ecg_ignored, text_ignored),
            )
        return text, ecg, entering


class _DecoderBlock(nn.Module):
    """Pre-norm attention and two layers with the quick approximation of GELU, as in CLIP."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.attention = nn.MultiheadAttention(hidden_size, num_heads, batch_first=True)
        self.mlp_norm = nn.LayerNorm(hidden_size)
        self.widen = nn.Linear(hidden_size, 4 * hidden_size)
        self.narrow = nn.Linear(4 * hidden_size, hidden_size)

    def forward(self, tokens: Tensor, ignored: Tensor | None) -> Tensor:
        normed = self.attention_norm(tokens)
        attended = self.attention(normed, normed, normed, key_padding_mask=ignored, need_weights=False)[0]
        tokens = tokens + attended
        wide = self.widen(self.mlp_norm(tokens))
        transformed: Tensor = tokens + self.narrow(wide * torch.sigmoid(1.702 * wide))
        return transformed


class TokenDecoder(nn.Module):
    """Rebuilds hidden ECG tokens from the visible ones: all leads of each token's stretch of time."""

    table: Tensor

    def __init__(self, config: DBetaConfig) -> None:
        super().__init__()
        width = config.decoder_hidden_size
        self.embedding = nn.Linear(config.projection_dim, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.register_buffer(
            "table", interleaved_sincos_positions(1 + config.num_tokens, width), persistent=False
        )
        self.blocks = nn.ModuleList(
            _DecoderBlock(width, config.decoder_num_attention_heads) for _ in range(config.decoder_num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, config.num_leads * config.stride)

    def forward(self, visible: Tensor, places: Tensor, token_mask: Tensor | None) -> Tensor:
        """Rebuild.

        Args:
            visible: float ``(batch, 1 + visible, projection_dim)``, the class token first.
            places: int64 ``(batch, tokens)``: where each token is in the row of visible and then hidden ones.
            token_mask: bool ``(batch, tokens)``: False for padding.

        Returns:
            float ``(batch, tokens, leads * stride)``.
        """
        embedded = self.embedding(visible)
        count = places.shape[1]
        missing = self.mask_token.to(embedded.dtype).expand(
            embedded.shape[0], 1 + count - embedded.shape[1], -1
        )
        shuffled = torch.cat([embedded[:, 1:], missing], dim=1)
        ordered = shuffled.gather(1, places.unsqueeze(-1).expand(-1, -1, shuffled.shape[-1]))
        tokens = torch.cat([embedded[:, :1], ordered], dim=1)
        tokens = tokens + self.table[: tokens.shape[1]].to(tokens.dtype)
        ignored = None
        if token_mask is not None:
            ignored = torch.cat([torch.zeros_like(token_mask[:, :1]), ~token_mask], dim=1)
        for block in self.blocks:
            tokens = block(tokens, ignored)
        rebuilt: Tensor = self.output(self.norm(tokens[:, 1:]))
        return rebuilt
