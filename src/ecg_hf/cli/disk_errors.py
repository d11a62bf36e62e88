"""Tells "the disk is full" from a bug of this package, whichever library was writing."""

from __future__ import annotations

import errno
import os
import re

__all__ = ["disk_trouble"]

# safetensors and tokenizers (Rust) put the error number in their message; torch names only what it was doing.
_RUST = re.compile(r"\(os error (\d+)\)")
_TORCH = re.compile(
    r"PytorchStreamWriter failed|inline_container|unexpected pos|File too large|No space left"
)


def disk_trouble(error: BaseException) -> str | None:
    """One line on what the disk refused, or None if ``error`` has another cause.

    Looks through the chain of causes: a library may wrap the operating system's error in its own.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    line = None
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, OSError) and current.errno is not None:
            place = f"{current.filename}: " if current.filename else ""
            return f"{place}{current.strerror or current}"
        if found := _RUST.search(str(current)):
            return f"can't write: {os.strerror(int(found[1]))}"
        if isinstance(current, RuntimeError) and _TORCH.search(str(current)):
            line = f"can't write: {os.strerror(errno.ENOSPC)}, or the output can't be written to"
        current = current.__cause__ or current.__context__
    return line
