"""Training rows streamed from Parquet: split over processes, shuffled in a buffer, mixed by weights, repeatable."""

from __future__ import annotations

import atexit
import gc
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, IterableDataset
from datasets.distributed import split_dataset_by_node

from ecg_hf.data.parquet import ParquetSplit, canonical_rows, load_parquet, open_parquet, readable
from ecg_hf.errors import ConfigurationError, NoReports

__all__ = ["SHUFFLE_BUFFER", "RowStream"]

logger = logging.getLogger(__name__)

SHUFFLE_BUFFER = 2000

# A run that ends by its steps leaves its files half read. If Arrow's scanner outlives the interpreter, it aborts the
# process (apache/arrow#45214), and a finished training is reported as failed: collect what is left before that.
atexit.register(gc.collect)


@dataclass(frozen=True)
class RowStream:
    """An endless and reproducible stream of training rows for each process.

    What process ``rank`` of ``world_size`` reads in an epoch is a function of the files and of the fields below, so a
    killed run continues by reading again and skipping the rows it has seen. (The library's own state of a
    stream leaves the contents of the shuffle buffer out.)

    An epoch is as many rows as all sources have together. Each source is shuffled (files, then rows in a buffer),
    divided among the processes by ``datasets.distributed.split_dataset_by_node`` and repeated without end: a process
    whose files hold fewer rows than another's starts over instead of waiting. So an epoch may leave out a few rows
    and repeat others, and always does if the weights differ from the shares of the sources.

    Attributes:
        sources: What to read.
        weights: Share of each source in the rows, adding up to one; by default their shares of all rows.
        seed: Of shuffling and mixing.
        buffer_size: Rows of each source a process keeps to draw from.
        rank: This process.
        world_size: Number of processes.
        needs_report: Leave out rows without a report.
    """

    sources: tuple[ParquetSplit, ...]
    weights: tuple[float, ...] = ()
    seed: int = 42
    buffer_size: int = SHUFFLE_BUFFER
    rank: int = 0
    world_size: int = 1
    needs_report: bool = False
    _counts: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _opened: tuple[IterableDataset, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.sources:
            raise ConfigurationError("no dataset was given")
        if self.buffer_size < 1:
            raise ConfigurationError("the shuffle buffer must hold at least one row", value=self.buffer_size)
        counts = tuple(map(self._usable, self.sources))
        for source, count in zip(self.sources, counts, strict=True):
            if not count and len(source):
                raise NoReports(
                    f"none of {len(source)} training records has a report",
                    path=source.folder,
                    value=len(source),
                )
            if not count:
                raise ConfigurationError("no training records to use", path=source.folder)
        object.__setattr__(self, "_counts", counts)
        opened = tuple(load_parquet(source.files, streaming=True) for source in self.sources)
        object.__setattr__(self, "_opened", opened)
        object.__setattr__(self, "weights", _shares(self.weights or counts, len(counts)))
        for source in self.sources:
            if len(source.files) % self.world_size and self.rank == 0:
                logger.warning(
                    "%s: %d files are not a multiple of %d processes, so every process reads all of them",
                    *(source.folder, len(source.files), self.world_size),
                )

    @classmethod
    def open(cls, paths: Sequence[str | Path], split: str = "train", **options: Any) -> RowStream:
        """The stream of a split of exported datasets.

        Args:
            paths: Folders made by :func:`ecg_hf.data.export_parquet`.
            split: ``train``, ``validation`` or ``test``.
            options: Further attributes.

        Raises:
            DatasetBuildError: if a folder is not a complete export.
            ConfigurationError: if a source has no such rows, or weights or buffer are impossible.
        """
        return cls(tuple(open_parquet(path, split) for path in paths), **options)

    def __len__(self) -> int:
        """Rows of an epoch, over all processes."""
        return sum(self._counts)

    @property
    def without_report(self) -> int:
        """Rows left out because they have no report."""
        return sum(map(len, self.sources)) - len(self)

    def _usable(self, source: ParquetSplit) -> int:
        if not self.needs_report:
            return len(source)
        return sum(bool(report.strip()) for report in source.texts("report"))

    def reports(self) -> Iterator[tuple[str, str | None]]:
        """Reports of all rows of all sources, in the order of the files, each with its patient if known."""
        for source in self.sources:
            patients = (patient or None for patient in source.texts("patient_id"))
            yield from zip(source.texts("report"), patients, strict=True)

    def batches(self, epoch: int, batch_size: int) -> Iterator[Dataset]:
        """This process' rows of an epoch, without end, as datasets of ``batch_size`` canonical rows.

        Args:
            epoch: From 0; each epoch has its own order.
            batch_size: Rows.

        Raises:
            DatasetBuildError: if a file is damaged.
        """
        parts = [self._shuffled(number, epoch) for number in range(len(self.sources))]
        stream = parts[0]
        if len(parts) > 1:
            stream = datasets.interleave_datasets(
                parts,
                probabilities=list(self.weights),
                # Every process draws its own sequence of sources.
                seed=_seed(self.seed, "mixing", epoch, self.rank),
                stopping_strategy="all_exhausted",
            )
        with readable(", ".join(str(source.folder) for source in self.sources)):
            tables = stream.with_format("arrow").iter(batch_size=batch_size)
            try:
                while True:
                    with _no_waiting():
                        table = next(tables)
                    yield canonical_rows(table)
            finally:
                with _no_waiting():
                    tables.close()

    def _shuffled(self, number: int, epoch: int) -> IterableDataset:
        rows = self._opened[number]
        if self.needs_report:
            rows = rows.filter(lambda report: bool((report or "").strip()), input_columns=["report"])
        # One seed for all processes, which must agree on the order of the files to divide them.
        rows = rows.shuffle(seed=_seed(self.seed, "rows", number, epoch), buffer_size=self.buffer_size)
        rows = split_dataset_by_node(rows, rank=self.rank, world_size=self.world_size)
        endless: IterableDataset = rows.repeat(None)
        return endless


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Without the five seconds that the library waits whenever a pass over the files ends, or is ended.

    They keep Arrow's threads from outliving the interpreter, which the collection at exit does here.
    """
    seconds = datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
    try:
        yield
    finally:
        datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = seconds


def _shares(weights: Sequence[float], sources: int) -> tuple[float, ...]:
    if len(weights) != sources:
        raise ConfigurationError(
            f"{len(weights)} sampling weights for {sources} datasets: give one for each", value=list(weights)
        )
    if not all(weight > 0 for weight in weights) or not sum(weights) < float("inf"):
        raise ConfigurationError(
            f"sampling weights must be positive, got {list(weights)}", value=list(weights)
        )
    return tuple(weight / sum(weights) for weight in weights)


def _seed(*position: int | str) -> int:
    """A seed that neighbouring positions do not share."""
    digest = hashlib.blake2b(repr(position).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
