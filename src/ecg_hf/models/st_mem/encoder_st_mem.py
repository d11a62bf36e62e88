"""ST-MEM's encoder of the patches of all leads, and its decoder, which sees one lead at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg_hf.models.modeling import attention_kernel
from ecg_hf.models.st_mem.configuration_st_mem import StMemConfig
from ecg_hf.nn.backbones.transformer import TransformerStack
from ecg_hf.nn.heads import masked_mean
from ecg_hf.nn.masks.patches import PatchMask
from ecg_hf.nn.positions import sincos_positions
from ecg_hf.nn.precision import full_precision, match_weights
from ecg_hf.nn.tokenizers import gather_tokens, patchify

__all__ = ["FencedPositions", "StMemDecoder", "StMemEncoder", "fenced_mask"]


def fenced_mask(token_mask: Tensor | None, num_leads: int) -> Tensor | None:
    """Which tokens hold signal once each lead has a SEP token at either end.

    Args:
        token_mask: bool ``(batch, leads * patches)``, lead-major; None if all do.
        num_leads: Number of leads.

    Returns:
        bool ``(batch, leads * (patches + 2))`` or None. Both SEP tokens of a lead count if any of its patches does.
    """
    if token_mask is None:
        return None
    by_lead = token_mask.unflatten(1, (num_leads, -1))
    there = by_lead.any(-1, keepdim=True)
    return torch.cat([there, by_lead, there], dim=-1).flatten(1)


class FencedPositions(nn.Module):
    """A table of times with a row for the SEP token at either end of a lead.

    The times start as sines and cosines, the rows of SEP as zeros; pretraining keeps them fixed, fine-tuning trains
    those of the encoder, as in the official code.
    """

    def __init__(self, num_patches: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(num_patches + 2, width))

    def initial_table(self) -> Tensor:
        """What the table starts as."""
        length, width = self.table.shape
        return F.pad(sincos_positions(length - 2, width), (0, 0, 1, 1))

    def forward(self, num_patches: int) -> Tensor:
        """Rows of a lead of ``num_patches`` patches and its SEP tokens: ``(num_patches + 2, width)``."""
        return torch.cat([self.table[: num_patches + 1], self.table[-1:]])


class StMemEncoder(nn.Module):
    """Tokens of patches (norm - linear - norm), fenced lead by lead by SEP tokens, through a pre-norm transformer."""

    def __init__(self, config: StMemConfig) -> None:
        super().__init__()
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgTransformerBlock

        self.patch_size, self.num_leads = config.patch_size, config.num_leads
        width, eps = config.hidden_size, config.layer_norm_eps
        self.patch_norm = nn.LayerNorm(config.patch_size, eps=eps)
        self.patch_projection = nn.Linear(config.patch_size, width)
        self.token_norm = nn.LayerNorm(width, eps=eps)
        self.positions = FencedPositions(config.num_patches, width)
        self.sep_token = nn.Parameter(torch.zeros(width))
        self.lead_embedding = nn.Parameter(torch.zeros(config.num_leads, width))
        kernel = attention_kernel(config)
        self.layers = TransformerStack(
            config.num_hidden_layers,
            lambda: EcgTransformerBlock(
                width,
                config.num_attention_heads,
                config.intermediate_size,
                kernel=kernel,
                norm_eps=eps,
                head_size=config.head_size,
            ),
        )
        self.norm = nn.LayerNorm(width, eps=eps)

    def embed(self, input_values: Tensor) -> Tensor:
        """Tokens of patches without positions: ``(batch, leads, samples)`` to ``(batch, leads, patches, width)``."""
        patches = patchify(match_weights(input_values, self), self.patch_size)
        tokens: Tensor = self.token_norm(self.patch_projection(self.patch_norm(patches)))
        return tokens

    def forward(
        self,
        input_values: Tensor,
        token_mask: Tensor | None = None,
        visible: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            input_values: float ``(batch, leads, samples)``.
            token_mask: bool ``(batch, leads * patches)``; False tokens are not attended to.
            visible: int64 ``(batch, leads * k)``: only these patches, as many of each lead; all if not given.
            need_weights: Use a kernel that returns attention weights.

        Returns:
            Normed tokens, each lead between its SEP tokens, ``(batch, leads * (k + 2), hidden_size)``; and float32
            ``(batch, hidden_size)``, the norm of the mean of the patches' tokens before their norm.
        """
        leads = self.num_leads
        tokens = self.embed(input_values)
        positions = self.positions(tokens.shape[2])
        tokens = (tokens + positions[1:-1]).flatten(1, 2)
        if visible is not None:
            tokens = gather_tokens(tokens, visible)
            token_mask = None if token_mask is None else token_mask.gather(1, visible)
        fences = (self.sep_token + positions[[0, -1]]).expand(tokens.shape[0], leads, -1, -1)
        tokens = tokens.unflatten(1, (leads, -1))
        tokens = torch.cat([fences[:, :, :1], tokens, fences[:, :, 1:]], dim=2)
        tokens = (tokens + self.lead_embedding[:, None, :]).flatten(1, 2)
        mask = fenced_mask(token_mask, leads)
        keys = None if mask is None else mask[:, None, None, :]
        hidden_states = self.layers(tokens, keys, need_weights=need_weights)
        patches = hidden_states.unflatten(1, (leads, -1))[:, :, 1:-1].flatten(1, 2)
        mean = masked_mean(full_precision(patches), token_mask)
        return self.norm(hidden_states), full_precision(self.norm(match_weights(mean, self.norm)))


