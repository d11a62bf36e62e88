"""One-dimensional convolutional networks, plain and residual, with batch norm over the batches of all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ecg_hf.nn.normalization import GlobalBatchNorm1d
from ecg_hf.nn.tokenizers import pool_tokens_mask

__all__ = ["ConvNorm1d", "ConvPoolBlock", "ResNet1d", "ResidualBlock1d", "deep_stem"]


class ConvNorm1d(nn.Sequential):
    """Convolution without bias, batch norm and, unless told otherwise, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, relu: bool = True
    ) -> None:
        convolution = nn.Conv1d(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
        )
        layers: list[nn.Module] = [convolution, GlobalBatchNorm1d(out_channels)]
        super().__init__(*layers, nn.ReLU()) if relu else super().__init__(*layers)


def deep_stem(in_channels: int, channels: Sequence[int], kernel_size: int, stride: int) -> nn.Sequential:
    """Convolutions in a row, as in xresnets: the first has the stride, half of it where max-pooling by two follows.

    Args:
        in_channels: Channels of the signal.
        channels: Channels after each convolution.
        kernel_size: Their odd width.
        stride: Of all of it; if it is even, half is that of the max-pooling at the end.

    Returns:
        Maps float ``(batch, in_channels, samples)`` to ``(batch, channels[-1], ceil(samples / stride))``.
    """
    pooled = stride % 2 == 0
    layers: list[nn.Module] = []
    for index, width in enumerate(channels):
        first = stride // 2 if pooled else stride
        layers.append(ConvNorm1d(in_channels, width, kernel_size, stride=first if index == 0 else 1))
        in_channels = width
    return nn.Sequential(*layers, *([nn.MaxPool1d(3, stride=2, padding=1)] if pooled else []))


class ConvPoolBlock(nn.Sequential):
    """:class:`ConvNorm1d`, max-pooling of two steps and dropout.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Width of the convolution.
        stride: Its stride.
        dropout: Probability of zeroing a value while training.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, dropout: float
    ) -> None:
        super().__init__(
            ConvNorm1d(in_channels, out_channels, kernel_size, stride=stride),
            nn.MaxPool1d(2, padding=1),
            nn.Dropout(dropout),
        )


class ResidualBlock1d(nn.Module):
    """Two convolutions beside a shortcut; or three, of which the middle one is narrow.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd width of both convolutions, or of the middle one.
        stride: Of the first convolution, or of the middle one, and of the shortcut.
        pool_shortcut: The shortcut averages ``stride`` samples before it projects; otherwise its projection skips
            samples, as in the first ResNets.
        bottleneck: Channels between a first and a last convolution of width 1; None for two convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        *,
        pool_shortcut: bool = True,
        bottleneck: int | None = None,
    ) -> None:
        super().__init__()
        layers = (
            [
                ConvNorm1d(in_channels, out_channels, kernel_size, stride=stride),
                ConvNorm1d(out_channels, out_channels, kernel_size, relu=False),
            ]
            if bottleneck is None
            else [
                ConvNorm1d(in_channels, bottleneck, 1),
                ConvNorm1d(bottleneck, bottleneck, kernel_size, stride=stride),
                ConvNorm1d(bottleneck, out_channels, 1, relu=False),
            ]
        )
        self.convolutions = nn.Sequential(*layers)
        shortcut: list[nn.Module] = []
        if stride != 1 and pool_shortcut:
            shortcut.append(nn.AvgPool1d(stride, ceil_mode=True))
        skipped = 1 if pool_shortcut else stride
        if in_channels != out_channels or skipped != 1:
            shortcut.append(ConvNorm1d(in_channels, out_channels, 1, stride=skipped, relu=False))
        self.shortcut = nn.Sequential(*shortcut)

    @property
    def last_norm(self) -> nn.Module:
        """The batch norm whose weight starts at zero, so that a new block passes its shortcut on unchanged."""
        norm: nn.Module = self.convolutions[-1][1]  # type: ignore[index]
        return norm

    def forward(self, features: Tensor) -> Tensor:
        """Float ``(batch, in_channels, length)`` to ``(batch, out_channels, ceil(length / stride))``."""
        return torch.relu(self.convolutions(features) + self.shortcut(features))


class ResNet1d(nn.Module):
    """A stem and stages of residual blocks; every stage but one with stride 1 halves the length.

    Args:
        in_channels: Channels of the signal.
        stem_channels: Channels of the stem.
        stem_kernel_size: Odd width of its convolution.
        stem_stride: Its stride.
        channels: Channels of each stage, or of its bottlenecks.
        depths: Blocks of each stage.
        strides: Stride of each stage's first block; 2 each if not given.
        kernel_size: Odd width of the blocks' convolutions.
        make_block: Class of the blocks.
        expansion: Channels after a block over those of its bottleneck; 1 for blocks without.
        stem: Instead of that one convolution; ``stem_stride`` is the stride of all of it.

    Attributes:
        blocks: All blocks, first to last.
        stride: Samples per output step.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        stem_channels: int,
        stem_kernel_size: int,
        stem_stride: int,
        channels: Sequence[int],
        depths: Sequence[int],
        strides: Sequence[int] | None = None,
        kernel_size: int = 3,
        make_block: Callable[..., ResidualBlock1d] = ResidualBlock1d,
        stem: nn.Module | None = None,
        expansion: int = 1,
    ) -> None:
        super().__init__()
        one = ConvNorm1d(in_channels, stem_channels, stem_kernel_size, stride=stem_stride)
        self.stem = one if stem is None else stem
        strides = strides or [2] * len(channels)
        self.stride = stem_stride
        self.blocks, width = nn.ModuleList(), stem_channels
        for narrow, depth, stride in zip(channels, depths, strides, strict=True):
            out_channels = narrow * expansion
            inside = {} if expansion == 1 else {"bottleneck": narrow}
            for index in range(depth):
                block = make_block(width, out_channels, kernel_size, stride if index == 0 else 1, **inside)
                self.blocks.append(block)
                width = out_channels
            self.stride *= stride

    def forward(self, signal: Tensor) -> Tensor:
        """Float ``(batch, in_channels, samples)`` to ``(batch, width, ceil(samples / stride))``."""
        features: Tensor = self.stem(signal)
        for block in self.blocks:
            features = block(features)
        return features

    def output_mask(self, sample_mask: Tensor) -> Tensor:
        """Which output steps hold signal: bool ``(batch, steps)`` of bool ``(batch, samples)``.

        A step counts if any sample of its stretch of ``stride`` samples does.
        """
        return pool_tokens_mask(sample_mask, self.stride)
