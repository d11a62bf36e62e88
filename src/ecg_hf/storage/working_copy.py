"""Folders that only a file system can hold while they are written: a local copy, published as it grows."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ecg_hf.storage.folder import RemoteFolder
from ecg_hf.storage.locations import location
from ecg_hf.storage.objects import is_account

__all__ = ["WorkingCopy", "working_copy"]

logger = logging.getLogger(__name__)


class WorkingCopy:
    """A folder to write to.

    Args:
        folder: The local one.
        remote: Where it is published; None if it is the output itself.
        last: Names of files that say that those beside them are complete.
    """

    def __init__(self, folder: Path, remote: RemoteFolder | None, last: Sequence[str]) -> None:
        self.folder = folder
        self._remote = remote
        self._last = tuple(last)
        self._published: dict[str, tuple[int, int]] = {}

    def fetch(self) -> None:
        """Get what was published before; objects that are not whole are left out with a warning.

        Raises:
            StorageError: if the store refuses or can't be reached.
        """
        if self._remote is None:
            return
        objects = self._remote.objects()
        names = [name for name in objects if not is_account(name)]
        whole = self._remote.finished(objects, names)
        for name in set(names) - set(whole):
            logger.warning("%s/%s is not whole, and is made again", self._remote.url, name)
        self._remote.fetch([objects[name] for name in whole], self.folder)
        self._published = {name: _state(self.folder / name) for name in whole}

    def publish(self, *, leave: Callable[[str], bool] = lambda name: False) -> None:
        """Publish what is new or has changed, and remove what is gone.

        Files of the folder itself come before those of its subfolders, which they describe. What says that a folder
        is complete goes before the folder changes; whatever else is gone is removed when what takes its place is
        there. So a command killed meanwhile leaves what it can go on from, and nothing that passes for whole.

        Args:
            leave: Says which files are still being written; as far as the store is concerned, they stay as they are.

        Raises:
            StorageError: if the store refuses or can't be reached.
        """
        if self._remote is None:
            return
        there = {name: _state(self.folder / name) for name in self._names() if not leave(name)}
        left = {name: state for name, state in self._published.items() if leave(name)}
        gone = [name for name in self._published if name not in there | left]
        folders = {_folder(name) for name in there}
        untrue = [name for name in gone if self._is_last(name) and _folder(name) in folders]
        self._remote.remove(untrue)
        for name in sorted(there, key=lambda name: (self._is_last(name), name.count("/"), name)):
            if self._published.get(name) != there[name]:
                self._remote.publish(self.folder / name, name)
        replaced = [name for name in gone if name not in untrue]
        self._remote.remove(sorted(replaced, key=self._is_last, reverse=True))
        self._published = there | left

    def _names(self) -> list[str]:
        """Files, but hidden ones, by their paths in the folder."""
        paths = (path.relative_to(self.folder) for path in sorted(self.folder.rglob("*")) if path.is_file())
        return [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)]

    def _is_last(self, name: str) -> bool:
        return name.rpartition("/")[2] in self._last


@contextmanager
def working_copy(output: str | os.PathLike[str], *, last: Sequence[str] = ()) -> Iterator[WorkingCopy]:
    """A folder for an output, wherever that is to lie: of a remote one a temporary copy, published at the end.

    What was finished when the block raises is published too, so that the same command continues.

    Args:
        output: Path or address.
        last: See :class:`WorkingCopy`.

    Raises:
        UnsafePath: if the address can't be used.
        StorageError: if the store refuses or can't be reached.
    """
    place = location(output)
    if not isinstance(place, RemoteFolder):
        yield WorkingCopy(place, None, last)
        return
    with tempfile.TemporaryDirectory(prefix="ecg-hf-") as temporary:
        # Cards and tables call a run by its folder.
        folder = Path(temporary, place.url.rpartition("/")[2])
        copy = WorkingCopy(folder, place, last)
        copy.fetch()
        try:
            yield copy
        finally:
            copy.publish()


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
