"""How fast training batches come out of a built dataset, against a bare numpy memory map of the same samples.

    python benchmarks/bench_loading.py [--records-100 20000] [--records-500 2000] [--json]

Writes a dataset of random 12-lead recordings at 100 Hz (1,000 samples) and at 500 Hz (5,000 samples) in exactly the
form ``build_dataset`` writes, and the same integers as one ``.npy`` file. Both are then read in shuffled batches of
64, int16 to float32: the memory map by fancy indexing and ``astype``, the dataset by ``BatchDecoder`` (which also
applies gain and baseline, so it gives millivolts). Files are warm in the page cache; the two take turns, and the best
of several passes counts for each.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ecg_hf.data.building import build_dataset, load_built
from ecg_hf.data.decoding import BatchDecoder
from ecg_hf.data.schema import Entry, SourceRow
from ecg_hf.data.sources import SOURCES
from ecg_hf.data.sources.base import Plan, Source, SourceInfo
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.leads import STANDARD_LEADS

BATCH = 64
PASSES = 7


class RandomSource(Source):
    """Recordings of random integers: the content does not matter here, the layout does."""

    info = SourceInfo("random", "", "", "", "", "", {}, needs_data_dir=False)

    def __init__(self, data_dir: Path | None = None, *, records: int = 1000, samples: int = 1000) -> None:
        super().__init__(data_dir)
        self.records, self.samples = records, samples

    def options(self) -> dict[str, int]:
        """The options in force."""
        return {"records": self.records, "samples": self.samples}

    def plan(self) -> Plan:
        """One entry per recording."""
        return Plan(
            [Entry(f"random-{i}", str(i), report="sinus rhythm. normal ecg.") for i in range(self.records)]
        )

    def read(self, entry: Entry) -> SourceRow:
        """Draw one recording."""
        generator = np.random.default_rng(int(entry.path))
        samples = generator.integers(-3000, 3000, (12, self.samples), dtype=np.int16)
        gain, baseline = np.full(12, 1000.0), np.zeros(12, np.int32)
        return SourceRow(entry, DigitalRecord(samples, gain, baseline, self.samples / 10, STANDARD_LEADS))


def batches(records: int, seed: int, most: int) -> list[npt.NDArray[np.int64]]:
    """Shuffled batches of one epoch, or the first ``most`` of them."""
    order = np.random.default_rng(seed).permutation(records)
    return [order[i : i + BATCH] for i in range(0, records - BATCH + 1, BATCH)][:most]


def rate(read: Callable[[npt.NDArray[np.int64]], object], work: list[npt.NDArray[np.int64]]) -> float:
    """Records per second of one pass."""
    start = time.perf_counter()
    for indices in work:
        read(indices)
    return len(work) * BATCH / (time.perf_counter() - start)


def compare(records: int, samples: int, folder: Path) -> dict[str, float | int | str]:
    """Both readers on the same recordings, in turns."""
    SOURCES["random"] = RandomSource
    build_dataset("random", None, folder / "dataset", records=records, samples=samples, progress=False)
    dataset = load_built(folder / "dataset")
    stored = np.lib.format.open_memmap(
        str(folder / "samples.npy"), mode="w+", dtype=np.int16, shape=(records, 12, samples)
    )
    for i, row in enumerate(iterate_samples(dataset.data.table.column("ecg"), samples)):
        stored[i] = row
    stored.flush()
    del stored
    # The plain array view: indexing the np.memmap subclass itself is slower, which would flatter the dataset.
    memory_map = np.asarray(np.load(folder / "samples.npy", mmap_mode="r"))
    started = time.perf_counter()
    decoder = BatchDecoder(dataset)
    opening = time.perf_counter() - started
    check = np.arange(min(records, BATCH))
    if not np.array_equal(decoder(check).signal, memory_map[check].astype(np.float32) / np.float32(1000)):
        raise SystemExit("the two readers disagree")

    most = 320 if samples <= 1000 else 96
    best = {"memmap": 0.0, "dataset": 0.0}
    for turn in range(PASSES):
        work = batches(records, turn, most)
        best["memmap"] = max(best["memmap"], rate(lambda i: memory_map[i].astype(np.float32), work))
        best["dataset"] = max(best["dataset"], rate(decoder, work))
    return {
        "layout": f"12 x {samples}",
        "records": records,
        "memmap_records_per_s": round(best["memmap"]),
        "dataset_records_per_s": round(best["dataset"]),
        "ratio": round(best["dataset"] / best["memmap"], 3),
        "decoder_opening_ms": round(1000 * opening, 1),
    }


def iterate_samples(column: object, samples: int) -> Iterator[npt.NDArray[np.int16]]:
    """The integers of each row."""
    for chunk in column.chunks:  # type: ignore[attr-defined]
        for value in chunk.field("samples"):
            yield np.frombuffer(value.as_buffer(), np.int16).reshape(12, samples)


def main() -> None:
    """Run both layouts and print one line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records-100", type=int, default=20_000, help="recordings of 12 x 1000 samples")
    parser.add_argument("--records-500", type=int, default=2_000, help="recordings of 12 x 5000 samples")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    arguments = parser.parse_args()
    results = []
    for records, samples in ((arguments.records_100, 1000), (arguments.records_500, 5000)):
        if records < BATCH:
            sys.exit(f"at least {BATCH} records are needed")
        with tempfile.TemporaryDirectory() as folder:
            results.append(compare(records, samples, Path(folder)))
        if not arguments.json:
            r = results[-1]
            print(
                f"{r['layout']}, batches of {BATCH}: memmap {r['memmap_records_per_s']:,}/s, dataset "
                f"{r['dataset_records_per_s']:,}/s, ratio {r['ratio']:.2f} (opening {r['decoder_opening_ms']} ms)"
            )
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
