"""A one-dimensional VGG: the plain convolutional backbone of single-lead and multi-lead ECG methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ecg_hf.nn.normalization import GlobalBatchNorm1d

__all__ = ["Vgg1d", "VggStage", "downsampled_mask"]


class _RowBatchNorm(GlobalBatchNorm1d):
    """:class:`GlobalBatchNorm1d` of ``(batch, channels, 1, length)``."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim != 4 or input.shape[2] != 1:
            raise ValueError(f"expected (batch, channels, 1, length), got {tuple(input.shape)}")


class VggStage(nn.Module):
    """Convolutions with batch norm and ReLU, then max-pooling by two.

    Args:
        in_channels: Channels of one group's input.
        out_channels: Channels of one group's output.
        depth: Number of convolutions.
        groups: Encoders that run side by side without seeing each other.
        kernel_size: Odd width of the convolutions, padded by half.
        first_kernel_size: Width of the first convolution, if another.
        first_stride: Stride of the first convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int,
        *,
        groups: int = 1,
        kernel_size: int = 3,
        first_kernel_size: int | None = None,
        first_stride: int = 1,
    ) -> None:
        super().__init__()
        self.first_stride = first_stride
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for index in range(depth):
            kernel = (first_kernel_size or kernel_size) if index == 0 else kernel_size
            stride = first_stride if index == 0 else 1
            self.convolutions.append(
                # Two-dimensional convolutions on signals one row high, because only those support the channels-last
                # layout.
                nn.Conv2d(
                    groups * in_channels,
                    groups * out_channels,
                    (1, kernel),
                    stride=(1, stride),
                    padding=(0, kernel // 2),
                    groups=groups,
                )
            )
            self.norms.append(_RowBatchNorm(groups * out_channels))
            in_channels = out_channels
        self.pool = nn.MaxPool2d((1, 2))

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the stage.

        Args:
            features: float ``(batch, groups * in_channels, 1, length)``, channels-last in memory if it can be.
            mask: bool ``(batch, length)`` of valid samples; the others are zeroed after every layer,
                like the padding that a shorter record's convolutions see beyond its end.

        Returns:
            ``(batch, groups * out_channels, 1, length // (2 * first_stride))``.
        """
        if mask is not None:
            mask = mask[:, :: self.first_stride]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = torch.relu(norm(convolution(features)))
            if mask is not None:
                features = features * mask[:, None, None, :]
        pooled: Tensor = self.pool(features)
        return pooled if mask is None else pooled * downsampled_mask(mask)[:, None, None, :]


def downsampled_mask(mask: Tensor, stride: int = 1) -> Tensor:
    """Mask of a :class:`VggStage`'s output: bool ``(batch, length)``; a pooled step counts if both halves do."""
    mask = mask[:, ::stride]
    pooled: Tensor = mask[:, : mask.shape[1] // 2 * 2].unflatten(1, (-1, 2)).all(-1)
    return pooled


class Vgg1d(nn.Module):
    """Stages of convolutions, each halving the length; ``groups`` equal networks run as one computation.

    With ``groups`` networks of ``in_channels`` each (one per lead, say), channel ``g * c + i`` is channel i of
    network g throughout, and batch norm keeps statistics per network.

    Official code: the VGG-16 at one eighth of its width of Aiwiscal/ECG_SSL_LFBT and its siblings
    (``models/vgg_1d.py``): channels 8, 16, 32, 64, 64, depths 2, 2, 3, 3, 3, kernel 3; with one input channel
    78,216 parameters, a biased convolution before each batch norm included.

    Differs from official code: separate networks are grouped convolutions instead of a loop; on CPUs the features
    are channels-last, with which a training step of this network took 0.6 of the time.

    Args:
        in_channels: Input channels of one network.
        channels: Channels of each stage.
        depths: Convolutions of each stage.
        groups: Networks side by side.
        kernel_size: Odd width of the convolutions.
        stem_kernel_size: Width of the very first convolution.
        stem_stride: Its stride.
        make_stage: Builds a stage from the arguments of :class:`VggStage`.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        channels: Sequence[int],
        depths: Sequence[int],
        groups: int = 1,
        kernel_size: int = 3,
        stem_kernel_size: int | None = None,
        stem_stride: int = 1,
        make_stage: Callable[..., VggStage] = VggStage,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for index, (width, depth) in enumerate(zip(channels, depths, strict=True)):
            self.stages.append(
                make_stage(
                    in_channels,
                    width,
                    depth,
                    groups=groups,
                    kernel_size=kernel_size,
                    first_kernel_size=stem_kernel_size if index == 0 else None,
                    first_stride=stem_stride if index == 0 else 1,
                )
            )
            in_channels = width

    def output_mask(self, sample_mask: Tensor) -> Tensor:
        """Bool ``(batch, samples)`` to that of the steps, ``(batch, steps)``."""
        for stage in self.stages:
            sample_mask = downsampled_mask(sample_mask, stage.first_stride)  # type: ignore[arg-type]
        return sample_mask

    def forward(self, signal: Tensor, sample_mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Features along time.

        Args:
            signal: float ``(batch, groups * in_channels, samples)``.
            sample_mask: bool ``(batch, samples)``; features of a record padded on the right are those of the record
                alone.

        Returns:
            Features ``(batch, groups * channels[-1], steps)`` and bool ``(batch, steps)``, None without a mask.
        """
        features = signal.unsqueeze(2)
        if features.device.type == "cpu":
            features = features.contiguous(memory_format=torch.channels_last)
        mask = sample_mask
        if mask is not None:
            features = features * mask[:, None, None, :]
        for stage in self.stages:
            features = stage(features, mask)
            if mask is not None:
                mask = downsampled_mask(mask, stage.first_stride)  # type: ignore[arg-type]
        return features.squeeze(2), mask
