"""A folder of an object store: whole objects are fetched into files, and published whole or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from ecg_hf.errors import LibraryMissing, StorageError
from ecg_hf.files import temporary_name
from ecg_hf.storage.objects import StoredObject, account_name, is_account, is_plain, parse_account, plain
from ecg_hf.storage.trying import tried

__all__ = ["LIBRARIES", "RemoteFolder"]

logger = logging.getLogger(__name__)

LIBRARIES = {
    "s3": "s3fs: pip install 'ecg-hf[cluster]'",
    "gs": "gcsfs: pip install gcsfs",
    "abfs": "adlfs: pip install adlfs",
    "abfss": "adlfs: pip install adlfs",
    "hf": "huggingface_hub: pip install huggingface_hub",
    "memory": "fsspec: pip install fsspec",
}
"""What each scheme needs."""

_TAGS = ("ETag", "etag", "md5Hash", "blob_id", "created", "mtime", "LastModified")


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """A folder of an object store; made by :func:`location`.

    Attributes:
        url: Its address, without a slash at the end.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def objects(self) -> dict[str, StoredObject]:
        """Every object below the folder by its name, in sorted order. Names that lead elsewhere are left out.

        Raises:
            StorageError: if the store refuses or can't be reached.
        """
        system, root = self._system()
        listed: dict[str, Any] = tried(lambda: system.find(root, detail=True), self.url)
        found = {}
        odd = 0
        for path, info in listed.items():
            name = path[len(root) :].removeprefix("/")
            if not name or info.get("type") == "directory":
                continue
            if not is_plain(name):
                odd += 1
                continue
            found[name] = StoredObject(name, int(info["size"]), _tag(info))
        if odd:
            logger.warning("%s: %d objects have names that no file can have, and are left out", self.url, odd)
        return dict(sorted(found.items()))

    def look_up(self, names: Iterable[str]) -> dict[str, StoredObject]:
        """Those of some objects that are there.

        Raises:
            StorageError: if the store refuses or can't be reached.
        """
        system, root = self._system()
        found = {}
        for name in names:
            info = tried(partial(_info, system, f"{root}/{plain(name)}"), f"{self.url}/{name}")
            if info is not None and info.get("type") != "directory":
                found[name] = StoredObject(name, int(info["size"]), _tag(info))
        return found

    def fetch(self, objects: Iterable[StoredObject], into: Path) -> None:
        """Make local files of objects, each whole or not at all; those that are there already are kept.

        Args:
            objects: As :meth:`objects` gives them.
            into: Folder of the files, which lie in it as the objects do below this one.

        Raises:
            StorageError: if an object is not what was listed, or differs from its account.
        """
        missing = [one for one in objects if not _is_fetched(into / one.name, one)]
        for one in missing:
            (into / one.name).parent.mkdir(parents=True, exist_ok=True)
        system, root = self._system()
        waiting = {temporary_name(into / one.name): one for one in missing}
        try:
            accounts = self.accounts(one.name for one in missing)
            for one in missing:
                if one.name in accounts and accounts[one.name]["size"] != one.size:
                    raise StorageError("the object differs from its account", path=f"{self.url}/{one.name}")
            # Objects that came whole are not fetched again with those that did not.
            tried(lambda: _get(system, root, waiting, into, accounts), self.url)
        finally:
            for path in waiting:
                path.unlink(missing_ok=True)

    @contextmanager
    def fetched(self, objects: Iterable[StoredObject]) -> Iterator[Path]:
        """A temporary folder with objects as files, see :meth:`fetch`."""
        with tempfile.TemporaryDirectory(prefix="ecg-hf-") as folder:
            self.fetch(objects, Path(folder))
            yield Path(folder)

    def mirror(self, chosen: Callable[[str], bool] = lambda name: True) -> Path:
        """A local folder with all objects, kept for the next time: another one as soon as one of them changes.

        Args:
            chosen: Whether an object of this name is wanted.

        Raises:
            StorageError: if there are none.
        """
        objects = [one for name, one in self.objects().items() if not is_account(name) and chosen(name)]
        if not objects:
            raise StorageError("no such folder, or an empty one", path=self.url)
        state = json.dumps([self.url, [[one.name, one.size, one.tag] for one in objects]])
        key = hashlib.sha256(state.encode()).hexdigest()[:32]
        folder = _cache() / "objects" / key / self.url.rpartition("/")[2]
        self.fetch(objects, folder)
        return folder

    def open(self, name: str) -> BinaryIO:
        """An object to read from, block by block.

        Raises:
            StorageError: if it is not there.
        """
        system, root = self._system()
        path = f"{root}/{plain(name)}"
        return cast(BinaryIO, tried(lambda: system.open(path, "rb"), f"{self.url}/{name}"))

    def read(self, name: str) -> bytes:
        """The content of a small object.

        Raises:
            StorageError: if it is not there.
        """
        system, root = self._system()
        return cast(bytes, tried(lambda: system.cat_file(f"{root}/{plain(name)}"), f"{self.url}/{name}"))

    def publish(self, file: Path, name: str, account: Mapping[str, Any] | None = None) -> None:
        """Write an object and then its account; neither is seen half written.

        Args:
            file: The content.
            name: Of the object.
            account: What is to be said of it, as JSON values.

        Raises:
            StorageError: if the store refuses, or what it holds afterwards is of another size.
        """
        system, root = self._system()
        path = f"{root}/{plain(name)}"
        size = file.stat().st_size

        def put() -> dict[str, Any]:
            # An account that is there belongs to an older object, which this may be equal to.
            system.put_file(str(file), path)
            info: dict[str, Any] = system.info(path)
            if info["size"] != size:
                raise OSError(f"wrote {size} bytes and the store holds {info['size']}")
            return info

        tag = _tag(tried(put, f"{self.url}/{name}"))
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        said = {"size": size, "tag": tag, "sha256": digest, "account": dict(account or {})}
        text = json.dumps(said, sort_keys=True).encode()
        tried(lambda: system.pipe_file(f"{root}/{account_name(name)}", text), f"{self.url}/{name}")

    def accounts(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Accounts of objects by name, of those that have one that can be read.

        Raises:
            StorageError: if the store refuses or can't be reached.
        """
        system, root = self._system()
        paths = {f"{root}/{account_name(name)}": name for name in names}
        if not paths:
            return {}
        contents: dict[str, bytes | Exception] = {}

        def read() -> None:
            left = [path for path in paths if not isinstance(contents.get(path), bytes)]
            contents.update(system.cat(left, on_error="return"))
            for content in contents.values():
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content

        tried(read, self.url)
        found = {}
        for path, name in paths.items():
            content = contents.get(path)
            if isinstance(content, bytes) and (account := parse_account(content)) is not None:
                found[name] = account
        return found

    def finished(
        self, objects: Mapping[str, StoredObject], names: Iterable[str]
    ) -> dict[str, dict[str, Any]]:
        """What was said of objects when they were published, of those that are still what was published.

        Args:
            objects: All of the folder, as :meth:`objects` gives them.
            names: Those asked about.
        """
        asked = [name for name in names if name in objects and account_name(name) in objects]
        return {
            name: said["account"]
            for name, said in self.accounts(asked).items()
            if (said["size"], said["tag"]) == (objects[name].size, objects[name].tag)
        }

    def check(self, names: Sequence[str]) -> None:
        """Look whether objects have the sizes that their accounts say; those without an account are not asked.

        Raises:
            StorageError: if one is half written, or gone.
        """
        objects = self.objects()
        for name, said in self.accounts(names).items():
            if name not in objects or objects[name].size != said["size"]:
                raise StorageError("the object differs from its account", path=f"{self.url}/{name}")

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects, their accounts first.

        Raises:
            StorageError: if the store refuses or can't be reached.
        """
        system, root = self._system()
        for name in names:
            for path in (account_name(name), plain(name)):
                tried(partial(_remove, system, f"{root}/{path}"), f"{self.url}/{name}")

    def _system(self) -> tuple[Any, str]:
        """The file system, anew in every process since its threads don't survive a fork, and the folder in it."""
        import fsspec

        scheme = self.url.partition("://")[0]
        try:
            system = fsspec.filesystem(scheme, use_listings_cache=False)
        except ImportError:
            library = LIBRARIES[scheme]
            raise LibraryMissing(f"{scheme}:// needs {library}", value=library.partition(":")[0]) from None
        return system, str(system._strip_protocol(self.url))


def _get(
    system: Any,
    root: str,
    waiting: dict[Path, StoredObject],
    into: Path,
    accounts: Mapping[str, Mapping[str, Any]],
) -> None:
    """Fetch what waits, check it, and put it in place; what is in place waits no longer."""
    if not waiting:
        return
    trouble: Exception | None = None
    try:
        system.get([f"{root}/{one.name}" for one in waiting.values()], [str(path) for path in waiting])
    except Exception as error:
        trouble = error
    wrong = ""
    for path, one in list(waiting.items()):
        if not path.is_file():
            continue
        said = accounts.get(one.name)
        if (size := path.stat().st_size) != one.size:
            wrong = f"{one.name} has {size} bytes, {one.size} were listed"
        elif said is not None and _digest(path) != said["sha256"]:
            wrong = f"{one.name} differs from its account"
        else:
            os.replace(path, into / one.name)
            del waiting[path]
    if trouble is not None:
        raise trouble
    if wrong or waiting:
        raise OSError(wrong or "objects are missing")


def _info(system: Any, path: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = system.info(path)
    except FileNotFoundError:
        return None
    return found


def _remove(system: Any, path: str) -> None:
    try:
        system.rm_file(path)
    except FileNotFoundError:
        return


def _tag(info: Mapping[str, Any]) -> str:
    value = next((info[name] for name in _TAGS if info.get(name)), "")
    # Listings and single looks may tell the same time in other ways.
    return str(value.timestamp() if isinstance(value, datetime) else value).strip('"')


def _is_fetched(path: Path, one: StoredObject) -> bool:
    return path.is_file() and path.stat().st_size == one.size


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cache() -> Path:
    """Where fetched objects are kept: ``ECG_HF_CACHE``, or a folder of the user's cache."""
    own = os.environ.get("ECG_HF_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ecg_hf"
