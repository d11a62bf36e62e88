"""Recordings of a bulk command: files on disks or in an object store, or the rows of a dataset."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from datasets import Dataset

from ecg_hf.data.row_pieces import DivisibleRows, RowPiece
from ecg_hf.data.sources.fetching import by_stem, fetch_named, objects_of
from ecg_hf.errors import EcgError, RecordNotFound
from ecg_hf.signal import EcgRecord
from ecg_hf.signal.io.paths import recordings_below
from ecg_hf.storage import RemoteFolder, StoredObject

__all__ = ["AtHand", "BulkRecordings", "Given", "SomeRecordings", "bulk_recordings"]

Given = Sequence[str | os.PathLike[str]] | RemoteFolder | DivisibleRows
"""Paths, a folder in an object store with all recordings below it, or a dataset."""


@dataclass(frozen=True)
class AtHand:
    """Recordings where they are read.

    Attributes:
        items: Paths or recordings, or why one can't be read.
        given: What the caller calls each path.
        home: Folder of the files, which errors may name.
        shown_home: The same as the caller knows it.
    """

    items: Iterable[str | EcgRecord | EcgError]
    given: Mapping[str, str] = field(default_factory=dict)
    home: str = ""
    shown_home: str = ""

    def shown(self, item: str) -> str:
        """What the caller calls a path; recordings keep their names."""
        return self.given.get(item, item)

    def said(self, error: str) -> str:
        """An error as the caller understands it."""
        return error.replace(self.home, self.shown_home) if self.home else error


class SomeRecordings(Protocol):
    """Recordings of one piece of work; they travel by pickle."""

    def state(self) -> str:
        """Identifies them and their content."""

    def at_hand(self) -> AbstractContextManager[AtHand]:
        """Have them where they are read, remote ones fetched meanwhile.

        Raises:
            StorageError: if they can't be fetched.
            DatasetBuildError: if a dataset can't be opened.
        """


class BulkRecordings(Protocol):
    """All recordings, in order."""

    def __len__(self) -> int: ...

    def names(self) -> list[str]:
        """What the caller calls them."""

    def piece(self, start: int, stop: int) -> SomeRecordings:
        """Those from ``start`` to the one before ``stop``."""


def bulk_recordings(given: Given) -> BulkRecordings:
    """What a bulk command was given.

    Raises:
        RecordNotFound: if a remote folder holds no recordings.
        StorageError: if the store refuses or can't be reached.
    """
    if isinstance(given, DivisibleRows):
        return _Rows(given)
    if not isinstance(given, RemoteFolder):
        return _Files(tuple(os.fspath(record) for record in given), os.getcwd(), None, {})
    objects = given.objects()
    return _Files(tuple(_recordings_among(objects, given)), given.url, given, by_stem(objects))


@dataclass(frozen=True)
class _Files:
    """All files, or those of a piece.

    Attributes:
        own: Paths as they were given, or names below a remote folder.
        home: The folder that relative ones are in: of this machine, or the address of the remote one.
        remote: The remote folder, if they lie in one.
        objects: Its objects that belong to them, by :func:`~ecg_hf.data.sources.fetching.by_stem`.
    """

    own: tuple[str, ...]
    home: str
    remote: RemoteFolder | None
    objects: Mapping[str, tuple[StoredObject, ...]]

    def __len__(self) -> int:
        return len(self.own)

    def names(self) -> list[str]:
        return [name if self.remote is None else f"{self.home}/{name}" for name in self.own]

    def piece(self, start: int, stop: int) -> _Files:
        own = self.own[start:stop]
        return replace(self, own=own, objects=objects_of(own, self.objects))

    def state(self) -> str:
        """By the files' names, sizes and times, or by what the store says of the objects."""
        if self.remote is None:
            return _state_of_files(self.own)
        found = [[one.name, one.size, one.tag] for some in self.objects.values() for one in some]
        return hashlib.sha256(json.dumps([self.home, list(self.own), found]).encode()).hexdigest()[:32]

    @contextmanager
    def at_hand(self) -> Iterator[AtHand]:
        if self.remote is None:
            # A worker's own working directory may be another.
            yield self._in(self.home, "")
            return
        with self.remote.fetched(one for some in self.objects.values() for one in some) as folder:
            fetch_named(self.remote, folder, self.own)
            yield self._in(str(folder), f"{self.home}/")

    def _in(self, home: str, shown: str) -> AtHand:
        paths = [os.path.join(home, name) for name in self.own]
        return AtHand(paths, dict(zip(paths, self.names(), strict=True)), os.path.join(home, ""), shown)


@dataclass(frozen=True)
class _Rows:
    """All rows of a dataset."""

    dataset: DivisibleRows

    def __len__(self) -> int:
        return self.dataset.rows

    def names(self) -> list[str]:
        return self.dataset.record_ids()

    def piece(self, start: int, stop: int) -> _SomeRows:
        return _SomeRows(self.dataset.piece(start, stop), (start, stop))


@dataclass(frozen=True)
class _SomeRows:
    rows: RowPiece
    limits: tuple[int, int]

    def state(self) -> str:
        return f"{self.rows.content}:{self.limits[0]}:{self.limits[1]}"

    @contextmanager
    def at_hand(self) -> Iterator[AtHand]:
        with self.rows.opened() as rows:
            ids, signals = rows["record_id"][:], rows.select_columns(["ecg"])
            yield AtHand(_record(signals, index, name) for index, name in enumerate(ids))


def _record(rows: Dataset, index: int, name: str) -> EcgRecord | EcgError:
    """A row as a recording, or why it holds none."""
    try:
        ecg = rows[index]["ecg"]
        return EcgRecord(ecg["signal"], ecg["sampling_rate"], ecg["lead_names"], record_id=name)
    except EcgError as error:
        error.path = name
        return error


def _state_of_files(names: Sequence[str]) -> str:
    """By names, sizes and times; a WFDB record's files are its header and samples."""
    digest = hashlib.sha256()
    for name in names:
        stem = name.removesuffix(".hea")
        for path in dict.fromkeys((name, f"{stem}.hea", f"{stem}.dat", f"{stem}.mat")):
            try:
                found = os.stat(path)
            except OSError:
                continue
            digest.update(json.dumps([path, found.st_size, found.st_mtime_ns]).encode())
        digest.update(json.dumps(name).encode())
    return digest.hexdigest()[:32]


def _recordings_among(objects: Mapping[str, StoredObject], folder: RemoteFolder) -> list[str]:
    """Names of the recordings below a remote folder, by the rules and in the order of a local one."""
    with TemporaryDirectory(prefix="ecg-hf-") as place:
        for name in objects:
            Path(place, name).parent.mkdir(parents=True, exist_ok=True)
            Path(place, name).touch()
        found = [path.relative_to(place).as_posix() for path in recordings_below(place)]
    if not found:
        raise RecordNotFound("the folder holds no recordings", path=folder.url)
    return [name.removesuffix(".hea") for name in found]
