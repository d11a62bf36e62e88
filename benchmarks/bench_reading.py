"""Reading speed against wfdb on the same format-16 files, in one run.

Writes 12-lead, 10 s, 500 Hz records into a temporary folder (or takes a folder of real ones), reads each
with every reader, and prints the median time per record and its ratio to ``wfdb.rdsamp``. Readers take
turns, repeat by repeat, so a busy machine slows all of them alike. ``read_record`` includes checksum
verification and quality notes, which wfdb does not do.

    python benchmarks/bench_reading.py [--data-dir records500] [--records 100] [--repeats 15]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import wfdb

from ecg_hf.signal import STANDARD_LEADS, read_digital, read_record

BASELINE = "wfdb.rdsamp"
READERS: dict[str, Callable[[str], object]] = {
    BASELINE: wfdb.rdsamp,
    "wfdb.rdrecord(physical=False)": lambda path: wfdb.rdrecord(path, physical=False),
    "ecg_hf.read_record": read_record,
    "ecg_hf.read_record, no checksum": lambda path: read_record(path, verify_checksum=False),
    "ecg_hf.read_digital": read_digital,
}


def write_records(folder: Path, count: int, samples: int = 5000) -> list[str]:
    """Noisy spike trains in PTB-XL's layout: format 16, 1000 units per millivolt."""
    generator = np.random.default_rng(0)
    paths = []
    for index in range(count):
        time_s = np.arange(samples) / 500.0
        beats = np.exp(-0.5 * (((time_s + generator.uniform()) % 0.8 - 0.4) / 0.012) ** 2)
        first_two = np.outer([0.7, 1.0], beats) + 0.02 * generator.standard_normal((2, samples))
        one, two = np.round(first_two * 500) * 2
        limb = np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2])
        chest = np.outer(generator.uniform(-1.5, 1.5, 6), beats) + 0.02 * generator.standard_normal(
            (6, samples)
        )
        digital = np.concatenate([limb, np.round(chest * 1000)]).astype(np.int64).T
        name = f"{index:05d}_hr"
        wfdb.wrsamp(
            name,
            fs=500,
            units=["mV"] * 12,
            sig_name=list(STANDARD_LEADS),
            d_signal=digital,
            fmt=["16"] * 12,
            adc_gain=[1000.0] * 12,
            baseline=[0] * 12,
            write_dir=str(folder),
        )
        paths.append(str(folder / name))
    return paths


def measure(paths: list[str], repeats: int) -> dict[str, float]:
    """Median over the repeats of the seconds per record, for each reader."""
    seconds: dict[str, list[float]] = {name: [] for name in READERS}
    for path in paths:  # page cache, imports and lookup tables
        for read in READERS.values():
            read(path)
    for _ in range(repeats):
        for name, read in READERS.items():
            start = time.perf_counter()
            for path in paths:
                read(path)
            seconds[name].append((time.perf_counter() - start) / len(paths))
    return {name: statistics.median(values) for name, values in seconds.items()}


def largest_difference(paths: list[str]) -> float:
    """Largest difference from wfdb's values rounded to float32, in millivolts."""
    return max(
        float(np.nanmax(np.abs(wfdb.rdsamp(path)[0].T.astype(np.float32) - read_record(path).signal)))
        for path in paths
    )


def main() -> None:
    """Run the comparison and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, help="folder with .hea files, such as PTB-XL's records500")
    parser.add_argument("--records", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.data_dir is None:
            paths = write_records(Path(scratch), options.records)
        else:
            headers = sorted(options.data_dir.rglob("*.hea"))[: options.records]
            paths = [str(header.with_suffix("")) for header in headers]
        medians = measure(paths, options.repeats)
        print(f"{len(paths)} records, {options.repeats} repeats, readers alternating")
        print(f"{'reader':34s} {'ms/record':>10s} {'times faster':>13s}")
        for name, median in medians.items():
            print(f"{name:34s} {median * 1e3:10.3f} {medians[BASELINE] / median:13.1f}")
        print(f"largest difference from wfdb: {largest_difference(paths):g} mV")


if __name__ == "__main__":
    main()
