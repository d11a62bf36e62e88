"""Folders in object stores, by fsspec: whole objects are fetched into local files, and published whole or not at all.

An object that this package publishes has an account, an object beside it that is written last: size, digest and what
is to be said of the content. An object without its account, or one that differs from it, is not finished.

Credentials are fsspec's own (environment, configuration files, roles of the machine). An address that holds any is
refused, so that none can reach a log, a report or an error.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from ecg_hf.errors import LibraryMissing, StorageError, UnsafePath
from ecg_hf.files import temporary_name

__all__ = ["ACCOUNTS", "RemoteFolder", "StoredObject", "local_folder", "local_output", "location"]

logger = logging.getLogger(__name__)

ACCOUNTS = "_accounts"
"""Folder of the accounts. Readers of Parquet and of Arrow pass over names that begin with an underscore."""

ATTEMPTS = 4
"""How often an operation is tried; the libraries of the stores try each request some times themselves."""

_PAUSE_S = 0.5
_SCHEMES = {
    "s3": "pip install 'ecg-hf[cluster]'",
    "gs": "pip install gcsfs",
    "abfs": "pip install adlfs",
    "abfss": "pip install adlfs",
    "hf": "pip install huggingface_hub",
    "memory": "",
}
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs", "hf": "huggingface_hub"}
# Where exceptions of a store's library are defined; whatever else is raised is a bug, and passes.
_LIBRARIES = (
    "botocore",
    "aiobotocore",
    "aiohttp",
    "gcsfs",
    "google",
    "azure",
    "huggingface_hub",
    "httpx",
    "fsspec",
)
_LOCAL_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_TAGS = ("ETag", "etag", "md5Hash", "blob_id", "created", "mtime", "LastModified")

T = TypeVar("T")


def location(place: str | os.PathLike[str]) -> Path | RemoteFolder:
    """A local path, or the folder of an object store that an address such as ``s3://bucket/folder`` names.

    Raises:
        UnsafePath: if the address is of no known scheme, holds credentials, or does not name a folder plainly.
    """
    text = os.fspath(place)
    # What is refused may hold a secret, so the error shows nothing but the scheme.
    scheme, found, rest = text.partition("://")
    if not found:
        if (shortened := re.match(r"([a-z0-9]+):/", text)) and shortened[1] in (*_SCHEMES, "file"):
            raise UnsafePath(f"{shortened[1]}:/ lacks a slash: pass addresses as text", value=shortened[1])
        return Path(text)
    if scheme == "file":
        return Path(rest)
    if scheme not in _SCHEMES:
        known = ", ".join(f"{name}://" for name in _SCHEMES if name != "memory")
        raise UnsafePath(f"remote locations are {known}, not this one", path=f"{scheme[-20:]}://")
    owner = rest.partition("/")[0]
    if ":" in owner or "?" in rest or ("@" in owner and scheme not in ("abfs", "abfss")):
        raise UnsafePath(
            "an address holds no credentials: these are for the environment or the store's own configuration",
            path=f"{scheme}://",
        )
    folder = rest.strip("/") if scheme == "memory" else rest.rstrip("/")
    if not _is_plain(folder):
        raise UnsafePath("not the plain address of a folder", path=f"{scheme}://")
    return RemoteFolder(f"{scheme}://{folder}")


def local_folder(place: str | os.PathLike[str]) -> Path:
    """A folder to read from: itself, or the files of a remote one, see :meth:`RemoteFolder.mirror`.

    Raises:
        UnsafePath: if the address can't be used.
        StorageError: if there is no such remote folder, or it can't be fetched.
    """
    found = location(place)
    return found.mirror() if isinstance(found, RemoteFolder) else found


def local_output(place: str | os.PathLike[str]) -> Path:
    """A path to write to, where what is written can't lie in an object store.

    Raises:
        UnsafePath: if it is an address.
    """
    found = location(place)
    if isinstance(found, RemoteFolder):
        raise UnsafePath("this output is written to a local path only", path=found.url)
    return found


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as its store lists it.

    Attributes:
        name: Relative to the folder.
        size: Bytes.
        tag: Changes whenever the object is written, such as S3's ETag.
    """

    name: str
    size: int
    tag: str


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
        listed: dict[str, Any] = _tried(lambda: system.find(root, detail=True), self.url)
        found = {}
        odd = 0
        for path, info in listed.items():
            name = path[len(root) :].removeprefix("/")
            if not name or info.get("type") == "directory":
                continue
            if not _is_plain(name):
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
            info = _tried(lambda path=f"{root}/{_plain(name)}": _info(system, path), f"{self.url}/{name}")  # type: ignore[misc]
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
            _tried(lambda: _get(system, root, waiting, into, accounts), self.url)
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
        objects = [one for name, one in self.objects().items() if not _is_account(name) and chosen(name)]
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
        path = f"{root}/{_plain(name)}"
        return cast(BinaryIO, _tried(lambda: system.open(path, "rb"), f"{self.url}/{name}"))

    def read(self, name: str) -> bytes:
        """The content of a small object.

        Raises:
            StorageError: if it is not there.
        """
        system, root = self._system()
        return cast(bytes, _tried(lambda: system.cat_file(f"{root}/{_plain(name)}"), f"{self.url}/{name}"))

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
        path = f"{root}/{_plain(name)}"
        size = file.stat().st_size

        def put() -> dict[str, Any]:
            # An account that is there belongs to an older object, which this may be equal to.
            system.put_file(str(file), path)
            info: dict[str, Any] = system.info(path)
            if info["size"] != size:
                raise OSError(f"wrote {size} bytes and the store holds {info['size']}")
            return info

        tag = _tag(_tried(put, f"{self.url}/{name}"))
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        said = {"size": size, "tag": tag, "sha256": digest, "account": dict(account or {})}
        text = json.dumps(said, sort_keys=True).encode()
        _tried(lambda: system.pipe_file(f"{root}/{_account_name(name)}", text), f"{self.url}/{name}")

    def accounts(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Accounts of objects by name, of those that have one that can be read.

        Raises:
            StorageError: if the store refuses or can't be reached.
        """
        system, root = self._system()
        paths = {f"{root}/{_account_name(name)}": name for name in names}
        if not paths:
            return {}
        contents: dict[str, bytes | Exception] = {}

        def read() -> None:
            left = [path for path in paths if not isinstance(contents.get(path), bytes)]
            contents.update(system.cat(left, on_error="return"))
            for content in contents.values():
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content

        _tried(read, self.url)
        found = {}
        for path, name in paths.items():
            content = contents.get(path)
            if isinstance(content, bytes) and (account := _parsed(content)) is not None:
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
        asked = [name for name in names if name in objects and _account_name(name) in objects]
        return {
            name: said["account"]
            for name, said in self.accounts(asked).items()
            if (said["size"], said["tag"]) == (objects[name].size, objects[name].tag)
        }

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects, their accounts first.

        Raises:
            StorageError: if the store refuses or can't be reached.
        """
        system, root = self._system()
        for name in names:
            for path in (_account_name(name), _plain(name)):
                _tried(lambda path=f"{root}/{path}": _remove(system, path), f"{self.url}/{name}")  # type: ignore[misc]

    def _system(self) -> tuple[Any, str]:
        """The file system, made anew in every process since its threads don't survive a fork, and the folder in it."""
        import fsspec

        scheme = self.url.partition("://")[0]
        try:
            system = fsspec.filesystem(scheme, use_listings_cache=False)
        except ImportError:
            raise LibraryMissing(
                f"{scheme}:// needs {_PACKAGES[scheme]}: {_SCHEMES[scheme]}", value=_PACKAGES[scheme]
            ) from None
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


def _tried(work: Callable[[], T], path: str) -> T:
    """The result of an operation of a store, tried again where that may help.

    Raises:
        StorageError: instead of what the store's library raises.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except FileNotFoundError:
            raise StorageError("no such object, or no such bucket", path=path) from None
        except Exception as error:
            reason = _reason(error)
            if reason is None:
                raise
            if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
                raise StorageError(f"the store refuses: {reason}", path=path) from None
            if attempt == ATTEMPTS:
                raise StorageError(f"the store failed {ATTEMPTS} times: {reason}", path=path) from None
            logger.info("%s: %s, trying again", path, reason)
        time.sleep(_PAUSE_S * 2**attempt * random.uniform(0.5, 1.0))
    raise AssertionError("unreachable")


def _reason(error: Exception) -> str | None:
    """One line on what a store's library raised; None for what it did not."""
    library = type(error).__module__.partition(".")[0] in _LIBRARIES
    if not library and (not isinstance(error, OSError) or error.errno in _LOCAL_TROUBLE):
        return None
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    # A signed address is a credential.
    text = re.sub(r"\?\S+", "?...", re.sub(r"//[^/@\s]+@", "//...@", text))
    kind = "" if type(error) is OSError else f"{type(error).__name__}: "
    return f"{kind}{' '.join(text.split())[:200]}"


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


def _parsed(content: bytes) -> dict[str, Any] | None:
    """An account; None for what is none, as if it were not there."""
    try:
        said = json.loads(content)
        fitting = (
            isinstance(said["account"], dict)
            and isinstance(said["size"], int)
            and said["sha256"]
            and "tag" in said
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return said if fitting else None


def _tag(info: Mapping[str, Any]) -> str:
    return next((str(info[name]).strip('"') for name in _TAGS if info.get(name)), "")


def _is_plain(name: str) -> bool:
    """Whether a name stays below a folder, on every system."""
    parts = name.split("/")
    return (
        all(parts) and not {".", ".."} & set(parts) and not set("\\\0") & set(name) and parts[0][1:2] != ":"
    )


def _plain(name: str) -> str:
    if not _is_plain(name):
        raise UnsafePath("not the plain name of an object", path=name)
    return name


def _account_name(name: str) -> str:
    return f"{ACCOUNTS}/{_plain(name)}.json"


def _is_account(name: str) -> bool:
    return name.startswith(f"{ACCOUNTS}/")


def _is_fetched(path: Path, one: StoredObject) -> bool:
    return path.is_file() and path.stat().st_size == one.size


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cache() -> Path:
    """Where fetched objects are kept: ``ECG_HF_CACHE``, or a folder of the user's cache."""
    own = os.environ.get("ECG_HF_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ecg_hf"
