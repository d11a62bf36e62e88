"""Sixteen descriptors of each stretch of a signal: what k-means first clusters for HuBERT-ECG."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ecg_hf.nn.precision import full_precision

__all__ = ["NUM_DESCRIPTORS", "shard_descriptors"]

NUM_DESCRIPTORS = 16

_BANDS_HZ = (0.0, 5.0, 15.0)
_SMALLEST = 1e-8


def shard_descriptors(signal: Tensor, length: int, sampling_rate: float) -> Tensor:
    """Describe neighbouring stretches of a signal in time and frequency.

    In this order: mean, deviation, skewness, kurtosis, least, largest, root mean square, mean and largest step, sign
    changes about the mean; centroid, spread and entropy of the power spectrum without its constant, and its shares up
    to 5 Hz, from 5 to 15 Hz and above.

    The paper has 16 descriptors of time and frequency; which ones is inferred.

    Args:
        signal: float ``(rows, samples)``.
        length: Samples of a stretch, 4 or more; what is left at the end is not described.
        sampling_rate: Hertz.

    Returns:
        float32 ``(rows, samples // length, 16)``; all finite, also of a signal that does not vary.
    """
    shards = full_precision(signal)[:, : signal.shape[1] // length * length].unflatten(1, (-1, length))
    mean = shards.mean(-1)
    deviations = shards - mean.unsqueeze(-1)
    std = deviations.square().mean(-1).sqrt()
    scaled = deviations / std.unsqueeze(-1).clamp(min=_SMALLEST)
    steps = shards.diff(dim=-1).abs()
    changes = (deviations[..., 1:] * deviations[..., :-1] < 0.0).to(shards.dtype).mean(-1)

    power = torch.fft.rfft(deviations).abs().square()[..., 1:]
    share = power / power.sum(-1, keepdim=True).clamp(min=_SMALLEST)
    hertz = torch.fft.rfftfreq(length, 1.0 / sampling_rate, device=signal.device)[1:].to(share.dtype)
    centroid = (share * hertz).sum(-1)
    spread = (share * (hertz - centroid.unsqueeze(-1)).square()).sum(-1).sqrt()
    entropy = -(share * share.clamp(min=_SMALLEST).log()).sum(-1)
    edges = (*_BANDS_HZ, torch.inf)
    bands = [(share * ((hertz > low) & (hertz <= high))).sum(-1) for low, high in pairwise(edges)]
    described = (
        *(mean, std, scaled.pow(3).mean(-1), scaled.pow(4).mean(-1)),
        *(shards.amin(-1), shards.amax(-1), shards.square().mean(-1).sqrt()),
        *(steps.mean(-1), steps.amax(-1), changes, centroid, spread, entropy, *bands),
    )
    return torch.stack(described, dim=-1).float()
