"""Backbones of the joint-embedding family. A token is a stretch of time of all leads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg_hf.models.joint_embedding.configuration import (
    BackboneConfig,
    CnnFields,
    MerlVitFields,
    ResNet1dFields,
    VitFields,
    Xresnet1dFields,
)
from ecg_hf.models.modeling import attention_kernel
from ecg_hf.nn.backbones.resnet1d import ResNet1d, deep_stem
from ecg_hf.nn.backbones.transformer import TransformerStack
from ecg_hf.nn.heads import masked_mean
from ecg_hf.nn.positions import sincos_positions
from ecg_hf.nn.precision import full_precision, match_weights

__all__ = ["Backbone", "LearnedTimePositions", "TimePositions", "build_backbone", "holds_signal"]


class Backbone(nn.Module):
    """What the family needs of a backbone.

    Attributes:
        embedding: The layer that reads the signal.
        layers: First to last; each can be checkpointed.
    """

    embedding: nn.Module
    layers: nn.ModuleList

    def forward(self, signal: Tensor, sample_mask: Tensor | None, *, need_weights: bool = False) -> Tensor:
        """Tokens of a signal.

        Args:
            signal: float ``(batch, leads, samples)``, zeros in missing leads and padding.
            sample_mask: bool ``(batch, samples)``, False for padding; None without padding.
            need_weights: Use an attention kernel that returns its weights.

        Returns:
            float ``(batch, tokens, hidden_size)``.
        """
        raise NotImplementedError

    def output_mask(self, sample_mask: Tensor) -> Tensor:
        """Which tokens hold signal: bool ``(batch, samples)`` to bool ``(batch, tokens)``."""
        raise NotImplementedError

    def lead_tokens(self, signal: Tensor) -> Tensor:
        """Tokens of each lead by itself, of ``leadwise`` networks: ``(batch, leads, tokens, hidden_size)``."""
        raise NotImplementedError

    def pool(self, tokens: Tensor, token_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is returned of the tokens, and the record's embedding: the mean of those that hold signal.

        Args:
            tokens: As :meth:`forward` gives them.
            token_mask: bool ``(batch, tokens)``; None if all hold signal.

        Returns:
            The tokens, and float32 ``(batch, hidden_size)``.
        """
        return tokens, masked_mean(full_precision(tokens), token_mask)