class StMemDecoder(nn.Module):
    """Predicts hidden patches from the visible ones of their own lead; its weights are shared by all leads."""

    def __init__(self, config: StMemConfig) -> None:
        super().__init__()
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgTransformerBlock

        self.num_leads = config.num_leads
        width = config.decoder_hidden_size
        self.embedding = nn.Linear(config.hidden_size, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = FencedPositions(config.num_patches, width)
        kernel = attention_kernel(config)
        self.layers = TransformerStack(
            config.decoder_num_layers,
            lambda: EcgTransformerBlock(
                width,
                config.decoder_num_attention_heads,
                config.decoder_intermediate_size,
                kernel=kernel,
                norm_eps=config.layer_norm_eps,
                head_size=config.decoder_head_size,
            ),
        )
        self.norm = nn.LayerNorm(width, eps=config.decoder_norm_eps)
        self.head = nn.Linear(width, config.patch_size)

    def forward(self, encoded: Tensor, mask: PatchMask, token_mask: Tensor | None = None) -> Tensor:
        """Reconstruct.

        Args:
            encoded: float ``(batch, leads * (k + 2), hidden_size)`` from the encoder.
            mask: Indices of visible and hidden patches, as many of each lead.
            token_mask: bool ``(batch, leads * patches)``; False tokens are not attended to.

        Returns:
            Predicted samples of the hidden patches, ``(batch, hidden, patch_size)``.
        """
        leads, hidden = self.num_leads, mask.masked.shape[1]
        embedded = self.embedding(encoded).unflatten(1, (leads, -1))
        batch, _, _, width = embedded.shape
        total = mask.visible.shape[1] + hidden
        tokens = self.mask_token.to(embedded.dtype).expand(batch, total, -1)
        index = mask.visible.unsqueeze(-1).expand(-1, -1, width)
        tokens = tokens.scatter(1, index, embedded[:, :, 1:-1].flatten(1, 2)).unflatten(1, (leads, -1))
        tokens = torch.cat([embedded[:, :, :1], tokens, embedded[:, :, -1:]], dim=2).flatten(0, 1)
        keys = None
        if token_mask is not None:
            # SEP tokens always: a lead without signal must attend to something.
            by_lead = token_mask.unflatten(1, (leads, -1)).flatten(0, 1)
            keys = F.pad(by_lead, (1, 1), value=True)[:, None, None, :]
        positions = self.positions(total // leads)
        tokens = self.layers(tokens + positions.to(tokens.dtype), keys)
        tokens = tokens[:, 1:-1].reshape(batch, total, width)
        prediction: Tensor = self.head(self.norm(gather_tokens(tokens, mask.masked)))
        return prediction
