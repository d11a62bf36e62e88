"""ACL-ECG's views made on the batch against one record at a time in numpy.

The loop is what a data collator would do: crop, stretch by a cubic, mask each cycle, shift, record by record. Also
R peaks estimated on the batch against XQRS.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from ecg_hf.nn.r_peaks import estimate_r_peaks
from ecg_hf.nn.views.cardiac import mask_cycles, render, scale_crop, shift
from ecg_hf.processing.r_peaks import r_peak_table
from rows import Row, alternate

LEADS = ("II", "III", "V1", "V2", "V3", "V4", "V5", "V6")
WINDOWS = 4
BATCH, RATE_HZ = 64, 100.0


def synthetic_batch(batch: int, samples: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Records with spikes as beats, and the table of their R peaks."""
    rng = np.random.default_rng(0)
    signal = 0.02 * rng.normal(size=(batch, len(LEADS), samples)).astype(np.float32)
    table = np.full((batch, 40), -1)
    grid = np.arange(samples)
    for row in range(batch):
        peaks = np.arange(0.3 * rate, samples, rng.uniform(0.6, 1.1) * rate).astype(int)[:40]
        table[row, : len(peaks)] = peaks
        for peak in peaks:
            spike = np.exp(-(((grid - peak) / (0.015 * rate)) ** 2))
            signal[row] += spike * rng.uniform(0.5, 1.5, (len(LEADS), 1)).astype(np.float32)
    return signal, table


def batched_view(
    signal: torch.Tensor, peaks: torch.Tensor, noise: torch.Tensor, places: torch.Tensor, rate: float
) -> torch.Tensor:
    """One view of every record."""
    view = scale_crop(0.5 + 0.5 * noise[:, 0], noise[:, 1], signal.shape[-1], peaks)
    share = 0.1 + 0.2 * noise[:, 2]
    view, _ = mask_cycles(view, share, places, min_cycle=0.15 * rate, guard=2, fallback_windows=WINDOWS)
    return render(signal, shift(view, ((2 * noise[:, 3] - 1) * 0.5 * rate).round().long()))


def looped_view(
    signal: np.ndarray, peaks: np.ndarray, noise: np.ndarray, places: np.ndarray, rate: float
) -> np.ndarray:
    """The same, record by record; arrays inside a record are still whole."""
    samples = signal.shape[-1]
    output = np.zeros_like(signal)
    for row in range(len(signal)):
        ratio = 0.5 + 0.5 * noise[row, 0]
        start = noise[row, 1] * (1 - ratio) * (samples - 1)
        position = (start + ratio * np.arange(samples)).astype(np.float32)
        base = np.floor(position).astype(int)
        t = position - base
        taps = [signal[row][:, np.clip(base + d, 0, samples - 1)] for d in (-1, 0, 1, 2)]
        weights = (
            ((-0.5 * t + 1) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1,
            ((-1.5 * t + 2) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        )
        stretched = sum(tap * weight for tap, weight in zip(taps, weights, strict=True))
        beats = (peaks[row][peaks[row] >= 0] - start) / ratio
        share, covered, bounds = 0.1 + 0.2 * noise[row, 2], 0.0, []
        for cycle in range(len(beats) - 1):
            left, right = beats[cycle], beats[cycle + 1]
            if left >= 0 and right <= samples - 1 and right - left >= 0.15 * rate:
                covered += right - left
                bounds.append((math.ceil(left) + 3, math.floor(right) - 2, right - left, places[row, cycle]))
        if covered < 0.5 * samples:
            edges = np.round(np.linspace(0, samples, WINDOWS + 1)).astype(int)
            bounds = [
                (edges[w], edges[w + 1], edges[w + 1] - edges[w], places[row, w - WINDOWS])
                for w in range(WINDOWS)
            ]
        keep = np.ones(samples, np.float32)
        for low, high, period, place in bounds:
            length = min(math.floor(share * period), high - low)
            begin = low + math.floor(place * (high - low - length + 1))
            keep[begin : begin + length] = 0
        for beat in beats[(beats >= 0) & (beats <= samples - 1)]:
            keep[max(math.floor(beat) - 2, 0) : math.ceil(beat) + 3] = 1
        offset = round((2 * float(noise[row, 3]) - 1) * 0.5 * rate)
        source = np.arange(samples) - offset
        inside = (source >= 0) & (source < samples)
        output[row][:, inside] = (stretched * keep)[:, source[inside]]
    return output


def rows(quick: bool) -> Iterator[Row]:
    """Views and R peaks of 64 records."""
    samples = round(10 * RATE_HZ)
    signal, table = synthetic_batch(BATCH, samples, RATE_HZ)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(BATCH, 4, generator=generator)
    places = torch.rand(BATCH, 39 + WINDOWS, generator=generator)
    tensors = (torch.from_numpy(signal), torch.from_numpy(table), noise, places, RATE_HZ)
    arrays = (signal, table, noise.numpy(), places.numpy(), RATE_HZ)
    # Counts on both being the same thing; a sample of a record may fall on the other side of a rounding.
    difference = np.abs(batched_view(*tensors).numpy() - looped_view(*arrays))
    if not (difference > 1e-3).mean() < 1e-3:
        raise SystemExit(f"the two disagree by {difference.max():.2g}")
    yield alternate(
        "a cardiac view of 8 x 1000",
        lambda: batched_view(*tensors),
        lambda: looped_view(*arrays),
        "record by record in numpy",
        per=BATCH,
        item="record",
        operators=True,
    )
    yield alternate(
        "R peaks estimated for views, 8 x 1000",
        lambda: estimate_r_peaks(tensors[0], RATE_HZ, 40),
        lambda: r_peak_table(signal, RATE_HZ, LEADS, max_peaks=40, detector="xqrs"),
        "XQRS",
        per=BATCH,
        item="record",
        rounds=2 if quick else 5,
        operators=True,
    )
