"""The networks of ECG-JEPA (Weimann): the encoder over patches of all leads, and the predictor of hidden ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.modeling import attention_kernel
from ecg_hf.models.weimann_jepa.configuration_weimann_jepa import WeimannJepaConfig
from ecg_hf.nn.backbones.transformer import TransformerStack
from ecg_hf.nn.masks.time import TimeMask
from ecg_hf.nn.positions import interleaved_sincos_positions
from ecg_hf.nn.precision import match_weights
from ecg_hf.nn.tokenizers import gather_tokens

__all__ = ["WeimannJepaEncoder", "WeimannJepaPredictor"]


def _stack(config: WeimannJepaConfig, part: str) -> TransformerStack:
    """Blocks of the encoder (``part`` is empty) or of the predictor."""
    # Not at the top: the module loads the Auto classes, and they load this one.
    from ecg_hf.models.layers import EcgTransformerBlock

    kernel = attention_kernel(config)
    return TransformerStack(
        config.predictor_num_layers if part else config.num_hidden_layers,
        lambda: EcgTransformerBlock(
            getattr(config, f"{part}hidden_size"),
            getattr(config, f"{part}num_attention_heads"),
            getattr(config, f"{part}intermediate_size"),
            kernel=kernel,
            dropout=float(config.hidden_dropout),
            attention_dropout=float(config.attention_dropout),
            norm_eps=config.layer_norm_eps,
            bias=config.bias,
            qkv_bias=config.qkv_bias,
        ),
    )


def _keys(token_mask: Tensor | None) -> Tensor | None:
    """What is attended to, ``(batch, 1, 1, tokens)``; everything in a row of which nothing holds signal."""
    if token_mask is None:
        return None
    return (token_mask | ~token_mask.any(1, keepdim=True))[:, None, None, :]


class WeimannJepaEncoder(nn.Module):
    """Patches that span all leads as tokens, fixed positions, registers in front, pre-norm transformer.

    Positions are a buffer that follows from the configuration and is not saved. The same class is used for student
    and teacher.

    Official code: ``VisionTransformer`` in ``models/vision_transformer.py``.
    """

    positions: Tensor
    registers: nn.Parameter | None

    def __init__(self, config: WeimannJepaConfig) -> None:
        super().__init__()
        self.config = config
        width, size = config.hidden_size, config.patch_size
        self.patch_projection = nn.Conv1d(config.num_leads, width, size, stride=size, bias=config.bias)
        self.registers = None
        if config.num_registers:
            self.registers = nn.Parameter(torch.zeros(1, config.num_registers, width))
        self.layers = _stack(config, "")
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps, bias=config.bias)
        self.register_buffer("positions", self.position_table(), persistent=False)

    def position_table(self) -> Tensor:
        """Positions in time, ``(patches, hidden_size)``."""
        return interleaved_sincos_positions(self.config.num_patches, self.config.hidden_size)

    def forward(
        self,
        input_values: Tensor,
        token_mask: Tensor | None = None,
        visible: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> Tensor:
        """Encode.

        Args:
            input_values: float ``(batch, leads, samples)``.
            token_mask: bool ``(batch, patches)``: False tokens (padding) are not attended to.
            visible: int64 ``(batch, k)`` ascending: only these patches are encoded.
            need_weights: Use a kernel that returns attention weights.

        Returns:
            Normed tokens without the registers, ``(batch, k or patches, hidden_size)``.

        Raises:
            ConfigurationError: if the signal is longer than the table of positions or not whole patches.
        """
        samples, config = input_values.shape[-1], self.config
        if samples % config.patch_size or not 0 < samples <= config.num_samples:
            raise ConfigurationError(
                f"{samples} samples are not a multiple of {config.patch_size} up to {config.num_samples}",
                value=samples,
            )
        tokens = self.patch_projection(match_weights(input_values, self)).transpose(1, 2)
        tokens = tokens + self.positions[: tokens.shape[1]].to(tokens.dtype)
        if visible is not None:
            tokens = gather_tokens(tokens, visible)
            token_mask = None if token_mask is None else token_mask.gather(1, visible)
        if self.registers is not None:
            tokens = torch.cat(
                [self.registers.to(tokens.dtype).expand(tokens.shape[0], -1, -1), tokens], dim=1
            )
            if token_mask is not None:
                token_mask = nn.functional.pad(token_mask, (config.num_registers, 0), value=True)
        encoded: Tensor = self.norm(self.layers(tokens, _keys(token_mask), need_weights=need_weights))
        return encoded[:, config.num_registers :]


class WeimannJepaPredictor(nn.Module):
    """Predicts the teacher's tokens of hidden patches from the student's tokens of the visible ones.

    Official code: ``Predictor`` in ``models/predictor.py``.
    """

    positions: Tensor

    def __init__(self, config: WeimannJepaConfig) -> None:
        super().__init__()
        self.config = config
        width = config.predictor_hidden_size
        self.embedding = nn.Linear(config.hidden_size, width, bias=config.bias)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.layers = _stack(config, "predictor_")
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps, bias=config.bias)
        self.projection = nn.Linear(width, config.hidden_size, bias=config.bias)
        self.register_buffer("positions", self.position_table(), persistent=False)

    def position_table(self) -> Tensor:
        """Positions in time, ``(patches, predictor_hidden_size)``."""
        return interleaved_sincos_positions(self.config.num_patches, self.config.predictor_hidden_size)

    def forward(self, context: Tensor, times: TimeMask, token_mask: Tensor | None = None) -> Tensor:
        """Predict.

        Args:
            context: float ``(batch, visible, hidden_size)`` from the student.
            times: Which patches are visible and which are to be predicted.
            token_mask: bool ``(batch, patches)``; False tokens are not attended to.

        Returns:
            ``(batch, masked, hidden_size)``.
        """
        embedded = self.embedding(context)
        positions = self.positions.to(embedded.dtype)
        tokens = torch.cat(
            [
                embedded + positions[times.visible],
                self.mask_token.to(embedded.dtype) + positions[times.masked],
            ],
            dim=1,
        )
        if token_mask is not None:
            token_mask = token_mask.gather(1, torch.cat([times.visible, times.masked], dim=1))
        tokens = self.layers(tokens, _keys(token_mask))
        predicted: Tensor = self.projection(self.norm(tokens[:, -times.masked.shape[1] :]))
        return predicted
