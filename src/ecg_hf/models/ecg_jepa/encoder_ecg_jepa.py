"""The networks of ECG-JEPA: the encoder over a grid of leads and times, and the predictor within each lead."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.ecg_jepa.configuration_ecg_jepa import EcgJepaConfig
from ecg_hf.models.modeling import attention_kernel
from ecg_hf.nn.attention import AttentionKernel
from ecg_hf.nn.backbones.transformer import TransformerStack, drop_path_rates
from ecg_hf.nn.cropa import (
    cropa_kernel,
    cropa_mask,
    factorised_cropa_mask,
    factorised_is_faster,
    masked_cropa_mask,
    restrict_cropa,
)
from ecg_hf.nn.masks.time import TimeMask
from ecg_hf.nn.positions import grid_sincos_positions
from ecg_hf.nn.precision import match_weights
from ecg_hf.nn.tokenizers import patchify

__all__ = ["EcgJepaEncoder", "EcgJepaPredictor", "pick_times"]


def pick_times(grid: Tensor, times: Tensor) -> Tensor:
    """Some moments of every lead.

    Args:
        grid: ``(batch, leads, times, ...)``.
        times: int64 ``(batch, k)``.

    Returns:
        ``(batch, leads, k, ...)``.
    """
    index = times.reshape(len(times), 1, -1, *([1] * (grid.ndim - 3)))
    return grid.gather(2, index.expand(-1, grid.shape[1], -1, *grid.shape[3:]))


def _stack(config: EcgJepaConfig, part: str, kernel: AttentionKernel) -> TransformerStack:
    """Blocks of the encoder (``part`` is empty) or of the predictor; queries, keys and values have no bias."""
    # Not at the top: the module loads the Auto classes, and they load this one.
    from ecg_hf.models.layers import EcgTransformerBlock

    depth = config.predictor_num_layers if part else config.num_hidden_layers
    rates = iter(drop_path_rates(float(config.drop_path_rate), depth))
    return TransformerStack(
        depth,
        lambda: EcgTransformerBlock(
            getattr(config, f"{part}hidden_size"),
            getattr(config, f"{part}num_attention_heads"),
            getattr(config, f"{part}intermediate_size"),
            kernel=kernel,
            norm_eps=config.layer_norm_eps,
            qkv_bias=False,
            drop_path=next(rates),
        ),
    )


class EcgJepaEncoder(nn.Module):
    """Patches of each lead as tokens, fixed positions before every block, attention by lead and by time (CroPA).

    Positions and mask are buffers that follow from the configuration and are not saved. The same class is used for
    student and teacher.

    Official code: ``MaskTransformer`` in ``ecg_jepa.py``.
    """

    positions: Tensor
    cropa: Tensor

    def __init__(self, config: EcgJepaConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_projection = nn.Linear(config.patch_size, config.hidden_size)
        self.layers = _stack(config, "", cropa_kernel(attention_kernel(config)))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.register_buffer("positions", self.position_table(), persistent=False)
        self.register_buffer("cropa", cropa_mask(config.num_leads, config.num_patches), persistent=False)

    def position_table(self) -> Tensor:
        """Positions of the leads in use, ``(leads, patches, hidden_size)``."""
        config = self.config
        return grid_sincos_positions(config.lead_rows, config.num_patches, config.hidden_size)

    def forward(
        self,
        input_values: Tensor,
        token_mask: Tensor | None = None,
        visible_times: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> Tensor:
        """Encode.

        Args:
            input_values: float ``(batch, leads, samples)``.
            token_mask: bool ``(batch, leads * patches)``: False tokens (missing lead, padding) are not attended to.
            visible_times: int64 ``(batch, k)`` ascending: only these patches of each lead are encoded. With
                ``mask_per="batch"`` the positions of the first row are used for all.
            need_weights: Use a kernel that returns attention weights.

        Returns:
            Normed tokens, lead by lead, ``(batch, leads * (k or patches), hidden_size)``.

        Raises:
            ConfigurationError: if the signal is longer than the position table or not whole patches.
        """
        config = self.config
        samples = input_values.shape[-1]
        if samples % config.patch_size or not 0 < samples <= config.num_samples:
            raise ConfigurationError(
                f"{samples} samples are not a multiple of {config.patch_size} up to {config.num_samples}",
                value=samples,
            )
        patches = patchify(match_weights(input_values, self), config.patch_size)
        if visible_times is None:
            positions = self.positions[None, :, : patches.shape[2]]
        else:
            patches = pick_times(patches, visible_times)
            if token_mask is not None:
                token_mask = token_mask.unflatten(1, (config.num_leads, -1))
                token_mask = pick_times(token_mask, visible_times).flatten(1)
            rows = visible_times[:1] if config.mask_per == "batch" else visible_times
            positions = pick_times(self.positions[None].expand(rows.shape[0], -1, -1, -1), rows)
        tokens = self.patch_projection(patches.flatten(1, 2))
        mask = self._attention_mask(patches.shape[2], token_mask, tokens.device, need_weights)
        positions = positions.flatten(1, 2).to(self.norm.weight.dtype)
        tokens = self.layers(tokens, mask, positions, need_weights)
        normed: Tensor = self.norm(tokens)
        return normed

    def _attention_mask(
        self, times: int, token_mask: Tensor | None, device: torch.device, need_weights: bool
    ) -> Tensor:
        """CroPA among ``times`` patches of each lead, in the form that suits the device."""
        config = self.config
        factorised = config.attention_layout == "factorised"
        if config.attention_layout == "auto":
            factorised = factorised_is_faster(config.num_leads, times, device)
        if factorised and not need_weights and config._attn_implementation != "eager":
            return factorised_cropa_mask(config.num_leads, times, token_mask, device)
        return masked_cropa_mask(restrict_cropa(self.cropa, config.num_leads, times), token_mask)


class EcgJepaPredictor(nn.Module):
    """Predicts the teacher's tokens of hidden patches from the visible tokens of the same lead.

    Every lead is processed separately with full attention, without CroPA.

    Official code: ``MaskTransformerPredictor`` in ``ecg_jepa.py``.
    """

    positions: Tensor

    def __init__(self, config: EcgJepaConfig) -> None:
        super().__init__()
        self.config = config
        width = config.predictor_hidden_size
        self.embedding = nn.Linear(config.hidden_size, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.layers = _stack(config, "predictor_", attention_kernel(config))
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.projection = nn.Linear(width, config.hidden_size)
        self.register_buffer("positions", self.position_table(), persistent=False)

    def position_table(self) -> Tensor:
        """Positions in time, ``(1, patches, predictor_hidden_size)``; the half that encodes the lead is constant."""
        return grid_sincos_positions([0], self.config.num_patches, self.config.predictor_hidden_size)

    def forward(self, context: Tensor, times: TimeMask, token_mask: Tensor | None = None) -> Tensor:
        """Predict.

        Args:
            context: float ``(batch, leads * visible, hidden_size)`` from the encoder.
            times: Which patches are visible and which are to be predicted.
            token_mask: bool ``(batch, leads * patches)``; False tokens are not attended to.

        Returns:
            All tokens, lead by lead and in each lead first the visible, then the predicted ones:
            ``(batch, leads * (visible + masked), hidden_size)``.
        """
        batch, leads = len(context), self.config.num_leads
        embedded = self.embedding(context).unflatten(1, (leads, -1)).flatten(0, 1)
        hidden = self.mask_token.to(embedded.dtype).expand(len(embedded), times.masked.shape[1], -1)
        tokens = torch.cat([embedded, hidden], dim=1)
        order = torch.cat([times.visible, times.masked], dim=1)
        mask = None
        if token_mask is not None:
            present = pick_times(token_mask.unflatten(1, (leads, -1)), order).flatten(0, 1)
            itself = torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
            mask = (present[:, None, :] | itself)[:, None]
        rows = order[:1] if self.config.mask_per == "batch" else order
        positions = pick_times(self.positions[None].expand(rows.shape[0], -1, -1, -1), rows)
        if len(rows) > 1:
            positions = positions.expand(-1, leads, -1, -1)
        tokens = self.layers(tokens, mask, positions.flatten(0, 1).to(self.norm.weight.dtype))
        predicted: Tensor = self.projection(self.norm(tokens)).unflatten(0, (batch, leads)).flatten(1, 2)
        return predicted
