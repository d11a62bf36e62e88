"""The median beat of whole batches, on the signal's device."""

from __future__ import annotations

import torch
from torch import Tensor

from ecg_hf.nn.filtering import zero_phase_bandpass
from ecg_hf.nn.r_peaks import estimate_r_peaks

__all__ = ["BAND_HZ", "median_beats", "representative_beats"]

BAND_HZ = (0.6, 40.0)
"""What is kept of a signal before beats are cut out of it."""

_BEATS_PER_SECOND = 4


def representative_beats(
    signal: Tensor,
    sampling_rate: float,
    *,
    before_s: float,
    after_s: float,
    level_s: tuple[float, float],
    r_peaks: Tensor | None = None,
    sample_mask: Tensor | None = None,
) -> Tensor:
    """The median beat of each record's band-passed signal, relative to its isoelectric stretch.

    Args:
        signal: float ``(batch, leads, samples)`` in millivolts; leads that are missing are zeros.
        sampling_rate: Hertz.
        before_s: Seconds of the beat before the R peak.
        after_s: Seconds from it on.
        level_s: Stretch in seconds before the R peak, its beginning first, whose median is taken off.
        r_peaks: int64 ``(batch, peaks)``, -1 where there is none; estimated if not given.
        sample_mask: ``(batch, samples)``, 0 for padding: beats in it do not count.

    Returns:
        float ``(batch, leads, samples of the beat)`` in the unit of the signal.
    """
    samples = signal.shape[-1]
    signal = zero_phase_bandpass(signal, sampling_rate, *BAND_HZ)
    if r_peaks is None:
        most = max(1, int(_BEATS_PER_SECOND * samples / sampling_rate))
        r_peaks = estimate_r_peaks(signal.detach(), sampling_rate, most)
    if sample_mask is not None:
        there = sample_mask.bool().gather(1, r_peaks.clamp(0, samples - 1))
        r_peaks = torch.where(there, r_peaks, -1)
    before, after = round(before_s * sampling_rate), round(after_s * sampling_rate)
    first, last = (before - round(seconds * sampling_rate) for seconds in level_s)
    return median_beats(
        signal, r_peaks, before=before, after=after, level=(max(0, first), max(first + 1, last))
    )


def median_beats(
    signal: Tensor, r_peaks: Tensor, *, before: int, after: int, level: tuple[int, int] | None = None
) -> Tensor:
    """Median over the beats of each record, sample by sample and lead by lead.

    Beats that the record cuts off do not count; a record without a whole beat gives the window around its middle.

    Args:
        signal: float ``(batch, leads, samples)``, without baseline wander.
        r_peaks: int64 ``(batch, peaks)``: sample indices, -1 where there is none.
        before: Samples before each R peak.
        after: Samples from it on.
        level: First and last sample of the beat (exclusive) whose median is taken off each lead, such as the
            isoelectric stretch before the QRS complex.

    Returns:
        float ``(batch, leads, before + after)``.
    """
    samples = signal.shape[-1]
    width = before + after
    whole = (r_peaks >= before) & (r_peaks + after <= samples)
    middle = torch.full_like(r_peaks[:, :1], max(before, samples // 2))
    peaks = torch.cat([torch.where(whole, r_peaks, middle), middle], dim=1)
    # The stand-in at the end counts where no beat does.
    used = torch.cat([whole, ~whole.any(1, keepdim=True)], dim=1)
    places = peaks[..., None] + torch.arange(-before, after, device=signal.device)
    places = places.clamp(0, samples - 1).flatten(1)[:, None, :].expand(-1, signal.shape[1], -1)
    beats = signal.gather(2, places).unflatten(2, (-1, width))
    # Sorting puts what does not count last; the two middle ones of the rest are the median's.
    ordered = beats.masked_fill(~used[:, None, :, None], float("inf")).sort(dim=2).values
    count = used.sum(1)
    below, above = ((count - 1) // 2, count // 2)
    low, high = (
        ordered.gather(2, index[:, None, None, None].expand(-1, signal.shape[1], 1, width)).squeeze(2)
        for index in (below, above)
    )
    median: Tensor = 0.5 * (low + high)
    if level is not None:
        # The lower median, by sorting: ONNX has no median.
        stretch = median[..., level[0] : level[1]].sort(dim=-1).values
        middle_one = (stretch.shape[-1] - 1) // 2
        median = median - stretch[..., middle_one : middle_one + 1]
    return median
