"""Watching one call: which errors leave it, what it opens, how much memory it takes; and the fuzzers' loop."""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import sys
import sysconfig
import tempfile
import time
import traceback
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

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


Outcomes = dict[str, Counter[str]]
"""How the inputs of each kind ended: ``"ok"``, the class of the error, or ``"MISBEHAVIOUR"``."""

MEMORY = 6 << 30


class Fuzzer(Protocol):
    """What :func:`main_of` calls: tries inputs below a folder for a while."""

    def __call__(
        self, folder: Path, *, seconds: float, seed: int, only: tuple[str, ...] = ()
    ) -> tuple[Outcomes, int]: ...


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' warnings about the rubbish they are given."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def fuzz(
    attempts: Mapping[str, Callable[[random.Random], str]], *, seconds: float, seed: int
) -> tuple[Outcomes, int]:
    """Try inputs of every kind in turn for a while; the traceback of each new kind of misbehaviour is printed.

    Args:
        attempts: Kind -> what makes and tries one input, and returns how it ended.
        seconds: How long.
        seed: Inputs ``seed * 1e9 + 1``, ``+ 2`` ... are tried, each made from its number alone.

    Returns:
        How the inputs of each kind ended, and how many ended as they never may.
    """
    outcomes: Outcomes = {kind: Counter() for kind in attempts}
    kinds, seen = list(attempts), set()
    number, end = seed * 1_000_000_000, time.monotonic() + seconds
    while time.monotonic() < end:
        number += 1
        kind = kinds[number % len(kinds)]
        try:
            outcomes[kind][attempts[kind](random.Random(number))] += 1
        except Misbehaviour as error:
            outcomes[kind]["MISBEHAVIOUR"] += 1
            if (reason := f"{kind}: {str(error)[:60]}") not in seen:
                seen.add(reason)
                print(f"{kind}, input {number}:", file=sys.stderr)
                traceback.print_exc()
    return outcomes, sum(counts["MISBEHAVIOUR"] for counts in outcomes.values())


def main_of(fuzzer: Fuzzer, description: str | None, kinds: tuple[str, ...] | None = None) -> None:
    """Run a fuzzer from the command line; leaves with status 1 if anything misbehaved."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=kinds, default=())
    options = parser.parse_args()
    # What asks for more than this shall fail here, not bring the machine down.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as folder, quiet():
        outcomes, foreign = fuzzer(
            Path(folder), seconds=60 * options.minutes, seed=options.seed, only=tuple(options.only)
        )
    for kind, counts in outcomes.items():
        print(f"{kind:24s} {sum(counts.values()):8d}  {dict(counts.most_common())}")
    total = sum(sum(counts.values()) for counts in outcomes.values())
    accepted = sum(counts["ok"] for counts in outcomes.values())
    print(json.dumps({"inputs": total, "accepted": accepted, "foreign": foreign}))
    sys.exit(1 if foreign else 0)
