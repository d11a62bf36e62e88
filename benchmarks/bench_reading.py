"""Reading WFDB records and building a dataset of them, against wfdb on the same format-16 files.

Twelve leads of 10 s at 500 Hz. Checksums are verified and signals looked through for what is odd (quality notes),
which wfdb does not do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import wfdb
from datasets import Array2D, Dataset, Features

from ecg_hf import read_records
from ecg_hf.data import build_dataset
from ecg_hf.signal import STANDARD_LEADS, read_digital, read_record
from rows import Row, alternate


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


def rows(quick: bool) -> Iterator[Row]:
    """One record at a time, a folder at once, and a dataset built from a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "records")
        folder.mkdir()
        paths = write_records(folder, 60 if quick else 400)
        difference = max(
            float(np.nanmax(np.abs(wfdb.rdsamp(path)[0].T.astype(np.float32) - read_record(path).signal)))
            for path in paths[:20]
        )
        if difference > 1e-6:
            raise SystemExit(f"the two readers disagree by {difference:g} mV")

        def one_by_one() -> None:
            for path in paths:
                wfdb.rdsamp(path)

        common = {"called": "wfdb.rdsamp", "per": len(paths), "item": "record", "rounds": 9 if quick else 25}
        yield alternate(
            "read_record, 12 x 5000, checksums verified",
            lambda: [read_record(path) and None for path in paths],
            one_by_one,
            least=15.0,
            **common,
        )
        yield alternate(
            "read_digital of the same",
            lambda: [read_digital(path) and None for path in paths],
            one_by_one,
            **common,
        )
        yield alternate(
            "read_records of a folder",
            lambda: sum(1 for _ in read_records(paths)),
            one_by_one,
            least=25.0,
            **common,
        )
        places = iter(range(10**6))

        def build() -> None:
            build_dataset("folder", folder, Path(scratch, f"built-{next(places)}"), progress=False)

        def generate() -> None:
            features = Features({"signal": Array2D((12, 5000), "float32")})

            def records() -> Iterator[dict[str, np.ndarray]]:
                for path in paths:
                    yield {"signal": wfdb.rdsamp(path)[0].T.astype(np.float32)}

            Dataset.from_generator(
                records, features=features, cache_dir=str(Path(scratch, f"cache-{next(places)}"))
            )

        yield alternate(
            f"build a dataset of {len(paths)} records from files",
            build,
            generate,
            "wfdb and Dataset.from_generator",
            per=len(paths),
            item="record",
            rounds=3,
            least=20.0,
        )
