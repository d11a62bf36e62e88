"""Views made on the batch against the same views made record by record in numpy, in one run.

Both do the whole of Frequency Dynamic Augmentation (importance, smoothed noise, filter) for two views of each record;
results are compared before anything is timed. They take turns, repeat by repeat, so a busy machine slows both alike.

    python benchmarks/bench_views.py [--records 64] [--leads 8] [--samples 1000] [--rate 100] [--repeats 7]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time

import numpy as np
import numpy.typing as npt
import torch

from ecg_hf.nn.views.frequency import frequency_noise_size, frequency_views

Array = npt.NDArray[np.float32]


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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("records", 64), ("leads", 8), ("samples", 1000), ("rate", 100), ("repeats", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    generator = torch.Generator().manual_seed(0)
    shape = (options.records, options.leads, options.samples)
    beats = torch.arange(options.samples).remainder(options.rate * 0.8).sub(20).div(3).square().neg().exp()
    signal = beats + 0.05 * torch.randn(shape, generator=generator)
    size = frequency_noise_size(options.samples, options.rate)
    gain, phase = torch.randn(2, options.records, 2, size, generator=generator).unbind()

    def batched() -> torch.Tensor:
        return frequency_views(signal, gain, phase, sampling_rate=options.rate)

    def one_by_one() -> Array:
        return np.stack(
            [
                np.stack([numpy_view(x, g, p, options.rate) for g, p in zip(gains, phases, strict=True)])
                for x, gains, phases in zip(signal.numpy(), gain.numpy(), phase.numpy(), strict=True)
            ]
        )

    difference = float(np.abs(batched().numpy() - one_by_one()).max())
    if difference > 1e-3:
        raise SystemExit(f"the two disagree by {difference:.2g}")
    times: dict[str, list[float]] = {"batched": [], "numpy": []}
    for _ in range(options.repeats):
        for name, function in (("batched", batched), ("numpy", one_by_one)):
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    report = {
        "frequency_views_records_per_s": options.records / medians["batched"],
        "frequency_views_numpy_records_per_s": options.records / medians["numpy"],
        "frequency_views_ratio": medians["numpy"] / medians["batched"],
        "largest_difference": difference,
    }
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:40s} {value:12.4g}")


if __name__ == "__main__":
    main()
