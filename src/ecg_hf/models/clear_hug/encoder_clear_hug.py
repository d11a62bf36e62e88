"""Encoder and decoder of CLEAR: lead tokens in front of beat tokens, attention along the conduction view."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecg_hf.models.clear_hug.configuration_clear_hug import ClearHugConfig
from ecg_hf.models.modeling import attention_kernel
from ecg_hf.nn.attention import AttentionKernel
from ecg_hf.nn.backbones.transformer import TransformerBlock, TransformerStack
from ecg_hf.nn.beat_embedding import BeatEmbedding
from ecg_hf.nn.masks.beats import (
    conduction_decoder_mask,
    official_encoder_bias,
    restrict_keys,
    view_encoder_mask,
)
from ecg_hf.nn.tokenizers import gather_tokens

__all__ = ["ClearHugDecoder", "ClearHugEncoder", "normalize_beats"]


def normalize_beats(beats: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Standardise each beat over its window, zeros around it included; an empty slot stays zero.

    Official code: ``(x - mean) / sqrt(var + 1e-6)`` with unbiased variance.

    Args:
        beats: float ``(..., beat_length)``.
        eps: Added to the variance.

    Returns:
        float32 of the same shape.
    """
    variance, mean = torch.var_mean(beats.float(), dim=-1, keepdim=True)
    return (beats.float() - mean) / (variance + eps).sqrt()


def _stack(
    config: ClearHugConfig, layers: int, width: int, heads: int, inner: int, kernel: AttentionKernel
) -> TransformerStack:
    """Post-norm blocks with ReLU."""
    # Not at the top: the module loads the Auto classes, and they load this one.
    from ecg_hf.models.layers import EcgTransformerBlock

    def make_block() -> TransformerBlock:
        block = EcgTransformerBlock(
            width,
            heads,
            inner,
            kernel=kernel,
            dropout=float(config.hidden_dropout_prob),
            attention_dropout=float(config.attention_probs_dropout_prob),
            norm_eps=config.layer_norm_eps,
            norm_first=False,
        )
        block.mlp[1] = nn.ReLU()
        return block

    return TransformerStack(layers, make_block)


class ClearHugEncoder(nn.Module):
    """One token per lead and the visible beats, through post-norm blocks and a final norm."""

    def __init__(self, config: ClearHugConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = BeatEmbedding(
            config.beat_length,
            config.hidden_size,
            config.token_kernel_size,
            num_lead_ids=config.num_lead_ids,
            num_time_ids=config.num_time_ids,
        )
        self.lead_tokens = nn.Parameter(torch.zeros(config.num_leads, config.hidden_size))
        self.positions = nn.Parameter(
            torch.zeros(1, config.num_leads + config.num_tokens, config.hidden_size)
        )
        self.layers = _stack(
            config,
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            attention_kernel(config),
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        beats: Tensor,
        time_ids: Tensor,
        keys: Tensor | None = None,
        visible: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> Tensor:
        """Encode.

        Args:
            beats: float ``(batch, leads * beats_per_lead, beat_length)``, lead-major, standardised.
            time_ids: int64 ``(batch, leads * beats_per_lead)``.
            keys: bool ``(batch, leads + leads * beats_per_lead)``, False for lead and beat tokens that are not
                attended to; None if all are.
            visible: int64 ``(1 or batch, k)``: only these beats are encoded, in this order; all if not given.
            need_weights: Use a kernel that returns attention weights.

        Returns:
            ``(batch, leads + k, hidden_size)``: lead tokens, then beats.
        """
        config = self.config
        leads = config.num_leads
        token_leads = torch.arange(config.num_tokens, device=beats.device) // config.beats_per_lead
        tokens = self.embedding(beats, token_leads + 1, time_ids) + self.positions[:, leads:]
        token_leads = token_leads.unsqueeze(0)
        if visible is not None:
            token_leads = token_leads.expand(visible.shape[0], -1).gather(1, visible)
            every = visible.expand(beats.shape[0], -1)
            tokens = gather_tokens(tokens, every)
            keys = None if keys is None else torch.cat([keys[:, :leads], keys[:, leads:].gather(1, every)], 1)
        front = (self.lead_tokens + self.positions[:, :leads]).expand(beats.shape[0], -1, -1)
        tokens = torch.cat([front, tokens], dim=1)
        mask = None
        if config.encoder_attention == "view":
            mask = view_encoder_mask(token_leads, leads)
        elif config.encoder_attention == "official_bias":
            mask = official_encoder_bias(token_leads, leads).to(tokens.dtype)
        encoded: Tensor = self.norm(self.layers(tokens, restrict_keys(mask, keys), need_weights=need_weights))
        return encoded


class ClearHugDecoder(nn.Module):
    """Rebuilds each masked beat from the same beat in the other leads and from the token of its lead."""

    def __init__(self, config: ClearHugConfig) -> None:
        super().__init__()
        self.config = config
        width = config.decoder_hidden_size
        self.embedding = nn.Linear(config.hidden_size, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, config.num_leads + config.num_tokens, width))
        self.layers = _stack(
            config,
            config.decoder_num_layers,
            width,
            config.decoder_num_attention_heads,
            config.decoder_intermediate_size,
            attention_kernel(config),
        )
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.head = nn.Linear(width, config.beat_length)

    def forward(self, encoded: Tensor, visible: Tensor, masked: Tensor, keys: Tensor | None = None) -> Tensor:
        """Rebuild.

        Args:
            encoded: float ``(batch, leads + visible, hidden_size)`` from the encoder.
            visible: int64 ``(1 or batch, visible)``: which beats those are.
            masked: int64 ``(1 or batch, masked)``: the others.
            keys: As in the encoder.

        Returns:
            Predicted beats ``(batch, masked, beat_length)``.
        """
        leads = self.config.num_leads
        embedded = self.embedding(encoded)
        batch, _, width = embedded.shape
        every = visible.expand(batch, -1)
        beats = self.mask_token.to(embedded.dtype).expand(batch, self.config.num_tokens, -1)
        beats = beats.scatter(1, every.unsqueeze(-1).expand(-1, -1, width), embedded[:, leads:])
        tokens = torch.cat([embedded[:, :leads], beats], dim=1) + self.positions
        hidden = torch.ones(len(visible), self.config.num_tokens, dtype=torch.bool, device=visible.device)
        mask = conduction_decoder_mask(hidden.scatter(1, visible, False), leads)
        tokens = self.layers(tokens, restrict_keys(mask, keys))
        prediction: Tensor = self.head(self.norm(gather_tokens(tokens, masked.expand(batch, -1) + leads)))
        return prediction
