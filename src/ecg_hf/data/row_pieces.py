"""Some rows of a dataset for a process that needs no others: of a build or a Parquet export, wherever it lies."""

from __future__ import annotations

import hashlib
import json
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from datasets import Dataset

from ecg_hf.data.build_folder import INFO_FILE, STATE_FILE
from ecg_hf.data.building import load_built
from ecg_hf.data.parquet import open_parquet, read_rows, read_texts
from ecg_hf.data.report import REPORT_FILE, BuildReport
from ecg_hf.data.schema import SPLITS
from ecg_hf.errors import DatasetBuildError
from ecg_hf.storage import RemoteFolder, StoredObject, location

__all__ = ["DivisibleRows", "RowPiece", "open_divisible"]

_DESCRIPTION = (STATE_FILE, INFO_FILE, REPORT_FILE)


@dataclass(frozen=True)
class DivisibleRows:
    """A dataset, to be divided among workers.

    Attributes:
        place: Path or address of its folder.
        content: Identifies what it was built from, and the files of an export.
        rows: How many, in the order of the build, or of the export's splits and files.
        files: Paths or addresses of an export's files; None for a build.
        ends: How many rows there are up to the end of each of them.
    """

    place: str
    content: str
    rows: int
    files: tuple[str, ...] | None = None
    ends: tuple[int, ...] = ()

    def piece(self, start: int, stop: int) -> RowPiece:
        """Rows from ``start`` to the one before ``stop``; travels by pickle."""
        if self.files is None:
            return RowPiece(self.place, self.content, start, stop)
        first, last = bisect_right(self.ends, start), bisect_left(self.ends, stop)
        offset = self.ends[first - 1] if first else 0
        return RowPiece(self.place, self.content, start - offset, stop - offset, self.files[first : last + 1])

    def record_ids(self) -> list[str]:
        """Names of all recordings, in order.

        Raises:
            DatasetBuildError: if the dataset can't be opened, or is a build that would have to be fetched for it.
        """
        if self.files is not None:
            return read_texts(self.files, "record_id")
        place = location(self.place)
        if isinstance(place, RemoteFolder):
            raise DatasetBuildError(
                "its recordings can't be named without fetching them: 'ecg-hf data export' it first",
                path=place.url,
            )
        return list(load_built(place)["record_id"][:])


@dataclass(frozen=True)
class RowPiece:
    """Some rows, as a worker knows them: see :meth:`DivisibleRows.piece`.

    Attributes:
        place: Path or address of the dataset.
        content: Of the dataset.
        start: The first row.
        stop: The one after the last.
        files: Those files of an export that hold them, in which they are counted; None for a build.
    """

    place: str
    content: str
    start: int
    stop: int
    files: tuple[str, ...] | None = None

    @contextmanager
    def opened(self) -> Iterator[Dataset]:
        """The rows. Of a remote build their files are fetched meanwhile.

        Raises:
            DatasetBuildError: if the dataset can't be opened, or has become another.
            StorageError: if files can't be fetched.
        """
        place = location(self.place)
        if self.files is not None:
            yield read_rows(self.files, self.start, self.stop)
            return
        if not isinstance(place, RemoteFolder):
            yield _kept(self.place, self.content).select(range(self.start, self.stop))
            return
        layout = _layout(self.place, self.content)
        chosen = [
            number
            for number, (first, last) in enumerate(layout.rows)
            if first < self.stop and last > self.start
        ]
        with tempfile.TemporaryDirectory(prefix="ecg-hf-") as folder:
            place.fetch([layout.files[number] for number in chosen], Path(folder))
            state = {
                **layout.state,
                "_data_files": [layout.state["_data_files"][number] for number in chosen],
            }
            for name, content in ((STATE_FILE, json.dumps(state).encode()), *layout.description.items()):
                Path(folder, name).write_bytes(content)
            offset = layout.rows[chosen[0]][0]
            yield load_built(folder).select(range(self.start - offset, self.stop - offset))


def open_divisible(place: str | Path) -> DivisibleRows:
    """Look at a built dataset or an export, without fetching the rows of a remote one.

    Raises:
        DatasetBuildError: if the folder holds neither, or is not complete.
        StorageError: if the store can't be reached.
    """
    found = location(place)
    if not isinstance(found, RemoteFolder):
        folder = found.resolve()
        if (folder / "data").is_dir() and not (folder / STATE_FILE).exists():
            return _exported(folder)
        rows = len(load_built(folder))
        content = BuildReport.load(folder).content() if (folder / REPORT_FILE).is_file() else ""
        return DivisibleRows(str(folder), content, rows)
    names = found.objects()
    if STATE_FILE not in names and any(name.startswith("data/") for name in names):
        return _exported(found.url)
    content = _content(found)
    return DivisibleRows(found.url, content, sum(last - first for first, last in _read_layout(found).rows))


def _exported(folder: str | Path) -> DivisibleRows:
    splits = [open_parquet(folder, split) for split in SPLITS]
    files = [
        (str(file), rows) for split in splits for file, rows in zip(split.files, split.rows, strict=True)
    ]
    if not files:
        raise DatasetBuildError("an export without files", path=folder)
    state = [splits[0].fingerprint, [(Path(name).name, rows) for name, rows in files]]
    content = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:32]
    ends = tuple(accumulate(rows for _, rows in files))
    return DivisibleRows(str(folder), content, ends[-1], tuple(name for name, _ in files), ends)


@dataclass(frozen=True)
class _Layout:
    """Files of a remote dataset in the order of its rows, with the rows of each, and its small files."""

    files: list[StoredObject]
    rows: list[tuple[int, int]]
    state: dict[str, Any]
    description: dict[str, bytes]


def _content(place: RemoteFolder) -> str:
    objects = place.objects()
    if any(name not in objects for name in _DESCRIPTION):
        raise DatasetBuildError("the folder holds no finished dataset", path=place.url)
    with place.fetched([objects[REPORT_FILE]]) as folder:
        return BuildReport.load(folder).content()


@lru_cache(maxsize=1)
def _kept(place: str, content: str) -> Dataset:
    return load_built(place)


@lru_cache(maxsize=1)
def _layout(place: str, content: str) -> _Layout:
    folder = location(place)
    assert isinstance(folder, RemoteFolder)
    if _content(folder) != content:
        raise DatasetBuildError("the dataset has become another one meanwhile", path=place)
    return _read_layout(folder)


def _read_layout(place: RemoteFolder) -> _Layout:
    objects = place.objects()
    with place.fetched([objects[name] for name in _DESCRIPTION]) as folder:
        report = BuildReport.load(folder)
        state = json.loads((folder / STATE_FILE).read_bytes())
        description = {name: (folder / name).read_bytes() for name in (INFO_FILE, REPORT_FILE)}
    names = [str(file["filename"]) for file in state["_data_files"]]
    missing = [name for name in names if name not in objects]
    if missing:
        raise DatasetBuildError(
            f"{len(missing)} files of the dataset are not there: {missing[0]}", path=place.url
        )
    if len(report.shard_rows) != len(names) or sum(report.shard_rows) != report.kept:
        raise DatasetBuildError(
            "the report does not say how many rows each file has: build it again, or fetch the folder first",
            path=place.url,
        )
    ends = list(accumulate(report.shard_rows))
    rows = list(zip([0, *ends], ends, strict=False))
    return _Layout([objects[name] for name in names], rows, state, description)
