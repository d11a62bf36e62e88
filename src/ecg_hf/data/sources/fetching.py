"""Any source whose files lie in an object store: listed from names and tables, fetched shard by shard."""

from __future__ import annotations

import os
import posixpath
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from ecg_hf.data.schema import Entry, SourceRow
from ecg_hf.data.sources.base import Dropped, Plan, Source, is_plain_relative
from ecg_hf.data.sources.headers import named_in_header
from ecg_hf.errors import DatasetBuildError, EcgError
from ecg_hf.storage import ACCOUNTS, RemoteFolder, StoredObject

__all__ = ["Fetching", "by_stem", "fetch_named", "objects_of", "open_remote"]


class Fetching(Source):
    """Wraps a source, to fetch the files of some recordings before they are read.

    Only objects below the folder can be fetched, so no table or header leads to anything else.

    Args:
        source: The source to wrap.
        remote: The folder of its files.
        objects: Objects by their names without the last suffix.
    """

    def __init__(
        self, source: Source, remote: RemoteFolder, objects: Mapping[str, tuple[StoredObject, ...]]
    ) -> None:
        self._source = source
        self._data_dir = None
        self._remote = remote
        self._objects = objects
        self.info = source.info  # type: ignore[misc]

    def options(self) -> dict[str, Any]:
        """Options of the wrapped source."""
        return self._source.options()

    def plan(self) -> Plan:
        """Not here: :func:`open_remote` has asked the wrapped source."""
        raise NotImplementedError

    def piece(self, entries: Sequence[Entry]) -> Source:
        """The same with the objects of some recordings only."""
        names = [self._source.file_of(entry) for entry in entries]
        return Fetching(self._source, self._remote, objects_of(names, self._objects))

    def read(self, entry: Entry) -> SourceRow | Dropped:
        """Read one recording."""
        return next(iter(self.read_many([entry])))

    def read_many(self, entries: Sequence[Entry]) -> Iterator[SourceRow | Dropped]:
        """Fetch the files of recordings and read them in the wrapped source's own way."""
        objects = tuple(one for stem in sorted(self._objects) for one in self._objects[stem])
        folder = _HELD.folder(self._remote, objects)
        fetch_named(self._remote, folder, [self._source.file_of(entry) for entry in entries])
        yield from self._source.at(folder).read_many(entries)


def open_remote(kind: type[Source], remote: RemoteFolder, options: dict[str, Any]) -> tuple[Fetching, Plan]:
    """A source whose files lie in an object store, and its recordings.

    Its listing sees every object's name, and the content of those that it says it reads.

    Raises:
        ConfigurationError: for options the source does not have.
        DatasetBuildError: if the folder does not hold what the source expects.
        StorageError: if the store can't be reached.
    """
    objects = {name: one for name, one in remote.objects().items() if not name.startswith(f"{ACCOUNTS}/")}
    if not objects:
        raise DatasetBuildError("no such folder, or an empty one", path=remote.url)
    patterns = kind.reads_to_plan(options)
    with tempfile.TemporaryDirectory(prefix="ecg-hf-") as place:
        # Sources may ask for the folder's name.
        folder = Path(place, remote.url.rpartition("/")[2])
        folder.mkdir()
        for name in objects:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        read = [one for one in objects.values() if any(fnmatchcase(one.name, each) for each in patterns)]
        for one in read:
            (folder / one.name).unlink()
        remote.fetch(read, folder)
        with _naming(folder, remote):
            source = kind.create(folder, options)
            source.remote = remote
            plan = source.plan()
            source.remote = None
    return Fetching(source, remote, by_stem(objects)), plan


def by_stem(objects: Mapping[str, StoredObject]) -> dict[str, tuple[StoredObject, ...]]:
    """Objects by their names without the last suffix: those of one recording."""
    stems: dict[str, list[StoredObject]] = defaultdict(list)
    for name, one in objects.items():
        stems[posixpath.splitext(name)[0]].append(one)
    return {stem: tuple(some) for stem, some in stems.items()}


def objects_of(
    names: Sequence[str], objects: Mapping[str, tuple[StoredObject, ...]]
) -> dict[str, tuple[StoredObject, ...]]:
    """Those of :func:`by_stem` that belong to files, or to WFDB records, of these names."""
    stems = {stem for name in names for stem in (name, posixpath.splitext(name)[0])}
    return {stem: objects[stem] for stem in sorted(stems & objects.keys())}


@contextmanager
def _naming(folder: Path, remote: RemoteFolder) -> Iterator[None]:
    """Errors name the object, not the file that stands for it."""
    try:
        yield
    except EcgError as error:
        if error.path is not None and error.path.startswith(str(folder)):
            error.path = remote.url + error.path[len(str(folder)) :].replace(os.sep, "/")
        raise


class _Held:
    """The objects of the last shard as files, until others are asked for: the next shard may be of the same part."""

    def __init__(self) -> None:
        self._asked: object = None
        self._folder: Path | None = None

    def folder(self, remote: RemoteFolder, objects: tuple[StoredObject, ...]) -> Path:
        """The folder of these objects."""
        # A forked process leaves what is its parent's alone.
        asked = (os.getpid(), remote, objects)
        if self._folder is None or asked != self._asked:
            self.let_go()
            self._folder = Path(tempfile.mkdtemp(prefix="ecg-hf-"))
            self._asked = asked
            # Workers of a pool run no exit handlers but these.
            Finalize(None, self.let_go, exitpriority=1)
        remote.fetch(objects, self._folder)
        return self._folder

    def let_go(self) -> None:
        """Remove the files."""
        if self._folder is not None and isinstance(self._asked, tuple) and self._asked[0] == os.getpid():
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self._asked = None


_HELD = _Held()


def fetch_named(remote: RemoteFolder, folder: Path, names: Sequence[str]) -> None:
    """Fetch what headers name under other names than their own, and what the headers of segments name."""
    seen: set[str] = set()
    while names:
        wanted: set[str] = set()
        for name in names:
            segments, files = named_in_header(folder, name)
            named = [*files, *(f"{segment}.hea" for segment in segments)]
            wanted.update(posixpath.normpath(posixpath.join(posixpath.dirname(name), one)) for one in named)
        wanted = {one for one in wanted - seen if is_plain_relative(one) and not (folder / one).is_file()}
        seen |= wanted
        found = remote.look_up(wanted)
        remote.fetch(found.values(), folder)
        names = [name.removesuffix(".hea") for name in found if name.endswith(".hea")]
