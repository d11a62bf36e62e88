"""One's own recordings and labels as a ``datasets.Dataset``, without building anything on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import pyarrow as pa

from ecg_hf.data.schema import Entry, SourceRow, canonical_features, rows_to_batch, shard_schema
from ecg_hf.data.sources.base import Plan
from ecg_hf.data.sources.folder import EcgFolder
from ecg_hf.errors import DatasetBuildError, EcgError

__all__ = ["folder_source", "load_ecg_folder", "read_folder"]

_BATCH = 64


def load_ecg_folder(dir: str | os.PathLike[str], labels: str = "labels.csv") -> datasets.Dataset:
    """Every recording below a folder with its labels, in memory.

    For folders too large for that, ``load_dataset("ecgfolder", data_dir=...)`` does the same through the cache of
    ``datasets`` (after ``import ecg_hf``), and ``ecg-hf data build folder`` on disk.

    Args:
        dir: The folder; recordings of any format that :func:`ecg_hf.read_record` opens.
        labels: Table in it with the columns ``id``, ``patient``, ``split`` and ``label``, all but ``id`` optional:
            :class:`~ecg_hf.data.sources.folder.EcgFolder`. Without one every file is a recording without labels.

    Returns:
        The canonical columns (:func:`~ecg_hf.data.schema.canonical_features`), one row per recording.

    Raises:
        DatasetBuildError: if a recording of the table is not there, or there is none at all.
        EcgError: if a file can't be read; names it.

    Example:
        >>> rows = load_ecg_folder("our_ecgs")  # doctest: +SKIP
        >>> rows[0]["ecg"]["signal"].shape, rows[0]["labels"]  # doctest: +SKIP
        ((12, 5000), ['AFIB'])
    """
    source, plan = folder_source(Path(dir), labels)
    table = pa.Table.from_batches(read_folder(source, plan.entries), schema=shard_schema())
    return datasets.Dataset(
        datasets.table.InMemoryTable(table), info=datasets.DatasetInfo(features=canonical_features())
    )


def folder_source(folder: Path, labels: str) -> tuple[EcgFolder, Plan]:
    """A folder with all its recordings, and what is to be read of it.

    Raises:
        DatasetBuildError: if a recording of the table is not there, or there is none at all.
    """
    source = EcgFolder(folder, labels=labels, train_folds="1-8", validation_folds="9", test_folds="10")
    plan = source.plan()
    absent = plan.tally.examples.get("file_not_there")
    if absent:
        raise DatasetBuildError(
            f"{plan.tally.dropped['file_not_there']} ids of the table have no file, the first is {absent[0]!r}",
            path=source.data_dir / labels,
        )
    if not plan.entries:
        raise DatasetBuildError("the folder holds no recordings", path=source.data_dir)
    return source, plan


def read_folder(source: EcgFolder, entries: Sequence[Entry]) -> Iterator[pa.RecordBatch]:
    """Rows of recordings, some at a time.

    Raises:
        EcgError: if a file can't be read; names it.
    """
    for start in range(0, len(entries), _BATCH):
        rows: list[SourceRow] = []
        for entry in entries[start : start + _BATCH]:
            try:
                row = source.read(entry)
            except EcgError as error:
                error.path = error.path or str(source.data_dir / entry.path)
                raise
            if isinstance(row, SourceRow):
                rows.append(row)
        yield rows_to_batch(rows, source.info.name)
