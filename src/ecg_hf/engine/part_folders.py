"""Where parts lie: in a folder that all workers see, or in an object store."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from ecg_hf.files import replace_file, sole_maker
from ecg_hf.storage import RemoteFolder, location

__all__ = ["ACCOUNT_KEY", "CONTENT_KEY", "PartFolder", "absolute", "part_folder"]

CONTENT_KEY = "ecg_hf_key"
ACCOUNT_KEY = "ecg_hf_account"
"""Names in a part's metadata: what identifies its content, and what is to be said of its rows."""


class PartFolder(Protocol):
    """A folder of parts."""

    def held(self) -> AbstractContextManager[None]:
        """Hold the folder for one command, and remove what killed workers left."""

    def names(self) -> set[str]:
        """Names of all parts that are there, whatever they were made from."""

    def stored(self, keys: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Accounts of parts, by name, that are there and have the content that their keys identify."""

    def unfinished(self, keys: Mapping[str, str]) -> set[str]:
        """Names of those that are not :meth:`stored` and may be made again: half written, or without an account."""

    def write(self, name: str, fill: Callable[[BinaryIO], Mapping[str, Any]]) -> None:
        """Write a part, whole or not at all; ``fill`` gives what its metadata say."""

    def remove(self, names: list[str]) -> None:
        """Remove parts."""


def part_folder(place: str | os.PathLike[str]) -> PartFolder:
    """The folder of parts that a path or an address names.

    Raises:
        UnsafePath: if the address can't be used.
    """
    found = location(place)
    return _RemoteParts(found) if isinstance(found, RemoteFolder) else _LocalParts(found)


def absolute(place: str | os.PathLike[str]) -> str:
    """A path or an address as workers in other working directories understand it.

    Raises:
        UnsafePath: if the address can't be used.
    """
    found = location(place)
    return found.url if isinstance(found, RemoteFolder) else os.fspath(found.resolve())


@dataclass(frozen=True)
class _LocalParts:
    folder: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        with sole_maker(self.folder, "parts", "part-*"):
            yield

    def names(self) -> set[str]:
        return {path.name for path in self.folder.glob("part-*.parquet")}

    def stored(self, keys: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        found = {}
        for name, key in keys.items():
            metadata = _metadata(self.folder / name)
            if metadata is not None and metadata.get(CONTENT_KEY.encode(), b"").decode() == key:
                found[name] = json.loads(metadata[ACCOUNT_KEY.encode()])
        return found

    def unfinished(self, keys: Mapping[str, str]) -> set[str]:
        return set()  # files appear under their names when they are whole

    def write(self, name: str, fill: Callable[[BinaryIO], Mapping[str, Any]]) -> None:
        with replace_file(self.folder / name) as file:
            fill(file)

    def remove(self, names: list[str]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class _RemoteParts:
    folder: RemoteFolder

    @contextmanager
    def held(self) -> Iterator[None]:
        # Stores have no locks. Two commands at once write equal parts, or refuse each other's.
        yield

    def names(self) -> set[str]:
        return {
            name for name in self.folder.objects() if name.startswith("part-") and name.endswith(".parquet")
        }

    def stored(self, keys: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        finished = self.folder.finished(self.folder.objects(), keys)
        return {
            name: said[ACCOUNT_KEY] for name, said in finished.items() if said.get(CONTENT_KEY) == keys[name]
        }

    def unfinished(self, keys: Mapping[str, str]) -> set[str]:
        finished = self.folder.finished(self.folder.objects(), keys)
        found = set()
        for name in keys.keys() - finished.keys():
            with self.folder.open(name) as file:
                metadata = _metadata(file)
            # A whole part of something else, copied here without its account, is not ours to replace.
            if metadata is None or metadata.get(CONTENT_KEY.encode(), b"").decode() == keys[name]:
                found.add(name)
        return found

    def write(self, name: str, fill: Callable[[BinaryIO], Mapping[str, Any]]) -> None:
        with tempfile.TemporaryDirectory(prefix="ecg-hf-") as place:
            path = Path(place, name)
            with path.open("wb") as file:
                said = fill(file)
            self.folder.publish(path, name, said)

    def remove(self, names: list[str]) -> None:
        self.folder.remove(names)


def _metadata(file: Path | BinaryIO) -> dict[bytes, bytes] | None:
    """What a Parquet file says of itself; None if it is not there, or not whole."""
    try:
        return pq.read_metadata(file).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return None
