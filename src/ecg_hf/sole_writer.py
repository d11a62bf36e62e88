"""One writer per output: a second process that asks for the same output is refused, not interleaved."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecg_hf.errors import ConfigurationError

__all__ = ["sole_writer"]

# The operating system's locks keep out other processes, this set other threads of our own.
_held: set[str] = set()


@contextmanager
def sole_writer(output: str | os.PathLike[str]) -> Iterator[None]:
    """Hold an output (a file or a folder, there or not) for this process alone.

    The lock is the operating system's on a hidden file beside the output: it ends with the process, however that
    ends, and forked workers do not inherit it. The file is removed afterwards; one that a killed process left
    means nothing.

    Args:
        output: What is going to be written.

    Raises:
        ConfigurationError: if another process is writing it.
    """
    path = Path(output).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    key = os.path.realpath(lock)
    if key in _held:
        raise _refusal(output)
    _held.add(key)
    try:
        descriptor = _acquire(lock, output)
        try:
            yield
        finally:
            # Removed while it is still held: whoever opened it meanwhile finds out in _acquire.
            lock.unlink(missing_ok=True)
            os.close(descriptor)
    finally:
        _held.discard(key)


def _acquire(lock: Path, output: str | os.PathLike[str]) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # Not flock: a forked worker that outlives a killed parent would go on holding that.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still_there(lock, descriptor):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise _refusal(output) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_still_there(lock: Path, descriptor: int) -> bool:
    """Whether the file locked is the one others will open, not one its former holder has just removed."""
    try:
        return os.path.samestat(os.stat(lock), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _refusal(output: str | os.PathLike[str]) -> ConfigurationError:
    return ConfigurationError(
        "another process is writing this output; wait for it or choose another", path=output
    )
