"""How processor time grows with records, seconds of signal and leads: docs/growth.svg and its figures.

    python benchmarks/growth.py [--quick] [--output docs/growth.svg]

A line of slope one in the logarithmic panels is work proportional to its size. Each point is the shortest of three
runs, in processor time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import wfdb

from bench_loading import RandomSource, batches
from ecg_hf import read_record
from ecg_hf.data.building import build_dataset, load_built
from ecg_hf.data.decoding import BatchDecoder
from ecg_hf.data.sources import SOURCES
from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.signal.beats.beats import detect_beats_in_batch
from ecg_hf.signal.beats.measures import measure_records
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.synthetic import simulate
from rows import seconds

RATE_HZ = 500.0
Curves = dict[str, list[tuple[float, float]]]


def spent(work: Callable[[], object], rounds: int = 3) -> float:
    """Processor seconds of the shortest run; one more goes before."""
    work()
    return min(seconds(work, rounds))


def by_records(counts: tuple[int, ...]) -> Curves:
    """Building a dataset, opening it, and an epoch of shuffled batches."""
    SOURCES["random"] = RandomSource
    curves: Curves = {"build a dataset": [], "open it": [], "an epoch of shuffled batches": []}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            build_dataset("random", None, Path(folder, "built"), records=count, samples=1000, progress=False)
            curves["build a dataset"].append((count, time.process_time() - start))
            dataset = load_built(Path(folder, "built"))
            curves["open it"].append((count, spent(lambda dataset=dataset: BatchDecoder(dataset))))
            decoder, work = BatchDecoder(dataset), batches(count, 0, count)
            curves["an epoch of shuffled batches"].append(
                (count, spent(lambda decoder=decoder, work=work: [decoder(one) and None for one in work]))
            )
    return curves


def of_one_record(shapes: Iterator[tuple[float, int, float]]) -> Curves:
    """Reading, preparing and measuring one record of each ``(axis value, leads, seconds)``."""
    curves: Curves = {"read_record": [], "extraction to 100 Hz": [], "R peaks": [], "hand-made features": []}
    for value, leads, duration_s in shapes:
        names = STANDARD_LEADS[:leads]
        signal = simulate(1, seed=0, sampling_rate=RATE_HZ, duration_s=duration_s).signal[:, :leads]
        extractor = EcgFeatureExtractor(sampling_rate=100, lead_names=names, duration_s=None)
        with tempfile.TemporaryDirectory() as folder:
            wfdb.wrsamp(
                "r",
                fs=RATE_HZ,
                units=["mV"] * leads,
                sig_name=list(names),
                d_signal=np.round(1000 * signal[0].T).astype(np.int64),
                fmt=["16"] * leads,
                adc_gain=[1000.0] * leads,
                baseline=[0] * leads,
                write_dir=folder,
            )
            path = f"{folder}/r"
            works: dict[str, Callable[[], object]] = {
                "read_record": lambda path=path: read_record(path),
                "extraction to 100 Hz": lambda x=signal, e=extractor, n=names: e(x, RATE_HZ, n),
                "R peaks": lambda x=signal: detect_beats_in_batch(x, RATE_HZ),
                "hand-made features": lambda x=signal, n=names: measure_records(x, RATE_HZ, n),
            }
            for name, work in works.items():
                curves[name].append((value, spent(work)))
    return curves


def slope(points: list[tuple[float, float]]) -> float:
    """Exponent of the growth between the first and the last point."""
    (first, low), (last, high) = points[0], points[-1]
    return float(np.log(high / low) / np.log(last / first))


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the ends of each range only")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs" / "growth.svg")
    options = parser.parse_args()
    ends = slice(None, None, 4 if options.quick else 1)
    counts, lengths, leads = (1000, 2000, 5000, 10_000, 20_000), (10, 20, 60, 150, 300), (1, 2, 4, 8, 12)
    panels = {
        "records of 10 s at 100 Hz, 12 leads": by_records(counts[ends]),
        "seconds of one record, 12 leads, 500 Hz": of_one_record((s, 12, float(s)) for s in lengths[ends]),
        "leads of one record of 10 s at 500 Hz": of_one_record((n, n, 10.0) for n in leads[ends]),
    }
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for name, points in curves.items():
            axis.loglog(*zip(*points, strict=True), marker="o", label=f"{name} (slope {slope(points):.2f})")
            print(f"{title}: {name}: " + ", ".join(f"{x:g}: {1e3 * y:.3g} ms" for x, y in points))
        axis.set_xlabel(title)
        axis.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes[0].set_ylabel("processor seconds")
    figure.savefig(options.output, metadata={"Date": None})


if __name__ == "__main__":
    main()
