"""Quick estimate of R peaks of whole batches on the signal's device; not for measuring rhythm."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["estimate_r_peaks"]

_HALF_QRS_S = 0.05
_REFRACTORY_S = 0.25
_WINDOW_S = 1.5
_THRESHOLD = 0.25


def estimate_r_peaks(signal: Tensor, sampling_rate: float, max_peaks: int) -> Tensor:
    """Samples at which the leads together are steepest, at most one in 0.25 s.

    Squared slopes are added over leads and averaged over 0.1 s. A peak is the largest value for 0.25 s on both sides,
    and at least a quarter of the median of the largest values in stretches of 1.5 s. It is then moved, by at most
    0.05 s, to where the squared deflections of all leads together are largest.

    Inferred; not from a paper.

    Args:
        signal: float ``(batch, leads, samples)``; leads that are missing are zeros.
        sampling_rate: Hertz.
        max_peaks: Width of the table; later peaks are left out.

    Returns:
        int64 ``(batch, max_peaks)``: ascending sample indices, then -1.
    """
    samples = signal.shape[-1]
    values = signal.float()
    reach = max(1, round(0.01 * sampling_rate))
    half = max(1, round(_HALF_QRS_S * sampling_rate))
    slope = F.pad(values[..., 2 * reach :] - values[..., : -2 * reach], (reach, reach))
    energy = F.avg_pool1d(slope.square().sum(1, keepdim=True), 2 * half + 1, stride=1, padding=half)
    window = min(round(_WINDOW_S * sampling_rate), samples)
    largest = (
        F.max_pool1d(energy, window, stride=max(1, window // 2)).squeeze(1).median(-1, keepdim=True).values
    )
    refractory = round(_REFRACTORY_S * sampling_rate)
    # Compare the position of the largest value instead of the value, so that of equal neighbours only the first is
    # a peak.
    _, first = F.max_pool1d(energy, 2 * refractory + 1, stride=1, padding=refractory, return_indices=True)
    energy = energy.squeeze(1)
    time = torch.arange(samples, device=signal.device)
    is_peak = (first.squeeze(1) == time) & (energy > 0) & (energy >= _THRESHOLD * largest)

    width = min(max_peaks, samples)
    found = torch.where(is_peak, time, samples).topk(width, largest=False, sorted=True).values
    # Deflection from the record's level, so that a lead's offset does not count.
    deflection = (values - values.median(-1, keepdim=True).values).square().sum(1)
    near = found[..., None] + torch.arange(-half, half + 1, device=signal.device)
    outside = (near < 0) | (near >= samples)
    heights = deflection.gather(1, near.clamp(0, samples - 1).flatten(1)).view_as(near)
    moved = found + heights.masked_fill(outside, -1.0).argmax(-1) - half
    peaks = torch.where(found < samples, moved.clamp(0, samples - 1), -1)
    return F.pad(peaks, (0, max_peaks - width), value=-1)
