"""Patch tokenisers: from the samples of one patch to one token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ConvPatchTokenizer", "gather_tokens", "patchify", "pool_tokens_mask", "unpatchify"]


class ConvPatchTokenizer(nn.Module):
    """A stack of small convolutions inside each patch, flattened and projected to the token width.

    The stack runs on each patch alone, so that neither its receptive field nor its normalisation statistics
    cross a patch border: statistics over a whole lead would leak masked samples into visible tokens.

    Paper: CG-DMER, section 2.1 ("a series of convolutional layers, followed by GELU and group normalization",
    then the projection W of Eq. 1). The sizes are inferred; the paper prints none.

    Args:
        patch_size: Samples per patch.
        hidden_size: Width of the tokens.
        channels: Channels after each convolution.
        kernel_sizes: Odd kernel width of each convolution; padded by half.
        strides: Stride of each convolution.
        groups: Groups of each group normalisation.
        norm_first: Normalise before the activation instead of after it.
        num_leads: Leads that a patch holds, one after the other.

    Shapes:
        Input ``(..., num_leads * patch_size)``, output ``(..., hidden_size)``.
    """

    def __init__(
        self,
        patch_size: int,
        hidden_size: int,
        *,
        channels: Sequence[int],
        kernel_sizes: Sequence[int],
        strides: Sequence[int],
        groups: int,
        norm_first: bool = False,
        num_leads: int = 1,
    ) -> None:
        super().__init__()
        self.num_leads = num_leads
        layers: list[nn.Module] = []
        width, length = num_leads, patch_size
        for out, kernel, stride in zip(channels, kernel_sizes, strides, strict=True):
            convolution = nn.Conv1d(width, out, kernel, stride=stride, padding=kernel // 2)
            norm, activation = nn.GroupNorm(groups, out), nn.GELU()
            layers += [convolution, *([norm, activation] if norm_first else [activation, norm])]
            width, length = out, (length + 2 * (kernel // 2) - kernel) // stride + 1
        self.convolutions = nn.Sequential(*layers)
        self.projection = nn.Linear(width * length, hidden_size)

    def forward(self, patches: Tensor) -> Tensor:
        """Tokenise patches of any leading shape."""
        leading = patches.shape[:-1]
        features: Tensor = self.convolutions(
            patches.reshape(-1, self.num_leads, patches.shape[-1] // self.num_leads)
        )
        tokens: Tensor = self.projection(features.flatten(1))
        return torch.unflatten(tokens, 0, leading)


def patchify(signal: Tensor, patch_size: int) -> Tensor:
    """Cut ``(batch, leads, samples)`` into ``(batch, leads, samples // patch_size, patch_size)``; a view.

    Samples beyond the last whole patch are an error, not dropped: the caller decides about cropping.

    Raises:
        ValueError: if the number of samples is not a multiple of ``patch_size``.
    """
    if signal.shape[-1] % patch_size:
        raise ValueError(f"{signal.shape[-1]} samples are not a multiple of the patch size {patch_size}")
    patches: Tensor = signal.unflatten(-1, (-1, patch_size))
    return patches


def unpatchify(patches: Tensor) -> Tensor:
    """Inverse of :func:`patchify`: ``(batch, leads, patches, patch_size)`` to ``(batch, leads, samples)``."""
    return patches.flatten(-2)


def pool_tokens_mask(sample_mask: Tensor, samples_per_token: int) -> Tensor:
    """Which tokens hold signal: those with a sample that does. ``(batch, samples)`` to bool ``(batch, tokens)``."""
    padded = F.pad(sample_mask.bool(), (0, -sample_mask.shape[-1] % samples_per_token))
    mask: Tensor = padded.unflatten(-1, (-1, samples_per_token)).any(-1)
    return mask


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Pick tokens: ``(batch, tokens, dim)`` by indices ``(batch, k)`` gives ``(batch, k, dim)``."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
