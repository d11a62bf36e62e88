"""Product quantisation with Gumbel noise: each vector becomes one code of each group.

Paper: wav2vec 2.0, arXiv 2006.11477, section 2; official code: ``GumbelVectorQuantizer`` of fairseq.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ecg_hf.nn.precision import full_precision

__all__ = ["GumbelQuantizer", "Quantized", "gumbel_noise"]


class Quantized(NamedTuple):
    """What :class:`GumbelQuantizer` gives.

    Attributes:
        vectors: float32 ``(..., size)``: codes of all groups, joined.
        codes: int64 ``(...,)``: one number for the combination of codes.
        probabilities: float32 ``(..., groups, codes)``, without noise and temperature.
    """

    vectors: Tensor
    codes: Tensor
    probabilities: Tensor


class GumbelQuantizer(nn.Module):
    """Chooses codes by a linear layer.

    Args:
        input_size: Width of the vectors.
        groups: Codebooks.
        codes: Entries of each.
        size: Width of the result, a multiple of ``groups``.
    """

    def __init__(self, input_size: int, groups: int, codes: int, size: int) -> None:
        super().__init__()
        self.scores = nn.Linear(input_size, groups * codes)
        self.codebook = nn.Parameter(torch.zeros(groups, codes, size // groups))

    def forward(self, features: Tensor, noise: Tensor | None, temperature: Tensor | float) -> Quantized:
        """Quantise.

        With noise the choice is random, and its gradient that of a softmax at ``temperature``. Without, it is the
        most probable code; then only codes get a gradient.

        Args:
            features: float ``(..., input_size)``.
            noise: float ``(..., groups, codes)`` of a standard Gumbel distribution, or None.
            temperature: Divides scores and noise.
        """
        groups, codes, _ = self.codebook.shape
        logits = full_precision(self.scores(features)).unflatten(-1, (groups, codes))
        with torch.autocast(features.device.type, enabled=False):
            soft = logits if noise is None else ((logits + noise) / temperature).softmax(-1)
            index = soft.argmax(-1)
            chosen = nn.functional.one_hot(index, codes).to(logits.dtype)
            if noise is not None:
                chosen = chosen + (soft - soft.detach())
            vectors = torch.einsum("...gc,gcd->...gd", chosen, full_precision(self.codebook)).flatten(-2)
        place = codes ** torch.arange(groups, device=index.device)
        return Quantized(vectors, (index * place).sum(-1), logits.softmax(-1))


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Numbers of a standard Gumbel distribution, float32."""
    # The smallest positive number keeps the logarithm finite.
    tiny = torch.finfo(torch.float32).tiny
    drawn = torch.empty(shape, device=device).exponential_(generator=generator)
    # In place: with the noise of a whole step each copy is hundreds of megabytes.
    return drawn.clamp_(min=tiny).log_().neg_()
