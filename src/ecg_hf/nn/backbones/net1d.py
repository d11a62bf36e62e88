"""Net1D: grouped bottleneck blocks with squeeze-and-excitation over time, without normalisation layers.

Source: Hong et al., "HOLMES" (KDD 2020), as ``net1d.py`` of PKUDigitalHealth/ECGFounder builds it with ``use_bn`` and
``use_do`` off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Net1d", "Net1dBlock", "SameConv1d"]


class SameConv1d(nn.Conv1d):
    """Convolution of which the output has ``ceil(length / stride)`` steps, whatever the kernel.

    Zeros are added on both sides, the odd one on the right.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Float ``(batch, in_channels, length)`` to ``(batch, out_channels, ceil(length / stride))``."""
        length, stride, width = input.shape[-1], self.stride[0], self.kernel_size[0]
        padding = max(0, (-(-length // stride) - 1) * stride + width - length)
        convolved: Tensor = super().forward(F.pad(input, (padding // 2, padding - padding // 2)))
        return convolved


class Net1dBlock(nn.Module):
    """1x1, grouped and 1x1 convolution, each after a swish, then squeeze-and-excitation, beside an identity.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output; the identity is padded with zeros on both sides.
        kernel_size: Width of the grouped convolution.
        stride: Of the grouped convolution and of the maximum in the identity, to whose end zeros are appended.
        group_width: Channels of a group.
        first: The first block of a network does not begin with a swish.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        group_width: int,
        first: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.first, self.added = stride, first, out_channels - in_channels
        self.reduce = SameConv1d(in_channels, out_channels, 1)
        self.grouped = SameConv1d(
            out_channels, out_channels, kernel_size, stride, groups=out_channels // group_width
        )
        self.expand = SameConv1d(out_channels, out_channels, 1)
        self.squeeze = nn.Linear(out_channels, out_channels // 2)
        self.excite = nn.Linear(out_channels // 2, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Float ``(batch, in_channels, length)`` to ``(batch, out_channels, ceil(length / stride))``."""
        hidden = self.reduce(features if self.first else F.silu(features))
        hidden = self.expand(F.silu(self.grouped(F.silu(hidden))))
        scale = self.excite(F.silu(self.squeeze(hidden.mean(-1)))).sigmoid()
        added: Tensor = hidden * scale.unsqueeze(-1) + self.identity(features)
        return added

    def identity(self, features: Tensor) -> Tensor:
        """The input at the output's length and width.

        With an odd length the last maximum is over a sample and an appended zero, as in the official code.
        """
        if self.stride > 1:
            gap = self.stride - 1
            features = F.max_pool1d(F.pad(features, (gap // 2, gap - gap // 2)), self.stride)
        if self.added:
            front = self.added // 2
            features = F.pad(features, (0, 0, front, self.added - front))
        return features


class Net1d(nn.Module):
    """A stem and stages of blocks; the first block of each stage has the stride.

    Args:
        in_channels: Channels of the signal.
        stem_channels: Channels of the stem.
        channels: Channels of each stage.
        depths: Blocks of each stage.
        kernel_size: Width of all convolutions that are not 1x1.
        stride: Of the stem and of each stage.
        group_width: Channels of a group of the grouped convolutions.
        make_block: Class of the blocks.

    Attributes:
        blocks: All blocks, first to last.
        samples_per_step: Samples per output step.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        stem_channels: int,
        channels: Sequence[int],
        depths: Sequence[int],
        kernel_size: int,
        stride: int,
        group_width: int,
        make_block: Callable[..., Net1dBlock] = Net1dBlock,
    ) -> None:
        super().__init__()
        self.stem = SameConv1d(in_channels, stem_channels, kernel_size, stride)
        self.samples_per_step = stride ** (len(channels) + 1)
        self.blocks, width = nn.ModuleList(), stem_channels
        for out_channels, depth in zip(channels, depths, strict=True):
            for index in range(depth):
                block = make_block(
                    width,
                    out_channels,
                    kernel_size,
                    stride if index == 0 else 1,
                    group_width,
                    first=not self.blocks,
                )
                self.blocks.append(block)
                width = out_channels

    def forward(self, signal: Tensor) -> Tensor:
        """Float ``(batch, in_channels, samples)`` to ``(batch, channels[-1], ceil(samples / samples_per_step))``."""
        features: Tensor = F.silu(self.stem(signal))
        for block in self.blocks:
            features = block(features)
        return features
