"""Opening files safely: no remote locations, nothing outside the data root, no devices."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ecg_hf.errors import RecordNotFound, UnsafePath

__all__ = ["inside_root", "join_inside_root", "local_path", "read_file", "recordings_below"]

# Following a final symbolic link must be a decision, and opening a named pipe must not block.
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)

# Files that belong to recordings, and others that are found beside them.
_NOT_RECORDINGS = (
    *(".json", ".md", ".pdf", ".png", ".jpg", ".zip"),
    *(".atr", ".qrs", ".ann", ".py", ".xws"),
)


def recordings_below(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Files below a folder that may be recordings, in sorted order, each folder before those in it.

    A WFDB record is its header. Hidden files and folders are left out, and files with a suffix that no recording has.
    """
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        headers = {name[:-4] for name in names if name.endswith(".hea")}
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            signal_of_header = (suffix == ".dat" and headers) or (suffix == ".mat" and stem in headers)
            if not name.startswith(".") and suffix.lower() not in _NOT_RECORDINGS and not signal_of_header:
                yield Path(place, name)


def local_path(path: str | os.PathLike[str]) -> str:
    """``path`` as text, refused when it names a remote location.

    Raises:
        UnsafePath: for URLs (``s3://``, ``gs://``, ``http://`` ...) and paths that hold a NUL character.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise UnsafePath(f"path must be text, got {type(text).__name__}", value=type(text).__name__)
    if "://" in text:
        raise UnsafePath("remote locations are not read; download the record first", path=text)
    if "\0" in text or not text:
        raise UnsafePath("path is empty or holds a NUL character", path=text.replace("\0", "?"))
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise UnsafePath("path can't be encoded", path=ascii(text)) from None
    return text


def inside_root(path: str, root: str | os.PathLike[str]) -> str:
    """``path`` unchanged, if what it refers to once all links are followed lies inside ``root``.

    Raises:
        UnsafePath: if it does not, or if it contains a backslash.
    """
    if "\\" in path:
        raise UnsafePath("path contains a backslash", path=path)
    base = os.path.realpath(root)
    real = os.path.realpath(path)
    if os.path.commonpath([base, real]) != base:
        raise UnsafePath("path leads out of the data root", path=path)
    return path


def join_inside_root(root: str | os.PathLike[str], name: str) -> str:
    """Path of a record that a manifest names relative to ``root``.

    Raises:
        UnsafePath: if ``name`` is absolute, climbs with ``..``, contains a backslash or a drive, is a URL,
            or reaches outside through a symbolic link.
    """
    name = local_path(name)
    parts = name.replace("\\", "/").split("/")
    if "\\" in name or os.path.isabs(name) or ".." in parts or (len(name) > 1 and name[1] == ":"):
        raise UnsafePath("record name must be a plain relative path", path=name)
    return inside_root(os.path.join(os.fspath(root), name), root)


def read_file(
    path: str,
    *,
    max_bytes: int,
    what: str = "file",
    root: str | os.PathLike[str] | None = None,
) -> tuple[bytes, int]:
    """The first ``max_bytes`` of a regular file, and the file's size.

    Args:
        path: Local path.
        max_bytes: Most bytes to read.
        what: Word for the file in error messages.
        root: Folder that a symbolic link at ``path`` may not leave; its own folder when None.

    Raises:
        UnsafePath: if ``path`` is a link that leaves that folder.
        RecordNotFound: if it is not a regular file or can't be read.
    """
    try:
        try:
            descriptor = os.open(path, _FLAGS | _NO_FOLLOW)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EMLINK) or not os.path.islink(path):
                raise
            try:
                inside_root(path, os.path.dirname(path) or "." if root is None else root)
            except UnsafePath:
                raise UnsafePath(
                    f"{what} is a symbolic link that leaves its folder; pass root= to say where it may lead",
                    path=path,
                ) from None
            descriptor = os.open(path, _FLAGS)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise RecordNotFound(f"{what} is not a regular file", path=path)
            wanted = min(max_bytes, status.st_size)
            content = os.read(descriptor, wanted) if wanted else b""
            if len(content) < wanted:
                content = _read_rest(descriptor, content, wanted)
            return content, status.st_size
        finally:
            os.close(descriptor)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "can't be opened"
        raise RecordNotFound(f"{what} can't be read: {reason}", path=path) from None


def _read_rest(descriptor: int, start: bytes, wanted: int) -> bytes:
    # One read() call returns at most about 2 GiB.
    parts = [start]
    missing = wanted - len(start)
    while missing:
        part = os.read(descriptor, min(missing, 1 << 30))
        if not part:
            break
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
