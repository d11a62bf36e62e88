"""The transformer over beats that HeartLang uses three times: for sentences, and to read and write its vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecg_hf.models.heartlang.configuration_heartlang import HeartLangConfig
from ecg_hf.models.modeling import attention_kernel
from ecg_hf.nn.backbones.transformer import TransformerBlock, TransformerStack
from ecg_hf.nn.beat_embedding import BeatEmbedding

__all__ = ["BeatTransformer"]


class BeatTransformer(nn.Module):
    """[CLS] and beats through pre-norm blocks and a final norm.

    Args:
        config: What is the same of all three.
        input_size: Values of a beat.
        hidden_size: Width of the tokens.
        num_layers: Blocks.
        num_heads: Heads of each.
        head_size: Width of a head.
        intermediate_size: Width of the MLPs.
        dropout: Of embeddings, of attention and inside MLPs.
    """

    def __init__(
        self,
        config: HeartLangConfig,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int,
        num_heads: int,
        head_size: int,
        intermediate_size: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgTransformerBlock

        self.embedding = BeatEmbedding(
            input_size,
            hidden_size,
            config.token_kernel_size,
            num_lead_ids=config.num_lead_ids,
            num_time_ids=config.num_time_ids,
        )
        self.cls_token = nn.Parameter(torch.zeros(hidden_size))
        self.positions = nn.Parameter(torch.zeros(1 + config.sentence_length, hidden_size))
        self.dropout = nn.Dropout(dropout)
        kernel = attention_kernel(config)

        def make_block() -> TransformerBlock:
            return EcgTransformerBlock(
                hidden_size,
                num_heads,
                intermediate_size,
                kernel=kernel,
                dropout=dropout,
                attention_dropout=dropout,
                norm_eps=config.layer_norm_eps,
                qkv_bias=False,
                head_size=head_size,
            )

        self.layers = TransformerStack(num_layers, make_block)
        self.norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        beats: Tensor,
        lead_ids: Tensor | None = None,
        time_ids: Tensor | None = None,
        *,
        keys: Tensor | None = None,
        masked: Tensor | None = None,
        mask_token: Tensor | None = None,
        need_weights: bool = False,
    ) -> Tensor:
        """Encode.

        Args:
            beats: float ``(batch, tokens, input_size)``.
            lead_ids: int64 ``(batch, tokens)``; without, tokens don't know their lead and second.
            time_ids: int64 ``(batch, tokens)``.
            keys: bool ``(batch, tokens)``: tokens that are attended to; all if not given.
            masked: bool ``(batch, tokens)``: tokens in the place of which ``mask_token`` stands.
            mask_token: float ``(hidden_size,)``.
            need_weights: Use a kernel that returns attention weights.

        Returns:
            float ``(batch, 1 + tokens, hidden_size)``: [CLS] first.
        """
        tokens = self.embedding.project(beats)
        if masked is not None and mask_token is not None:
            # After the convolution: neighbours of a hidden beat have seen it, as in the official code.
            tokens = torch.where(masked.unsqueeze(-1), mask_token.to(tokens.dtype), tokens)
        if lead_ids is not None and time_ids is not None:
            tokens = tokens + self.embedding.places(lead_ids, time_ids)
        front = self.cls_token.expand(tokens.shape[0], 1, -1).to(tokens.dtype)
        hidden = torch.cat([front, tokens], dim=1)
        hidden = self.dropout(hidden + self.positions[: hidden.shape[1]])
        mask = None
        if keys is not None:
            mask = nn.functional.pad(keys, (1, 0), value=True)[:, None, None, :]
        encoded: Tensor = self.norm(self.layers(hidden, mask, need_weights=need_weights))
        return encoded
