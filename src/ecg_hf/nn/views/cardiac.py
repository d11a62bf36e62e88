"""Views that keep the rhythm: scale crop, masks between R peaks, shifts that do not wrap around.

A view is a mapping: output sample i is the signal at ``start + i * step``, times ``gain[i]``. The three operations
change these few numbers per record, and :func:`render` reads the signal once.
All leads of a record share them, so every operation keeps the linear relations between leads (III = II - I, ...).

Everything is vectorised over the batch, takes its randomness as arguments and works on the signal's device.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["CardiacView", "CycleMaskMode", "mask_cycles", "render", "render_mask", "scale_crop", "shift"]

CycleMaskMode = Literal["within", "cycle"]


class CardiacView(NamedTuple):
    """How a view reads a batch of records.

    Attributes:
        start: float ``(batch,)``: position in the signal of the view's first sample, in samples.
        step: float ``(batch,)``: samples of the signal per sample of the view.
        gain: float ``(batch, samples)``: 0 where the view is masked or looks beyond its window, else 1.
        r_peaks: float ``(batch, peaks)``: R peaks in samples of the view, possibly outside it; NaN fills the row.
    """

    start: Tensor
    step: Tensor
    gain: Tensor
    r_peaks: Tensor


def scale_crop(ratio: Tensor, place: Tensor, num_samples: int, r_peaks: Tensor) -> CardiacView:
    """Create a view of a window of the record, stretched to the record's length.

    Lead-locked; keeps lead identities. The RR intervals' regularity is kept, but not heart rate and intervals: a
    window of half the record halves the apparent rate.

    Args:
        ratio: float ``(batch,)`` in (0, 1]: length of the window as a share of the record; 1 changes nothing.
        place: float ``(batch,)`` in [0, 1]: from the leftmost window to the rightmost.
        num_samples: Samples of the record, and of the view.
        r_peaks: int64 ``(batch, peaks)``: sample indices, then -1.
    """
    ratio = ratio.float()
    start = place.float() * (1.0 - ratio) * (num_samples - 1)
    moved = (r_peaks - start[:, None]) / ratio[:, None]
    peaks = moved.masked_fill(r_peaks < 0, torch.nan)
    return CardiacView(start, ratio, ratio.new_ones(len(ratio), num_samples), peaks)


def mask_cycles(
    view: CardiacView,
    share: Tensor,
    places: Tensor,
    *,
    mode: CycleMaskMode = "within",
    cycle_probability: float = 0.15,
    min_cycle: float,
    guard: int = 0,
    min_coverage: float = 0.5,
    fallback_windows: int = 4,
) -> tuple[CardiacView, Tensor]:
    """Mask a part of every cardiac cycle, never an R peak.

    A cycle is the part between two consecutive R peaks, both inside the view and at least ``min_cycle`` apart. Where
    cycles cover less than ``min_coverage`` of a view (no or few beats found), ``fallback_windows`` equal parts of
    the view are used instead. The samples on both sides of every R peak and ``guard`` more stay unmasked, in the
    fallback too. Lead-locked; keeps lead identities.

    Args:
        view: The view so far.
        share: float ``(batch,)``: masked part of each cycle (``within``).
        places: float ``(batch, >= peaks - 1 + fallback_windows)`` in [0, 1): where in its cycle each mask is, from
            leftmost to rightmost (``within``), or whether the cycle is masked (``cycle``); the last
            ``fallback_windows`` belong to the fallback.
        mode: ``within`` masks one window of each cycle, ``cycle`` whole cycles.
        cycle_probability: Probability of each cycle in mode ``cycle``.
        min_cycle: Shortest cycle, in samples.
        guard: Samples beside each R peak that stay unmasked.
        min_coverage: See above.
        fallback_windows: See above.

    Returns:
        The view, and bool ``(batch,)``: which records fell back.
    """
    gain, peaks = view.gain, view.r_peaks
    samples, cycles = gain.shape[1], max(peaks.shape[1] - 1, 0)
    inside = (peaks >= 0) & (peaks <= samples - 1)  # False for NaN
    left, right = peaks[:, :cycles], peaks[:, 1:]
    usable = inside[:, :cycles] & inside[:, 1:] & (right - left >= min_cycle)
    covered = torch.where(usable, right - left, 0.0).sum(1)
    fell_back = covered < min_coverage * samples

    edges = torch.linspace(0, samples, fallback_windows + 1, device=gain.device).round().expand(len(gain), -1)
    low = torch.cat([left.ceil() + 1 + guard, edges[:, :-1]], dim=1)
    high = torch.cat([right.floor() - guard, edges[:, 1:]], dim=1)  # exclusive
    period = torch.cat([right - left, edges[:, 1:] - edges[:, :-1]], dim=1)
    active = torch.cat([usable & ~fell_back[:, None], fell_back[:, None].expand(-1, fallback_windows)], dim=1)
    place = torch.cat([places[:, :cycles], places[:, places.shape[1] - fallback_windows :]], dim=1)
    active = active & (high > low)
    low, high, period = (torch.where(active, value, 0.0) for value in (low, high, period))
    if mode == "cycle":
        active = active & (place < cycle_probability)
        begin, length = low, high - low
    else:
        length = torch.minimum((share.float()[:, None] * period).floor(), high - low)
        begin = torch.minimum(low + (place * (high - low - length + 1)).floor(), high - length)
    masked = _intervals(begin, begin + length, active, samples)
    kept = _intervals(peaks.floor() - guard, peaks.ceil() + guard + 1, inside, samples)
    return view._replace(gain=gain * (~masked | kept)), fell_back


def shift(view: CardiacView, offset: Tensor) -> CardiacView:
    """Move the view's content by whole samples, with zeros where nothing moves in.

    Not circular: a wrap-around would join the record's end to its beginning, making an impossible beat. Lead-locked;
    keeps lead identities.

    Args:
        view: The view so far.
        offset: int64 ``(batch,)``; positive moves to the right (later).
    """
    samples = view.gain.shape[1]
    source = torch.arange(samples, device=offset.device) - offset[:, None]
    inside = (source >= 0) & (source < samples)
    return CardiacView(
        start=view.start - offset * view.step,
        step=view.step,
        gain=view.gain.gather(1, source.clamp(0, samples - 1)) * inside,
        r_peaks=view.r_peaks + offset[:, None],
    )


def render(signal: Tensor, view: CardiacView) -> Tensor:
    """Read the signal through the view.

    Between samples the signal is interpolated by Keys' cubic (a = -1/2); on samples it is returned exactly.

    Differs from official code: LCD, LFBT and ELIC of the same authors stretch the crop by an FFT, which treats the
    crop as one period of a periodic signal and rings at both of its ends.

    Args:
        signal: float ``(batch, leads, samples)``.
        view: View of as many samples.

    Returns:
        float ``(batch, leads, samples)``; in memory the leads of one sample are adjacent.
    """
    batch, leads, samples = signal.shape
    position = view.start[:, None] + view.step[:, None] * torch.arange(samples, device=signal.device)
    base = position.floor()
    weights = _cubic_weights(position - base)
    weights = (weights * view.gain).to(signal.dtype)
    # Rows of all leads at one instant: four contiguous reads per output sample whatever the number of leads.
    rows = signal.transpose(1, 2).reshape(batch * samples, leads)
    first = torch.arange(batch, device=signal.device)[:, None] * samples
    output = signal.new_zeros(batch * samples, leads)
    for tap, weight in enumerate(weights):
        index = (base.long() + (tap - 1)).clamp(0, samples - 1) + first
        output.addcmul_(rows.index_select(0, index.flatten()), weight.reshape(-1, 1))
    return output.view(batch, samples, leads).transpose(1, 2)


def render_mask(sample_mask: Tensor, view: CardiacView) -> Tensor:
    """The mask of valid samples, read through the view at the nearest sample; shifted-in samples repeat its edge.

    Args:
        sample_mask: ``(batch, samples)``.
        view: View of as many samples.

    Returns:
        bool ``(batch, samples)``.
    """
    samples = sample_mask.shape[1]
    position = view.start[:, None] + view.step[:, None] * torch.arange(samples, device=sample_mask.device)
    return sample_mask.bool().gather(1, position.round().long().clamp(0, samples - 1))


def _intervals(begin: Tensor, end: Tensor, active: Tensor, samples: int) -> Tensor:
    """Bool ``(batch, samples)``: inside any active ``[begin, end)``, of float ``(batch, intervals)``."""
    one = active.to(torch.float32)
    begin, end = (torch.where(active, x, 0.0).clamp(0, samples).long() for x in (begin, end))
    # Every interval adds one at its begin and subtracts it at its end; the running sum counts active intervals.
    change = torch.zeros(len(one), samples + 1, device=one.device)
    change = change.scatter_add(1, begin, one).scatter_add(1, end, -one)
    return change.cumsum(1)[:, :samples] > 0.5


def _cubic_weights(fraction: Tensor) -> Tensor:
    """Weights of the samples at -1, 0, 1, 2 around a position ``fraction`` beyond 0: ``(4, ...)``."""
    t = fraction
    return torch.stack(
        [
            ((-0.5 * t + 1.0) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1.0,
            ((-1.5 * t + 2.0) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        ]
    )
