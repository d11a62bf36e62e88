"""Watching one call: which errors leave it, what it opens, how much memory it takes."""

from __future__ import annotations

import os
import sys
import sysconfig
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ecg_hf.errors import EcgError

_ALLOWANCE = 16 << 20
_MULTIPLE = 64
# What reading may import on the way: Python, its packages, this checkout.
_LIBRARIES = tuple(
    os.path.realpath(place)
    for place in (
        *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
        *(sys.prefix, sys.base_prefix, Path(__file__).parents[2], "/dev", "/proc", "/sys", "/usr/share"),
    )
)

_opened: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], (str, bytes)):
        _opened.append(os.fsdecode(arguments[0]))


sys.addaudithook(_watch)


class Misbehaviour(AssertionError):
    """What a reader must never do."""


def guarded(call: Callable[[], object], root: Path, file_bytes: int, *, traced: bool = True) -> str:
    """Run ``call``; returns the name of the error's class, ``"ok"`` if there was none.

    Args:
        call: What to watch.
        root: Where it may open files.
        file_bytes: Size of the file it reads.
        traced: Count what Python allocates. Not where threads outlive the call: switching the count on and off while
            they allocate can bring the interpreter down.

    Raises:
        Misbehaviour: if another error than ``EcgError`` leaves it, if it opens files outside ``root``, or takes more
            memory than a small multiple of its file.
    """
    global _opened
    if traced:
        tracemalloc.start()
    _opened = []
    try:
        call()
        outcome = "ok"
    except EcgError as error:
        outcome = type(error).__name__
        if "\n" in str(error):
            raise Misbehaviour(f"message of several lines: {str(error)!r}") from error
    except Exception as error:
        raise Misbehaviour(f"{type(error).__name__} escaped: {error}") from error
    finally:
        opened, _opened = _opened, None
        _, peak = tracemalloc.get_traced_memory()
        if traced:
            tracemalloc.stop()
    base = os.path.realpath(root)
    for path in opened:
        real = os.path.realpath(path)
        if not real.startswith((base + os.sep, *(place + os.sep for place in _LIBRARIES))):
            raise Misbehaviour(f"opened {path}, outside {root}")
    if peak > _ALLOWANCE + _MULTIPLE * file_bytes:
        raise Misbehaviour(f"took {peak} bytes for a file of {file_bytes}")
    return outcome
