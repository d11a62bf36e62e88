"""Paths and addresses: which is which, and which are refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ecg_hf.errors import UnsafePath
from ecg_hf.storage.folder import LIBRARIES, RemoteFolder
from ecg_hf.storage.objects import is_plain

__all__ = ["local_folder", "local_only", "location"]

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")  # two letters at least: C:/ is a path


def location(place: str | os.PathLike[str]) -> Path | RemoteFolder:
    """A local path, or the folder of an object store that an address such as ``s3://bucket/folder`` names.

    Raises:
        UnsafePath: if the address is of no known scheme, holds credentials, or does not name a folder plainly.
    """
    text = os.fspath(place)
    # What is refused may hold a secret, so the error shows nothing but the scheme.
    scheme, found, rest = text.partition("://")
    if not found:
        if (shortened := re.match(r"([a-z0-9]+):/", text)) and shortened[1] in (*LIBRARIES, "file"):
            raise UnsafePath(f"{shortened[1]}:/ lacks a slash: pass addresses as text", value=shortened[1])
        return Path(text)
    if scheme == "file":
        return Path(rest)
    if scheme not in LIBRARIES:
        known = ", ".join(f"{name}://" for name in LIBRARIES if name != "memory")
        raise UnsafePath(f"remote locations are {known}, not this one", path=f"{scheme[-20:]}://")
    owner = rest.partition("/")[0]
    if ":" in owner or "?" in rest or ("@" in owner and scheme not in ("abfs", "abfss")):
        raise UnsafePath(
            "an address holds no credentials: these are for the environment or the store's own configuration",
            path=f"{scheme}://",
        )
    folder = rest.strip("/") if scheme == "memory" else rest.rstrip("/")
    if not is_plain(folder):
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


def local_only(place: str | os.PathLike[str]) -> Path:
    """A path of this machine, where an object store can't be read or written.

    An address that was made a ``Path`` is recognised too, and would otherwise be a folder called ``s3:``.

    Raises:
        UnsafePath: if it is an address. The error shows its scheme alone, since the rest may hold a secret.
    """
    text = os.fspath(place)
    if (found := _ADDRESS.match(text)) and not text.startswith("file://"):
        raise UnsafePath("a path of this machine is wanted here, no address", path=f"{found[1]}://")
    return Path(text.removeprefix("file://"))
