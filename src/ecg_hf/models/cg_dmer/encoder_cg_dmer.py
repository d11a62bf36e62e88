"""The ECG side of CG-DMER: tokens of patches, visible-only encoder, decoder for masked patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.cg_dmer.configuration_cg_dmer import CgDmerConfig
from ecg_hf.models.modeling import attention_kernel
from ecg_hf.nn.backbones.transformer import TransformerStack
from ecg_hf.nn.heads import masked_mean, pooled_statistics
from ecg_hf.nn.masks.patches import PatchMask
from ecg_hf.nn.precision import match_weights
from ecg_hf.nn.tokenizers import ConvPatchTokenizer, gather_tokens, patchify

__all__ = ["CgDmerEcgDecoder", "CgDmerEcgEncoder", "LeadTimePositions", "token_patches"]


def token_patches(patches: Tensor, token_leads: str) -> Tensor:
    """The samples each token holds.

    Args:
        patches: ``(batch, leads, patches, patch_size)``.
        token_leads: ``CgDmerConfig.token_leads``.

    Returns:
        ``(batch, leads * patches, patch_size)``, lead-major, for ``one``; ``(batch, patches, leads * patch_size)``
        for ``all``.
    """
    return patches.flatten(1, 2) if token_leads == "one" else patches.transpose(1, 2).flatten(2)


class LeadTimePositions(nn.Module):
    """A temporal table shared by the leads plus a spatial vector per lead (Eq. 1), or one for tokens of all leads.

    The temporal table starts as sine-cosine or normal noise; ``CgDmerPreTrainedModel._init_weights`` fills both.
    """

    def __init__(self, num_leads: int, num_patches: int, hidden_size: int) -> None:
        super().__init__()
        self.temporal = nn.Parameter(torch.zeros(num_patches, hidden_size))
        self.spatial = nn.Parameter(torch.zeros(num_leads, hidden_size))

    def forward(self, num_patches: int) -> Tensor:
        """Positions of ``leads * num_patches`` tokens (lead-major), ``(1, tokens, hidden_size)``."""
        table = self.spatial[:, None, :] + self.temporal[None, :num_patches, :]
        return table.flatten(0, 1).unsqueeze(0)


class CgDmerEcgEncoder(nn.Module):
    """Tokenises patches of each lead and runs the transformer on the visible ones."""

    def __init__(self, config: CgDmerConfig) -> None:
        super().__init__()
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgTransformerBlock

        self.config = config
        self.tokenizer = ConvPatchTokenizer(
            config.patch_size,
            config.hidden_size,
            channels=config.tokenizer_channels,
            kernel_sizes=config.tokenizer_kernel_sizes,
            strides=config.tokenizer_strides,
            groups=config.tokenizer_groups,
            norm_first=config.tokenizer_norm_first,
            num_leads=config.leads_per_token,
        )
        self.positions = LeadTimePositions(config.token_rows, config.num_patches, config.hidden_size)
        kernel = attention_kernel(config)
        self.dropout = nn.Dropout(float(config.hidden_dropout_prob))
        self.layers = TransformerStack(
            config.num_hidden_layers,
            lambda: EcgTransformerBlock(
                config.hidden_size,
                config.num_attention_heads,
                config.intermediate_size,
                kernel=kernel,
                dropout=float(config.hidden_dropout_prob),
                attention_dropout=float(config.attention_probs_dropout_prob),
                norm_eps=config.layer_norm_eps,
                norm_first=config.norm_first,
            ),
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

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
            token_mask: bool ``(batch, tokens)``: False tokens (missing lead, padding) are ignored.
            visible: int64 ``(batch, k)``: only these tokens are tokenised and encoded; all if not given.
            need_weights: Use a kernel that returns attention weights.

        Returns:
            Normed tokens ``(batch, k or tokens, hidden_size)`` and pooled ``(batch, pooled_size)``.

        Raises:
            ConfigurationError: if the signal is longer than the temporal table or not whole patches.
        """
        config = self.config
        samples = input_values.shape[-1]
        if samples % config.patch_size or samples > config.num_samples:
            raise ConfigurationError(
                f"{samples} samples are not a multiple of {config.patch_size} up to {config.num_samples}",
                value=samples,
            )
        patches = patchify(match_weights(input_values, self.tokenizer), config.patch_size)
        patches = token_patches(patches, config.token_leads)
        positions = self.positions(samples // config.patch_size)
        if visible is not None:
            patches = gather_tokens(patches, visible)
            positions = gather_tokens(positions.expand(len(patches), -1, -1), visible)
            token_mask = None if token_mask is None else token_mask.gather(1, visible)
        hidden_states = self.dropout(self.tokenizer(patches) + positions)
        attention_mask = None if token_mask is None else token_mask[:, None, None, :]
        hidden_states = self.layers(hidden_states, attention_mask, need_weights=need_weights)
        normed = self.norm(hidden_states)
        if config.ecg_pooling == "statistics":
            return normed, pooled_statistics(normed, token_mask)
        if config.ecg_pooling == "mean_of_norm":
            return normed, masked_mean(normed, token_mask)
        return normed, self.norm(masked_mean(hidden_states, token_mask))


class CgDmerEcgDecoder(nn.Module):
    """Predicts masked patches from the visible tokens and a shared mask embedding."""

    def __init__(self, config: CgDmerConfig) -> None:
        super().__init__()
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgTransformerBlock

        self.config = config
        width = config.decoder_hidden_size
        self.embedding = nn.Linear(config.hidden_size, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = LeadTimePositions(config.token_rows, config.num_patches, width)
        if config.decode_disentangled:
            self.condition = nn.Linear(config.projection_dim, width)
        kernel = attention_kernel(config)
        self.layers = TransformerStack(
            config.decoder_num_layers,
            lambda: EcgTransformerBlock(
                width,
                config.decoder_num_attention_heads,
                config.decoder_intermediate_size,
                kernel=kernel,
                norm_eps=config.layer_norm_eps,
                norm_first=config.norm_first,
            ),
        )
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.head = nn.Linear(width, config.leads_per_token * config.patch_size)

    def forward(
        self,
        visible_tokens: Tensor,
        mask: PatchMask,
        token_mask: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Reconstruct.

        Args:
            visible_tokens: float ``(batch, visible, hidden_size)`` from the encoder.
            mask: Indices of visible and masked tokens.
            token_mask: bool ``(batch, tokens)``; False tokens are not attended to.
            condition: float ``(batch, projection_dim)``, only with ``decode_disentangled``.

        Returns:
            Predicted samples of the masked tokens, ``(batch, masked, samples of a token)``.
        """
        leads = self.config.token_rows
        embedded = self.embedding(visible_tokens)
        batch, _, width = embedded.shape
        total = mask.visible.shape[1] + mask.masked.shape[1]
        tokens = self.mask_token.to(embedded.dtype).expand(batch, total, -1)
        tokens = tokens.scatter(1, mask.visible.unsqueeze(-1).expand(-1, -1, width), embedded)
        tokens = tokens + self.positions(total // leads)
        if condition is not None:
            tokens = tokens + self.condition(condition).unsqueeze(1)
        if self.config.decoder_per_lead:
            tokens = tokens.unflatten(1, (leads, -1)).flatten(0, 1)
            token_mask = None if token_mask is None else token_mask.unflatten(1, (leads, -1)).flatten(0, 1)
            # A missing lead must attend to something, or the softmax gives NaN; its patches never count.
            token_mask = None if token_mask is None else token_mask | ~token_mask.any(1, keepdim=True)
        attention_mask = None if token_mask is None else token_mask[:, None, None, :]
        tokens = self.layers(tokens, attention_mask).reshape(batch, total, width)
        prediction: Tensor = self.head(self.norm(gather_tokens(tokens, mask.masked)))
        return prediction
