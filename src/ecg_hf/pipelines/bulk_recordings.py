"""Recordings of a bulk command, on disks or in an object store: their names, their state, and their files at hand."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ecg_hf.data.sources.fetching import by_stem, fetch_named, objects_of
from ecg_hf.errors import RecordNotFound
from ecg_hf.signal.io.paths import recordings_below
from ecg_hf.storage import RemoteFolder, StoredObject

__all__ = ["BulkRecordings"]


@dataclass(frozen=True)
class BulkRecordings:
    """Recordings in order; those of a piece can be sent to where it is worked on.

    Attributes:
        names: Paths as they were given, or names below a folder in an object store.
        home: The folder that relative names are in: of this machine, or the address of the remote one.
        remote: The remote folder, if they lie in one.
        objects: Its objects that belong to them, by :func:`~ecg_hf.data.sources.fetching.by_stem`.
    """

    names: tuple[str, ...]
    home: str
    remote: RemoteFolder | None
    objects: Mapping[str, tuple[StoredObject, ...]]

    @classmethod
    def of(cls, records: Sequence[str | os.PathLike[str]] | RemoteFolder) -> BulkRecordings:
        """Recordings by their paths, or all below a remote folder.

        Raises:
            RecordNotFound: if the remote folder holds none.
            StorageError: if the store refuses or can't be reached.
        """
        if not isinstance(records, RemoteFolder):
            return cls(tuple(os.fspath(record) for record in records), os.getcwd(), None, {})
        objects = records.objects()
        return cls(tuple(_recordings_among(objects, records)), records.url, records, by_stem(objects))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, some: slice) -> BulkRecordings:
        """Some of them, with no objects but theirs."""
        names = self.names[some]
        return replace(self, names=names, objects=objects_of(names, self.objects))

    def absolute(self) -> BulkRecordings:
        """The same by absolute paths."""
        if self.remote is not None:
            return self
        return replace(self, names=tuple(os.path.abspath(name) for name in self.names))

    def shown(self, name: str) -> str:
        """A name as answers call the recording: as it was given, or its address."""
        return name if self.remote is None else f"{self.home}/{name}"

    def state(self) -> str:
        """Identifies recordings by their files' names, sizes and times, or by what the store says of the objects.

        A WFDB record's files are its header and samples.
        """
        if self.remote is None:
            return _state_of_files(self.names)
        own = [[one.name, one.size, one.tag] for some in self.objects.values() for one in some]
        return hashlib.sha256(json.dumps([self.home, list(self.names), own]).encode()).hexdigest()[:32]

    @contextmanager
    def at_hand(self) -> Iterator[str]:
        """The folder that names are in; remote recordings are fetched into a temporary one.

        Raises:
            StorageError: if they can't be fetched.
        """
        if self.remote is None:
            yield self.home  # a worker's own working directory may be another
            return
        with self.remote.fetched(one for some in self.objects.values() for one in some) as folder:
            fetch_named(self.remote, folder, self.names)
            yield str(folder)


def _state_of_files(names: Sequence[str]) -> str:
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