class _ConvolutionalBackbone(Backbone):
    def __init__(self, fields: ResNet1dFields, config: BackboneConfig) -> None:
        super().__init__()
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgResidualBlock1d

        strides = [1] + [2] * (len(fields.channels) - 1)
        samples = float(fields.token_s) * float(config.sampling_rate) / 2 ** (len(strides) - 1)
        stride = max(1, round(samples))
        width, half = fields.channels[0], max(1, fields.channels[0] // 2)
        self.network = ResNet1d(
            config.num_leads,
            stem_channels=width,
            stem_kernel_size=fields.stem_kernel_size,
            stem_stride=stride,
            channels=fields.channels,
            depths=fields.depths,
            strides=strides,
            kernel_size=fields.kernel_size,
            make_block=partial(EcgResidualBlock1d, pool_shortcut=fields.deep_stem),
            stem=deep_stem(config.num_leads, (half, half, width), fields.stem_kernel_size, stride)
            if fields.deep_stem
            else None,
            expansion=fields.expansion,
        )

    @property
    def embedding(self) -> nn.Module:  # type: ignore[override]
        return self.network.stem

    @property
    def layers(self) -> nn.ModuleList:  # type: ignore[override]
        return self.network.blocks

    def forward(self, signal: Tensor, sample_mask: Tensor | None, *, need_weights: bool = False) -> Tensor:
        features: Tensor = self.network(signal)
        return features.transpose(1, 2)

    def output_mask(self, sample_mask: Tensor) -> Tensor:
        return self.network.output_mask(sample_mask)


class TimePositions(nn.Module):
    """A fixed sine-cosine table that is not stored; ``_init_weights`` of the family fills it in."""

    table: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("table", sincos_positions(length, width), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Add the positions to ``(batch, tokens, width)``."""
        return tokens + self.table[: tokens.shape[1]].to(tokens.dtype)


class LearnedTimePositions(nn.Module):
    """A learned table; ``_init_weights`` of the family draws it."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(length, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Add the positions to ``(batch, tokens, width)``."""
        return tokens + self.table[: tokens.shape[1]]


class _TransformerBackbone(Backbone):
    def __init__(self, fields: VitFields, config: BackboneConfig) -> None:
        super().__init__()
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgTransformerBlock

        self.patch_size = max(1, round(float(fields.patch_s) * float(config.sampling_rate)))
        self.norm_of_mean = fields.as_merl
        self.embedding = nn.Conv1d(
            config.num_leads, fields.width, self.patch_size, stride=self.patch_size, bias=not fields.as_merl
        )
        positions = LearnedTimePositions if fields.as_merl else TimePositions
        self.positions = positions(-(-config.num_samples // self.patch_size), fields.width)
        kernel = attention_kernel(config)
        self.stack = TransformerStack(
            fields.depth,
            lambda: EcgTransformerBlock(
                fields.width,
                fields.num_heads,
                round(fields.mlp_ratio * fields.width),
                kernel=kernel,
                head_size=fields.head_size,
            ),
        )
        self.norm = nn.LayerNorm(fields.width)

    @property
    def layers(self) -> nn.ModuleList:  # type: ignore[override]
        return self.stack.blocks

    def forward(self, signal: Tensor, sample_mask: Tensor | None, *, need_weights: bool = False) -> Tensor:
        signal = F.pad(signal, (0, -signal.shape[-1] % self.patch_size))
        tokens = self.positions(self.embedding(signal).transpose(1, 2))
        keys = None if sample_mask is None else self.output_mask(sample_mask)[:, None, None, :]
        encoded: Tensor = self.stack(tokens, keys, need_weights=need_weights)
        return encoded if self.norm_of_mean else self.norm(encoded)

    def pool(self, tokens: Tensor, token_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        tokens, pooled = super().pool(tokens, token_mask)
        if not self.norm_of_mean:
            return tokens, pooled
        return self.norm(tokens), full_precision(self.norm(match_weights(pooled, self.norm)))

    def output_mask(self, sample_mask: Tensor) -> Tensor:
        padded = F.pad(sample_mask, (0, -sample_mask.shape[-1] % self.patch_size))
        held: Tensor = padded.unflatten(-1, (-1, self.patch_size)).any(-1)
        return held


class _CnnBackbone(Backbone):
    """What :class:`~ecg_hf.models.joint_embedding.configuration.CnnFields` describe."""

    def __init__(self, fields: CnnFields, config: BackboneConfig) -> None:
        super().__init__()
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgConvPoolBlock

        self.leadwise = fields.leadwise
        width = 1 if fields.leadwise else config.num_leads
        self.layers = nn.ModuleList()
        for number, (channels, stride) in enumerate(zip(fields.channels, fields.strides, strict=True)):
            dropout = float(fields.dropout) if fields.leadwise or number == 0 else 0.0
            self.layers.append(EcgConvPoolBlock(width, channels, fields.kernel_size, stride, dropout))
            width = channels
        self.widen = nn.Identity() if fields.width is None else nn.Linear(width, fields.width)

    @property
    def embedding(self) -> nn.Module:  # type: ignore[override]
        return self.layers[0]

    def lead_tokens(self, signal: Tensor) -> Tensor:
        features = signal.flatten(0, 1).unsqueeze(1)
        for layer in self.layers:
            features = layer(features)
        tokens: Tensor = self.widen(features.transpose(1, 2)).unflatten(0, signal.shape[:2])
        return tokens

    def forward(self, signal: Tensor, sample_mask: Tensor | None, *, need_weights: bool = False) -> Tensor:
        if self.leadwise:
            held = holds_signal(signal).to(signal.dtype)
            weights = held / held.sum(1, keepdim=True).clamp(min=1.0)
            return (self.lead_tokens(signal) * weights[:, :, None, None]).sum(1)
        for layer in self.layers:
            signal = layer(signal)
        return signal.transpose(1, 2)

    def output_mask(self, sample_mask: Tensor) -> Tensor:
        steps = sample_mask.shape[-1]
        for layer in self.layers:
            convolution = layer[0][0]  # type: ignore[index]
            padding, width = convolution.padding[0], convolution.kernel_size[0]
            steps = (steps + 2 * padding - width) // convolution.stride[0] + 1
            steps = steps // 2 + 1
        held = F.interpolate(sample_mask[:, None].float(), size=steps, mode="nearest")
        return held[:, 0] > 0.5


def holds_signal(signal: Tensor) -> Tensor:
    """Which leads are there: missing ones are zeros. ``(batch, leads, samples)`` to bool ``(batch, leads)``."""
    return (signal != 0.0).any(-1)


_NETWORKS: dict[type, Callable[[Any, BackboneConfig], Backbone]] = {
    ResNet1dFields: _ConvolutionalBackbone,
    Xresnet1dFields: _ConvolutionalBackbone,
    VitFields: _TransformerBackbone,
    MerlVitFields: _TransformerBackbone,
    CnnFields: _CnnBackbone,
}


def build_backbone(config: BackboneConfig) -> Backbone:
    """The network that ``config.backbone`` describes, for signals of the configuration's rate and leads."""
    fields = config.backbone_fields
    return _NETWORKS[type(fields)](fields, config)
