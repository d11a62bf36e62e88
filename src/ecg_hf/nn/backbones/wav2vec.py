"""The tower of wav2vec 2.0 and HuBERT: strided convolutions, a positional convolution, post-norm transformer layers.

Papers: Baevski et al., arXiv 2006.11477; Hsu et al., arXiv 2106.07447. ECG models use it with other strides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg_hf.nn.backbones.transformer import TransformerBlock, TransformerStack
from ecg_hf.nn.precision import match_weights

__all__ = ["PositionalConvolution", "StridedStem", "Wav2VecTower", "scale_gradient"]


def scale_gradient(values: Tensor, factor: float) -> Tensor:
    """The same values, whose gradient is multiplied by ``factor`` on its way back."""
    fixed = values.detach()
    return fixed + factor * (values - fixed)


class StridedStem(nn.Module):
    """Convolutions without bias or padding, each followed by GELU; the first one's channels are normalised over time.

    Statistics of the first layer are those of the whole signal, so tokens depend on its length.

    Args:
        in_channels: Channels of the signal.
        channels: Channels after each convolution.
        kernel_sizes: Their widths.
        strides: Their strides.

    Attributes:
        stride: Samples from one token to the next.
        reach: Samples that a token sees.
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int], kernel_sizes: Sequence[int], strides: Sequence[int]
    ) -> None:
        super().__init__()
        widths = [in_channels, *channels]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, kernel, stride, bias=False)
            for before, after, kernel, stride in zip(
                widths[:-1], channels, kernel_sizes, strides, strict=True
            )
        )
        self.norm = nn.GroupNorm(channels[0], channels[0])
        self.stride = prod(strides)
        self.reach = 1 + sum(
            (kernel - 1) * prod(strides[:index]) for index, kernel in enumerate(kernel_sizes)
        )

    def forward(self, signal: Tensor) -> Tensor:
        """Float ``(batch, in_channels, samples)`` to ``(batch, tokens, channels[-1])``."""
        for index, convolution in enumerate(self.convolutions):
            signal = convolution(signal)
            signal = F.gelu(self.norm(signal) if index == 0 else signal)
        return signal.transpose(1, 2)

    def tokens_mask(self, sample_mask: Tensor) -> Tensor:
        """Which tokens see signal: ``(batch, samples)`` to bool ``(batch, tokens)``."""
        pooled: Tensor = F.max_pool1d(sample_mask.float().unsqueeze(1), self.reach, self.stride)
        return pooled.squeeze(1) > 0.0


class PositionalConvolution(nn.Module):
    """A wide grouped convolution and GELU, whose output is added to the tokens as their positions.

    Its weight is ``scale * direction / norm``, with one scale and one norm for each tap of the kernel.
    """

    def __init__(self, hidden_size: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.scale = nn.Parameter(torch.ones(1, 1, kernel_size))
        self.direction = nn.Parameter(torch.zeros(hidden_size, hidden_size // groups, kernel_size))
        self.bias = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, tokens: Tensor) -> Tensor:
        """Float ``(batch, tokens, hidden_size)`` to the same."""
        kernel_size = self.direction.shape[-1]
        weight = self.direction * (self.scale / self.direction.norm(dim=(0, 1), keepdim=True))
        tokens = F.conv1d(
            tokens.transpose(1, 2), weight, self.bias, padding=kernel_size // 2, groups=self.groups
        )
        # An even kernel makes one step too many.
        tokens = tokens[..., :-1] if kernel_size % 2 == 0 else tokens
        return F.gelu(tokens).transpose(1, 2)


class Wav2VecTower(nn.Module):
    """Stem, projection, positions and layers.

    Args:
        stem: The convolutions.
        hidden_size: Width of the tokens.
        num_layers: Transformer layers.
        make_block: Makes one of them; post-norm.
        position_kernel: Width of the positional convolution.
        position_groups: Its groups.
        dropout: Dropout before the first layer.
        norm_eps: Epsilon of the layer norms.
        positions_see_masked: The positional convolution sees tokens that are masked, as in fairseq-signals; they are
            zeros for it otherwise, as in transformers.
    """

    def __init__(
        self,
        stem: StridedStem,
        *,
        hidden_size: int,
        num_layers: int,
        make_block: Callable[[], TransformerBlock],
        position_kernel: int,
        position_groups: int,
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
        positions_see_masked: bool = False,
    ) -> None:
        super().__init__()
        self.positions_see_masked = positions_see_masked
        width: int = stem.convolutions[-1].out_channels  # type: ignore[assignment]
        self.stem = stem
        self.stem_norm = nn.LayerNorm(width, eps=norm_eps)
        self.projection = nn.Linear(width, hidden_size)
        self.positions = PositionalConvolution(hidden_size, position_kernel, position_groups)
        self.norm = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.layers = TransformerStack(num_layers, make_block)

    def embed(self, signal: Tensor) -> Tensor:
        """Tokens without positions: ``(batch, channels, samples)`` to ``(batch, tokens, hidden_size)``."""
        tokens: Tensor = self.projection(self.stem_norm(self.stem(match_weights(signal, self))))
        return tokens

    def forward(self, tokens: Tensor, token_mask: Tensor | None, *, need_weights: bool = False) -> Tensor:
        """Encode tokens of :meth:`embed`; those that ``token_mask`` calls False are zeros and not attended to."""
        if token_mask is None:
            return self.transform(tokens + self.positions(tokens), None, need_weights)
        masked = ~token_mask.unsqueeze(-1)
        if self.positions_see_masked:
            tokens = (tokens + self.positions(tokens)).masked_fill(masked, 0.0)
        else:
            tokens = tokens.masked_fill(masked, 0.0)
            tokens = tokens + self.positions(tokens)
        # Where all is masked every token attends to all: a softmax over nothing would be NaN.
        keys = token_mask | masked.squeeze(-1).all(1, keepdim=True)
        return self.transform(tokens, keys[:, None, None, :], need_weights)

    def transform(self, tokens: Tensor, keys: Tensor | None, need_weights: bool = False) -> Tensor:
        """Norm, dropout and layers on tokens that have their positions; ``keys`` is the layers' attention mask."""
        tokens = self.dropout(self.norm(tokens))
        encoded: Tensor = self.layers(tokens, keys, need_weights=need_weights)
        return encoded
