"""The parts of ECG-CPC's encoder: convolutional stem, windows, and the state of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg_hf.models.ecg_cpc.configuration_ecg_cpc import EcgCpcConfig
from ecg_hf.nn.backbones.s4 import S4State
from ecg_hf.nn.normalization import GlobalBatchNorm1d
from ecg_hf.nn.precision import match_weights
from ecg_hf.nn.tokenizers import pool_tokens_mask

__all__ = [
    "ConvBlock",
    "ConvStem",
    "EcgCpcStream",
    "Windows",
    "crop_records",
    "split_windows",
]


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm, ReLU: ``(batch, channels, length)`` to ``(batch, out, less)``."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.padding = (kernel_size - 1) // 2
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, stride, self.padding, bias=False)
        self.norm = GlobalBatchNorm1d(out_channels)

    def forward(self, values: Tensor) -> Tensor:
        """Run over a whole signal."""
        return F.relu(self.norm(self.conv(values)))

    def init_stream(self, batch_size: int) -> Tensor:
        """Samples kept for the next call: initially the left padding, ``(batch, channels, padding)``."""
        return self.conv.weight.new_zeros(batch_size, self.conv.in_channels, self.padding)

    def stream_step(self, values: Tensor, waiting: Tensor, final: bool) -> tuple[Tensor, Tensor]:
        """Outputs that the new samples complete, and the samples to keep for later ones."""
        joined = torch.cat([waiting, F.pad(values, (0, self.padding)) if final else values], dim=-1)
        stride, kernel_size = self.conv.stride[0], self.conv.kernel_size[0]
        ready = (joined.shape[-1] - kernel_size) // stride + 1
        if ready <= 0:
            return joined.new_zeros(len(joined), self.conv.out_channels, 0), joined
        convolved = F.conv1d(joined, self.conv.weight, stride=stride)
        return F.relu(self.norm(convolved)), joined[..., ready * stride :]


class ConvStem(nn.Sequential):
    """Convolutions that turn samples into tokens, ``(batch, leads, samples)`` to ``(batch, tokens, hidden)``.

    Pretraining's targets are this module's output.
    """

    def __init__(self, config: EcgCpcConfig) -> None:
        widths = [config.num_leads, *[config.hidden_size] * len(config.stem_strides)]
        super().__init__(
            *(
                ConvBlock(*sizes)
                for sizes in zip(
                    widths[:-1], widths[1:], config.stem_kernel_sizes, config.stem_strides, strict=True
                )
            )
        )

    def forward(self, input: Tensor) -> Tensor:
        """Run over whole signals."""
        tokens: Tensor = super().forward(match_weights(input, self))
        return tokens.transpose(1, 2)

    def _blocks(self) -> Iterator[ConvBlock]:
        # Tells the type checker what the Sequential holds.
        for block in self:
            assert isinstance(block, ConvBlock)
            yield block

    def init_stream(self, batch_size: int) -> tuple[Tensor, ...]:
        """See :meth:`ConvBlock.init_stream`."""
        return tuple(block.init_stream(batch_size) for block in self._blocks())

    def stream_step(
        self, values: Tensor, waiting: tuple[Tensor, ...], final: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See :meth:`ConvBlock.stream_step`; gives tokens ``(batch, tokens, hidden_size)``."""
        left = []
        values = match_weights(values, self)
        for block, held in zip(self._blocks(), waiting, strict=True):
            values, held = block.stream_step(values, held, final)
            left.append(held)
        return values.transpose(1, 2), tuple(left)


@dataclass(frozen=True, slots=True, eq=False)
class EcgCpcStream:
    """State of a model in a stream: a few samples and one state per S4 layer, however long the stream.

    Attributes:
        waiting: For each convolution, samples that wait for their successors.
        layers: State of each S4 layer.
        lead_mask: bool ``(batch, leads, 1)`` or None.
    """

    waiting: tuple[Tensor, ...]
    layers: tuple[S4State, ...]
    lead_mask: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Records cut into windows; those of one record are consecutive.

    Attributes:
        values: float ``(batch * count, leads, samples)``.
        token_mask: bool ``(batch * count, tokens)``: False for padding; None without padding.
        count: Windows per record.
    """

    values: Tensor
    token_mask: Tensor | None
    count: int


def split_windows(
    values: Tensor, sample_mask: Tensor | None, window: int | None, samples_per_token: int
) -> Windows:
    """Cut records into windows that do not overlap; the last one is padded if needed.

    Args:
        values: float ``(batch, leads, samples)``.
        sample_mask: ``(batch, samples)``: 0 for padding.
        window: Samples per window, a multiple of ``samples_per_token``; None for one window of any length.
        samples_per_token: The stem's stride.
    """
    samples = values.shape[-1]
    if window is None or samples <= window:
        mask = None if sample_mask is None else pool_tokens_mask(sample_mask, samples_per_token)
        return Windows(values, mask, 1)
    missing = -samples % window
    if missing:
        if sample_mask is None:
            sample_mask = values.new_ones(values.shape[0], samples, dtype=torch.bool)
        sample_mask = F.pad(sample_mask.bool(), (0, missing))
        values = F.pad(values, (0, missing))
    cut = values.unflatten(-1, (-1, window)).transpose(1, 2)
    mask = None
    if sample_mask is not None:
        mask = (
            pool_tokens_mask(sample_mask, samples_per_token).unflatten(-1, (cut.shape[1], -1)).flatten(0, 1)
        )
    return Windows(cut.flatten(0, 1), mask, cut.shape[1])


def crop_records(
    values: Tensor, sample_mask: Tensor | None, window: int, noise: Tensor
) -> tuple[Tensor, Tensor | None]:
    """One window of each record, anywhere in its signal; padding only if a record is shorter than the window.

    Args:
        values: float ``(batch, leads, samples)``, no fewer samples than ``window``.
        sample_mask: ``(batch, samples)``: 0 for padding, which is at one end.
        window: Samples to keep.
        noise: float ``(batch,)``, uniform in [0, 1): where the window begins.

    Returns:
        Windows float ``(batch, leads, window)`` and their sample mask.
    """
    samples = values.shape[-1]
    if sample_mask is None:
        first = torch.zeros_like(noise, dtype=torch.int64)
        spare = torch.full_like(first, samples - window)
    else:
        held = sample_mask.bool()
        first = held.int().argmax(-1).clamp(max=samples - window)
        spare = (held.sum(-1) - window).clamp(min=0)
    # Rounding may raise noise * (spare + 1) to spare + 1.
    start = first + torch.minimum((noise * (spare + 1)).long(), spare)
    index = start[:, None] + torch.arange(window, device=values.device)
    cropped = values.gather(2, index.unsqueeze(1).expand(-1, values.shape[1], -1))
    return cropped, None if sample_mask is None else sample_mask.gather(1, index)
