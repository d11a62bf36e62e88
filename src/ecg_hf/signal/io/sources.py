"""What a recording is read from: a local file, bytes in memory, or a binary file object."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ecg_hf.errors import ConfigurationError, RecordNotFound, SignalError
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.io.paths import inside_root, local_path, read_file

__all__ = ["BYTES_PER_VALUE", "Source", "open_source"]

BYTES_PER_VALUE = 32
"""A file spends at most about this many bytes on a sample, text and XML included."""

_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes of one recording, read when they are asked for.

    Attributes:
        options: The caller's arguments; ``max_samples`` bounds what is read.
        path: Local path, None for bytes and file objects.
        held: The content, None for paths.
        name: Name of the file, if it has one: the path, or what a file object is called.
    """

    options: ReadOptions
    path: str | None = None
    held: bytes | None = None
    name: str | None = None

    @property
    def record_id(self) -> str | None:
        """Name of the file without its suffix; None where there is no file name."""
        return None if self.name is None else os.path.splitext(os.path.basename(self.name))[0]

    @property
    def suffix(self) -> str:
        """Suffix of the file's name in lower case, empty where it has none."""
        return os.path.splitext(self.name or "")[1].lower()

    def head(self) -> bytes:
        """The first 4096 bytes.

        Raises:
            RecordNotFound: if there is no regular file at the path.
        """
        return self.held[:_HEAD_BYTES] if self.held is not None else self._read(_HEAD_BYTES)[0]

    def content(self) -> bytes:
        """All bytes.

        Raises:
            SignalError: if there are more than ``max_samples`` values can need.
        """
        limit = self.options.max_samples * BYTES_PER_VALUE + 65536
        content, size = (self.held, len(self.held)) if self.held is not None else self._read(limit)
        if size > limit:
            raise SignalError(f"file has {size} bytes, too many for max_samples", value=size)
        return content

    def _read(self, limit: int) -> tuple[bytes, int]:
        if self.path is None:
            raise RecordNotFound("there is nothing to read")
        if self.options.root is not None:
            inside_root(self.path, self.options.root)
        return read_file(self.path, max_bytes=limit, root=self.options.root)


def open_source(source: Any, options: ReadOptions) -> Source:
    """A :class:`Source` of a path, bytes or a binary file object (read from where it stands).

    Raises:
        ConfigurationError: if ``source`` is none of these, or a file object gives text.
        UnsafePath: for paths that :func:`~ecg_hf.signal.io.paths.local_path` refuses.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return Source(options, held=bytes(source))
    if isinstance(source, str | os.PathLike) or not callable(getattr(source, "read", None)):
        path = local_path(source)
        return Source(options, path=path, name=path)
    limit = options.max_samples * BYTES_PER_VALUE + 65536
    try:
        content = source.read(limit + 1)
    except (OSError, ValueError, TypeError) as error:  # closed, not readable, or text that can't be decoded
        raise ConfigurationError(f"the file object can't be read ({type(error).__name__})") from None
    if not isinstance(content, bytes | bytearray):
        raise ConfigurationError("the file object does not give bytes: open the file in binary mode")
    name = getattr(source, "name", None)
    return Source(options, held=bytes(content), name=name if isinstance(name, str) and name else None)
