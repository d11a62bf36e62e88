"""Heartbeats as tokens: a window around each R peak, in one gather for the whole batch; sentences of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_hf.nn.tokenizers import gather_tokens

__all__ = [
    "BeatSentence",
    "BeatTokens",
    "beat_sentence",
    "evenly_spaced_peaks",
    "slice_beats",
    "valid_peaks",
    "without_missing_leads",
]


class BeatTokens(NamedTuple):
    """Beats of a batch, lead-major: token ``lead * beats_per_lead + beat``.

    Attributes:
        beats: ``(batch, leads * beats_per_lead, beat_length)`` in the unit of the signal; zeros for empty
            slots.
        time_ids: int64 ``(batch, leads * beats_per_lead)``: second of the record the R peak is in, from 1; 0 for
            empty slots.
        beat_mask: bool ``(batch, leads * beats_per_lead)``: False for empty slots.
    """

    beats: Tensor
    time_ids: Tensor
    beat_mask: Tensor


class BeatSentence(NamedTuple):
    """Beats of a batch in a row: those of the first lead that is there, then those of the next, without gaps.

    Attributes:
        beats: float ``(batch, length, beat_length)``; zeros after the last beat.
        lead_ids: int64 ``(batch, length)``: row of the lead, from 1; 0 after the last beat.
        time_ids: int64 ``(batch, length)``: second of the record the R peak is in, from 1; 0 after the last beat.
        beat_mask: bool ``(batch, length)``: False after the last beat.
    """

    beats: Tensor
    lead_ids: Tensor
    time_ids: Tensor
    beat_mask: Tensor


def evenly_spaced_peaks(num_samples: int, beats_per_lead: int, device: torch.device) -> Tensor:
    """Replacement for R peaks where none were found: int64 ``(beats_per_lead,)`` from first to last sample."""
    steps = torch.arange(beats_per_lead, device=device)
    return steps * (num_samples - 1) // max(beats_per_lead - 1, 1)


def valid_peaks(
    r_peaks: Tensor | None, num_samples: int, beats_per_lead: int, sample_mask: Tensor, width: int
) -> Tensor:
    """Peaks that can be sliced: ascending, inside the signal and not in its padding.

    Args:
        r_peaks: int64 ``(batch, any)`` ascending, then -1; None if nothing is known.
        num_samples: Length of the signal.
        beats_per_lead: Number of evenly spaced peaks for a record without any; 0 for none.
        sample_mask: bool ``(batch, num_samples)``: False for padding.
        width: Columns of the result, at least ``beats_per_lead``.

    Returns:
        int64 ``(batch, width)``, -1 after the last peak.
    """
    device, batch = sample_mask.device, sample_mask.shape[0]
    spaced = torch.full((width,), -1, device=device)
    spaced[:beats_per_lead] = evenly_spaced_peaks(num_samples, beats_per_lead, device)
    peaks = spaced.expand(batch, -1)
    if r_peaks is not None:
        missing = max(width - r_peaks.shape[1], 0)
        given = F.pad(r_peaks, (0, missing), value=-1)[:, :width]
        inside = (given >= 0) & (given < num_samples)
        peaks = torch.where(inside.any(1, keepdim=True), given.masked_fill(~inside, -1), peaks)
    there = (peaks >= 0) & sample_mask.gather(1, peaks.clamp(0, num_samples - 1))
    # Dropped peaks, such as those in padding on the left, must not leave gaps.
    kept = torch.where(there, peaks, num_samples).sort(dim=1).values
    return kept.masked_fill(kept == num_samples, -1)


def slice_beats(
    signal: Tensor,
    r_peaks: Tensor | None = None,
    *,
    beats_per_lead: int,
    beat_length: int,
    sampling_rate: float,
    sample_mask: Tensor | None = None,
    evenly_spaced: int | None = None,
) -> BeatTokens:
    """Cut one window per beat and lead, the same samples in every lead.

    A beat reaches from half-way to the previous R peak to half-way to the next (at either end of the list at most
    half a window away from its peak); where that is longer than a window, the window around the peak is taken. It is
    placed so that the peak is in the middle of the window, unless more than half a window precedes it. Everything
    else is zero. No loop over records, leads or beats, and no host sync.

    Official code: ``QRSTokenizer.py``; equal to it to the last bit, including its quirks: only the first
    ``beats_per_lead`` beats are kept, a peak at sample 0 has time id 0, and a record without peaks is cut evenly.

    Differs from official code: records are never dropped (it drops those whose maximum is 0, but not their labels).

    Args:
        signal: float ``(batch, leads, samples)``.
        r_peaks: int64 ``(batch, any)`` ascending, then -1.
        beats_per_lead: Slots per lead.
        beat_length: Samples of a window.
        sampling_rate: Hertz.
        sample_mask: ``(batch, samples)``, 0 for padding: peaks in it are ignored, its samples are zero.
        evenly_spaced: Beats per lead of a record without peaks, at most ``beats_per_lead``, which it is if not given.

    Returns:
        The tokens.
    """
    batch, leads, samples = signal.shape
    if sample_mask is None:
        real = torch.ones(batch, samples, dtype=torch.bool, device=signal.device)
    else:
        real = sample_mask.bool()
        signal = torch.where(real.unsqueeze(1), signal, 0.0)
    slots, half = beats_per_lead, beat_length // 2
    # One more peak than slots, because the end of the last slot's beat depends on the next peak.
    spaced = slots if evenly_spaced is None else evenly_spaced
    peaks = valid_peaks(r_peaks, samples, spaced, real, slots + 1)
    peak, following = peaks[:, :slots], peaks[:, 1:]
    previous = F.pad(peak[:, :-1], (1, 0), value=-1)
    is_beat, is_first, is_last = peak >= 0, previous < 0, following < 0

    start = torch.where(is_first, (peak - half).clamp(min=0), (previous + peak) // 2)
    stop = torch.where(is_last, (peak + half).clamp(max=samples), (peak + following) // 2)
    stop = torch.where(is_first & is_last, (start + beat_length).clamp(max=samples), stop)
    too_long = stop - start > beat_length
    start = torch.where(too_long, (peak - half).clamp(min=0), start)
    stop = torch.where(too_long, (start + beat_length).clamp(max=samples), stop)
    shift = (half - (peak - start)).clamp(min=0)

    column = torch.arange(beat_length, device=signal.device)
    source = start[..., None] + column - shift[..., None]
    inside = is_beat[..., None] & (column >= shift[..., None]) & (source < stop[..., None])
    # Indices outside read a column of zeros appended to the signal, which is cheaper than masking the windows
    # afterwards.
    index = torch.where(inside, source, samples).flatten(1).unsqueeze(1).expand(-1, leads, -1)
    windows = F.pad(signal, (0, 1)).gather(2, index)
    beats = windows.unflatten(2, (slots, beat_length)).flatten(1, 2)

    seconds = torch.div(peak, sampling_rate, rounding_mode="floor").long() + 1
    time_ids = torch.where(is_beat & (peak > 0), seconds, 0)
    return BeatTokens(beats, time_ids.repeat(1, leads), is_beat.repeat(1, leads))


def without_missing_leads(tokens: BeatTokens, lead_mask: Tensor | None) -> BeatTokens:
    """Beats of missing leads as empty slots.

    Args:
        tokens: Lead-major.
        lead_mask: ``(batch, leads)``, 0 for missing leads; None if there are none.
    """
    if lead_mask is None:
        return tokens
    there = lead_mask.bool().repeat_interleave(tokens.beat_mask.shape[1] // lead_mask.shape[1], dim=1)
    # Selected instead of multiplied, because a missing lead may hold anything, even NaN. Zeros, because a
    # convolution over tokens shows a lead's first and last beats to its neighbours.
    beats = torch.where(there.unsqueeze(-1), tokens.beats, 0.0)
    return BeatTokens(beats, torch.where(there, tokens.time_ids, 0), tokens.beat_mask & there)


def beat_sentence(tokens: BeatTokens, leads: int, length: int) -> BeatSentence:
    """Close the gaps that empty slots leave, and cut or pad to ``length`` tokens.

    Official code: HeartLang's ``QRSTokenizer.py``, of the leads that a record has: a lead without beats takes no
    room, and the beats of the last leads are lost where there are more than fit.

    Args:
        tokens: Lead-major.
        leads: Their leads.
        length: Tokens of the result.
    """
    total = tokens.beat_mask.shape[1]
    number = torch.arange(total, device=tokens.beats.device)
    # Empty slots sort behind all beats; distinct keys need no stable sort.
    place = torch.where(tokens.beat_mask, number, number + total).sort(dim=1).values[:, :length]
    index, real = place % total, place < total
    beats = torch.where(real.unsqueeze(-1), gather_tokens(tokens.beats, index), 0.0)
    lead_ids = torch.where(real, index // (total // leads) + 1, 0)
    # A beat at sample 0 is in the first second here; CLEAR-HUG's code takes it for none.
    time_ids = torch.where(real, tokens.time_ids.gather(1, index).clamp(min=1), 0)
    missing = max(length - total, 0)
    return BeatSentence(
        F.pad(beats, (0, 0, 0, missing)),
        F.pad(lead_ids, (0, missing)),
        F.pad(time_ids, (0, missing)),
        F.pad(real, (0, missing)),
    )
