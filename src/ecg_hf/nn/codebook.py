"""A codebook of unit vectors that follows what it is given: cosine k-means first, then moving averages."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from ecg_hf.nn.precision import full_precision, similarity

__all__ = ["Codebook", "Quantized", "cosine_k_means", "moved_codes", "spread_codes"]


class Quantized(NamedTuple):
    """Vectors in the place of which codes stand.

    Attributes:
        values: float32 ``(..., code_size)``: the codes, with the gradient of the vectors (straight through).
        codes: int64 ``(...)``.
        commitment: Mean squared distance of the vectors, at unit length, from their codes; no gradient to the codes.
    """

    values: Tensor
    codes: Tensor
    commitment: Tensor


def cosine_k_means(samples: Tensor, means: Tensor, iterations: int = 10) -> tuple[Tensor, Tensor]:
    """K-means on the unit sphere.

    Official code: HeartLang's ``norm_ema_quantizer.py``; an empty cluster keeps its mean.

    Args:
        samples: float ``(samples, size)`` of unit length.
        means: float ``(clusters, size)``, the first means.
        iterations: Rounds.

    Returns:
        Means of unit length, and int64 ``(clusters,)``: samples of each in the last round.
    """
    counts = torch.zeros(len(means), dtype=torch.int64, device=samples.device)
    for _ in range(iterations):
        nearest = similarity(samples, means).argmax(1)
        sums = torch.zeros_like(means).index_add_(0, nearest, samples)
        counts = torch.bincount(nearest, minlength=len(means))
        means = torch.where(counts[:, None] > 0, F.normalize(sums, dim=1), means)
    return means, counts


def moved_codes(codes: Tensor, sums: Tensor, counts: Tensor, decay: float) -> Tensor:
    """Codes a step nearer to the directions of the vectors that chose them; unused ones stay.

    Official code: ``norm_ema_quantizer.py``: ``normalise(decay * code + (1 - decay) * normalise(mean))``.

    Args:
        codes: float ``(codes, size)``.
        sums: float ``(codes, size)``: sum of the vectors, of unit length, that chose each code.
        counts: float ``(codes,)``: how many.
        decay: Share of itself that a code keeps.
    """
    used = (counts > 0)[:, None]
    target = torch.where(used, F.normalize(sums, dim=1), codes)
    return torch.where(used, F.normalize(decay * codes + (1.0 - decay) * target, dim=1), codes)


def spread_codes(size: int, width: int) -> Tensor:
    """Codes in all directions, before there are data: float32 ``(size, width)`` of unit length, always the same.

    Far digits of a sine are as good as uniform, and no generator is needed, which storage without values has none of;
    the normal distribution's quantiles at them point in all directions alike.
    """
    rows = torch.arange(1, size + 1, dtype=torch.float64)[:, None]
    columns = torch.arange(1, width + 1, dtype=torch.float64)
    uniform = ((12.9898 * rows + 78.233 * columns).sin() * 43758.5453).frac().abs()
    return F.normalize(torch.special.ndtri(uniform), dim=1).float()


class Codebook(nn.Module):
    """Replaces vectors by the nearest of ``size`` codes on the unit sphere.

    While training, :meth:`forward` notes which vectors chose which code, and :meth:`step` moves the codes by the
    notes of the whole optimiser step: of all micro-batches and all processes.

    Args:
        size: Codes.
        width: Values of a code.
        decay: See :func:`moved_codes`.

    Attributes:
        codes: float buffer ``(size, width)``.
        fitted: float buffer ``()``: 1 if the codes come from data, else 0.
    """

    codes: Tensor
    fitted: Tensor

    def __init__(self, size: int, width: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("codes", spread_codes(size, width))
        self.register_buffer("fitted", torch.zeros(()))
        # No buffers: those of one process would be handed to all others before each forward.
        self._sums: Tensor | None = None
        self._counts: Tensor | None = None

    @torch.no_grad()
    def fit(self, vectors: Tensor) -> None:
        """Take the means of :func:`cosine_k_means` for codes; it starts from vectors at equal distances in the list.

        Args:
            vectors: float ``(vectors, width)``, one at least.

        Differs from official code: that starts from random vectors.
        """
        vectors = F.normalize(full_precision(vectors), dim=-1)
        rows = torch.arange(len(self.codes), device=vectors.device) * len(vectors) // len(self.codes)
        self.codes.copy_(cosine_k_means(vectors, vectors[rows])[0])
        self.fitted.fill_(1.0)

    def nearest(self, vectors: Tensor) -> Tensor:
        """Numbers of the nearest codes, int64 ``(...)``, of float ``(..., width)``."""
        return similarity(F.normalize(full_precision(vectors), dim=-1), self.codes).argmax(-1)

    def forward(self, vectors: Tensor) -> Quantized:
        """Quantise float ``(..., width)``."""
        vectors = F.normalize(full_precision(vectors), dim=-1)
        codes = similarity(vectors, self.codes).argmax(-1)
        values = self.codes[codes]
        # A first pass without gradient over micro-batches that come again counts for nothing.
        if self.training and torch.is_grad_enabled():
            self._note(vectors.detach().flatten(0, -2), codes.flatten())
        commitment = F.mse_loss(vectors, values)
        return Quantized(vectors + (values - vectors).detach(), codes, commitment)

    @torch.no_grad()
    def step(self) -> None:
        """Move the codes by what was noted since the last step; called by all processes at once."""
        if self._sums is None or self._counts is None:
            return
        sums, counts = self._sums, self._counts
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
            distributed.all_reduce(counts)
        self.codes.copy_(moved_codes(self.codes, sums, counts, self.decay))
        self._sums = self._counts = None

    def _note(self, vectors: Tensor, codes: Tensor) -> None:
        if self._sums is None or self._counts is None:
            self._sums, self._counts = torch.zeros_like(self.codes), torch.zeros_like(self.codes[:, 0])
        self._sums.index_add_(0, codes, vectors)
        self._counts.index_add_(0, codes, torch.ones_like(codes, dtype=vectors.dtype))
