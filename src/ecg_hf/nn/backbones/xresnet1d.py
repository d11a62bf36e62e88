"""A one-dimensional xresnet, the convolutional network that ECG benchmarks train from scratch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Xresnet1d", "XresnetBlock"]


class _ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm and, unless told otherwise, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, relu: bool = True
    ) -> None:
        convolution = nn.Conv1d(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
        )
        nn.init.kaiming_normal_(convolution.weight)
        layers: list[nn.Module] = [convolution, nn.BatchNorm1d(out_channels)]
        super().__init__(*layers, nn.ReLU()) if relu else super().__init__(*layers)


class XresnetBlock(nn.Module):
    """Two convolutions beside a shortcut that averages before it projects.

    The last batch norm starts at zero, so that a new block passes its shortcut on unchanged.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd width of both convolutions.
        stride: Of the first convolution and of the average in the shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 5, stride: int = 1) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            _ConvNorm(in_channels, out_channels, kernel_size, stride=stride),
            _ConvNorm(out_channels, out_channels, kernel_size, relu=False),
        )
        nn.init.zeros_(self.convolutions[1][1].weight)  # type: ignore[index, arg-type]
        shortcut: list[nn.Module] = []
        if stride != 1:
            shortcut.append(nn.AvgPool1d(stride, ceil_mode=True))
        if in_channels != out_channels:
            shortcut.append(_ConvNorm(in_channels, out_channels, 1, relu=False))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, features: Tensor) -> Tensor:
        """Float ``(batch, in_channels, length)`` to ``(batch, out_channels, ceil(length / stride))``."""
        return torch.relu(self.convolutions(features) + self.shortcut(features))


class Xresnet1d(nn.Module):
    """Stem of three convolutions, four stages of basic blocks, mean and maximum over time, two linear layers.

    With 12 leads, 5 classes and the defaults: 2.45 million parameters, one feature per 32 samples.

    Args:
        n_leads: Channels of the input.
        n_classes: Width of the output.
        width: Channels of the first stage; the stages have 1, 2, 3 and 4 times as many.
        depths: Blocks of each stage.
        kernel_size: Odd width of the convolutions.
        head_width: Width between the two linear layers.
        dropout: Before the second linear layer; half of it before the first.

    Source: He et al. 2019 (bag of tricks: three-convolution stem, average pooling in the shortcut, zero-initialised
    last norm) in one dimension, as Strodthoff et al. 2021 apply it to PTB-XL; 18 layers instead of their 101.
    """

    def __init__(
        self,
        n_leads: int,
        n_classes: int,
        *,
        width: int = 64,
        depths: Sequence[int] = (2, 2, 2, 2),
        kernel_size: int = 5,
        head_width: int = 128,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        half = max(1, width // 2)
        self.stem = nn.Sequential(
            _ConvNorm(n_leads, half, kernel_size, stride=2),
            _ConvNorm(half, half, kernel_size),
            _ConvNorm(half, width, kernel_size),
            nn.MaxPool1d(3, stride=2, padding=1),
        )
        blocks: list[nn.Module] = []
        channels = width
        for stage, depth in enumerate(depths):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(XresnetBlock(channels, width * (stage + 1), kernel_size, stride))
                channels = width * (stage + 1)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.BatchNorm1d(2 * channels),
            nn.Dropout(dropout / 2),
            nn.Linear(2 * channels, head_width, bias=False),
            nn.ReLU(),
            nn.BatchNorm1d(head_width),
            nn.Dropout(dropout),
            nn.Linear(head_width, n_classes),
        )

    def forward(self, signal: Tensor) -> Tensor:
        """Logits ``(batch, n_classes)`` of float ``(batch, n_leads, samples)``."""
        features = self.blocks(self.stem(signal))
        logits: Tensor = self.head(torch.cat([features.mean(dim=2), features.amax(dim=2)], dim=1))
        return logits
