"""Writing files: one writer per output at a time, and every file complete or not there at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from ecg_hf.errors import ConfigurationError

__all__ = [
    "TEMPORARY_SUFFIX",
    "flush",
    "replace_file",
    "replace_folder",
    "sole_maker",
    "sole_writer",
    "temporary_name",
    "write_whole",
]

TEMPORARY_SUFFIX = ".tmp"
"""Ending of the files :func:`replace_file` writes to; one that a killed process left means nothing."""

# Binary on Windows; never through a link, and never into a file that is there already.
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def sole_writer(output: str | os.PathLike[str], *, inside: bool = False) -> Iterator[None]:
    """Hold an output (a file or a folder, existing or not) for this process alone.

    The lock is the operating system's, on a hidden file beside the output (links resolved), so it ends with the
    process however that ends. The file is removed afterwards; one that a killed process left means nothing.

    Args:
        output: What is going to be written.
        inside: Keep the lock in the folder ``output``, for folders whose parent may not be ours to write to.

    Raises:
        ConfigurationError: if another process, or another part of this one, is writing it.
    """
    path = Path(os.path.realpath(output))
    place = path / ".lock" if inside else path.with_name(f".{path.name}.lock")
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigurationError(
            "another process is writing this output; wait for it or choose another", path=output
        ) from None
    try:
        yield
    finally:
        # Removed while still held, so that nobody locks a file that is about to go. Windows keeps open files.
        with suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


@contextmanager
def sole_maker(folder: Path, lock: str, *names: str) -> Iterator[None]:
    """Hold a folder, made if it is missing, whose files other processes write for this one by :func:`replace_file`.

    What killed ones left is removed before and after; one that still writes for a command that is gone only fails.

    Args:
        folder: The folder.
        lock: Name of the lock in it.
        names: Patterns of the files' names.

    Raises:
        ConfigurationError: if another process holds it.
    """

    def remove_half_written() -> None:
        for name in names:
            for path in folder.glob(f".{name}.*{TEMPORARY_SUFFIX}"):
                path.unlink(missing_ok=True)

    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder / lock):
        remove_half_written()
        yield
        remove_half_written()


@contextmanager
def replace_file(
    path: str | os.PathLike[str], *, scratch: str | os.PathLike[str] | None = None
) -> Iterator[BinaryIO]:
    """Write a file that appears under its name only when it is complete, even after a power cut.

    The bytes go to a new file of a random name, which can't be a link somebody has laid there. It takes the place of
    ``path`` (of the link itself, if that is one) when the block ends, and is removed when the block raises.

    Args:
        path: The file; its folder must exist.
        scratch: Folder for the file while it is written, on the same disk; that of ``path`` when None.

    Yields:
        A binary file to write to.
    """
    target = Path(path)
    temporary = temporary_name(target if scratch is None else Path(scratch) / target.name)
    descriptor = os.open(temporary, _CREATE, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(target.parent)


@contextmanager
def replace_folder(path: str | os.PathLike[str], *, overwrite: bool) -> Iterator[Path]:
    """Write a folder that appears under its name only when it is complete.

    Args:
        path: The folder; held by :func:`sole_writer` meanwhile.
        overwrite: Replace one that exists; it is removed only once the new one is in place.

    Yields:
        A name in the same folder, to be made a folder and filled. Nothing of it is left when the block raises.

    Raises:
        ConfigurationError: if the folder exists and is not to be replaced, or another process is writing it.
    """
    target = Path(path)
    with sole_writer(target):
        # What a killed process left.
        for stale in target.parent.glob(f".{escape(target.name[:100])}.*{TEMPORARY_SUFFIX}"):
            if stale.is_dir() and not stale.is_symlink():
                shutil.rmtree(stale, ignore_errors=True)
        partial, replaced = temporary_name(target), temporary_name(target)
        try:
            yield partial
            if target.exists():
                if not overwrite:  # it may have been created meanwhile
                    raise ConfigurationError(
                        "exists already: overwrite it or choose another folder", path=target
                    )
                os.replace(target, replaced)
            os.replace(partial, target)
            shutil.rmtree(replaced, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_whole(
    path: str | os.PathLike[str], content: str | bytes, *, scratch: str | os.PathLike[str] | None = None
) -> None:
    """Write a small file by :func:`replace_file`; text as UTF-8."""
    with replace_file(path, scratch=scratch) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


def temporary_name(path: Path) -> Path:
    """A name in the same folder that nobody can foresee."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")


def flush(path: Path) -> None:
    """Make a file, or a folder's list of names, reach the disk (folders where the operating system can)."""
    if os.name != "posix" and path.is_dir():
        return
    # Windows only flushes what is open for writing.
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
