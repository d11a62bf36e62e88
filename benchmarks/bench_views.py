"""Views made on the batch against the same views made record by record in numpy, in one run.

Both do the whole of Frequency Dynamic Augmentation (importance, smoothed noise, filter) for two views of each record;
results are compared before anything is timed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from ecg_hf.nn.views.frequency import frequency_noise_size, frequency_views
from rows import Row, alternate

Array = npt.NDArray[np.float32]

RECORDS, LEADS, SAMPLES, RATE_HZ = 64, 8, 1000, 100


def numpy_view(signal: Array, gain_noise: Array, phase_noise: Array, rate: float) -> Array:
    """One view of one record ``(leads, samples)``, as a data set's ``__getitem__`` would make it."""
    samples = signal.shape[1]
    spectrum = np.fft.rfft(signal)
    bins, step = spectrum.shape[1], rate / samples
    window = 2 * (round(0.5 / step) // 2) + 1
    box = np.ones(window)
    energy = np.convolve((np.abs(spectrum) ** 2).mean(0), box, "same") / np.convolve(
        np.ones(bins), box, "same"
    )
    low, high = math.ceil(0.5 / step - 1e-6), min(bins, math.floor(40.0 / step + 1e-6) + 1)
    level = np.log(energy[low:high] + 1e-6 * energy[low:high].mean())
    weakest, strongest = np.percentile(level, [5, 95])
    importance = np.zeros(bins)
    importance[low:high] = np.clip((level - weakest) / (strongest - weakest), 0.0, 1.0)
    width = round(1.0 / step)
    smooth = np.ones(width) / math.sqrt(width)
    gain = np.clip((1 - importance) * np.convolve(gain_noise, smooth, "valid"), -1.0, 1.0)
    phase = 0.2 * math.pi * (1 - importance) * np.clip(np.convolve(phase_noise, smooth, "valid"), -2.0, 2.0)
    gain[0] = phase[0] = 0.0
    if samples % 2 == 0:
        phase[-1] = 0.0
    return np.fft.irfft(spectrum * np.exp(gain + 1j * phase), n=samples)


def rows(quick: bool) -> Iterator[Row]:
    """Two views of 64 records of eight leads."""
    generator = torch.Generator().manual_seed(0)
    beats = torch.arange(SAMPLES).remainder(RATE_HZ * 0.8).sub(20).div(3).square().neg().exp()
    signal = beats + 0.05 * torch.randn((RECORDS, LEADS, SAMPLES), generator=generator)
    size = frequency_noise_size(SAMPLES, RATE_HZ)
    gain, phase = torch.randn(2, RECORDS, 2, size, generator=generator).unbind()

    def batched() -> torch.Tensor:
        return frequency_views(signal, gain, phase, sampling_rate=RATE_HZ)

    def one_by_one() -> Array:
        return np.stack(
            [
                np.stack([numpy_view(x, g, p, RATE_HZ) for g, p in zip(gains, phases, strict=True)])
                for x, gains, phases in zip(signal.numpy(), gain.numpy(), phase.numpy(), strict=True)
            ]
        )

    difference = float(np.abs(batched().numpy() - one_by_one()).max())
    if difference > 1e-3:
        raise SystemExit(f"the two disagree by {difference:.2g}")
    yield alternate(
        "two frequency views of 8 x 1000",
        batched,
        one_by_one,
        "record by record in numpy",
        per=RECORDS,
        item="record",
        rounds=7 if quick else 15,
        operators=True,
    )
