"""How fast training batches come out of a built dataset, against a bare numpy memory map of the same samples.

Writes a dataset of random 12-lead recordings at 100 Hz (1,000 samples) and at 500 Hz (5,000 samples) in exactly the
form ``build_dataset`` writes, and the same integers as one ``.npy`` file. Both are then read in shuffled batches of
64, int16 to float32: the memory map by fancy indexing and ``astype``, the dataset by ``BatchDecoder`` (which also
applies gain and baseline, so it gives millivolts), and as a stream of Parquet files. The page cache is warm.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ecg_hf.data.building import build_dataset, load_built
from ecg_hf.data.decoding import BatchDecoder
from ecg_hf.data.parquet import export_parquet
from ecg_hf.data.schema import Entry, SourceRow
from ecg_hf.data.sources import SOURCES
from ecg_hf.data.sources.base import Plan, Source, SourceInfo
from ecg_hf.data.streaming import RowStream
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.leads import STANDARD_LEADS
from rows import Row, alternate

BATCH = 64


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


def compare(records: int, samples: int, most: int, folder: Path) -> Iterator[Row]:
    """Shuffled and streamed batches of one layout."""
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
    decoder = BatchDecoder(dataset)
    check = np.arange(min(records, BATCH))
    if not np.array_equal(decoder(check).signal, memory_map[check].astype(np.float32) / np.float32(1000)):
        raise SystemExit("the two readers disagree")
    work = batches(records, 0, most)

    def mapped() -> None:
        for indices in work:
            memory_map[indices].astype(np.float32)

    def decoded() -> None:
        for indices in work:
            decoder(indices)

    common = {"per": BATCH * len(work), "item": "record", "unit": "us", "called": "plain memmap"}
    yield alternate(f"shuffled batches, 12 x {samples}", decoded, mapped, least=0.9, **common)

    export_parquet(folder / "dataset", folder / "parquet", progress=False)
    stream = RowStream.open([folder / "parquet"])

    def streamed() -> None:
        for batch, _ in zip(stream.batches(0, BATCH), work, strict=False):
            BatchDecoder(batch)()

    yield alternate(
        f"batches streamed from Parquet, 12 x {samples}", streamed, mapped, least=0.5, rounds=5, **common
    )


def iterate_samples(column: object, samples: int) -> Iterator[npt.NDArray[np.int16]]:
    """The integers of each row."""
    for chunk in column.chunks:  # type: ignore[attr-defined]
        for value in chunk.field("samples"):
            yield np.frombuffer(value.as_buffer(), np.int16).reshape(12, samples)


def rows(quick: bool) -> Iterator[Row]:
    """Records of 10 s at 100 Hz and at 500 Hz."""
    for records, samples, most in ((4_000, 1000, 60), (1_000, 5000, 15)):
        with tempfile.TemporaryDirectory() as folder:
            yield from compare(records if quick else 5 * records, samples, most, Path(folder))
