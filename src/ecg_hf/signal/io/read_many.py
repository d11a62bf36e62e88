"""Many recordings, one after the other or read ahead in threads."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Literal, overload

from ecg_hf.errors import ConfigurationError, EcgError
from ecg_hf.signal.io.reading import read_record
from ecg_hf.signal.record import EcgRecord

__all__ = ["read_records"]

logger = logging.getLogger(__name__)

AnyPath = str | os.PathLike[str]

# Handing over one record costs as much as reading it.
_PER_TASK = 4
_TASKS_AHEAD = 2


@overload
def read_records(
    paths: Iterable[AnyPath],
    *,
    on_error: Literal["raise"] = "raise",
    num_threads: int | None = None,
    **options: Any,
) -> Iterator[EcgRecord]: ...


@overload
def read_records(
    paths: Iterable[AnyPath],
    *,
    on_error: Literal["raise", "skip"],
    num_threads: int | None = None,
    **options: Any,
) -> Iterator[EcgRecord | EcgError]: ...


def read_records(
    paths: Iterable[AnyPath],
    *,
    on_error: Literal["raise", "skip"] = "raise",
    num_threads: int | None = None,
    **options: Any,
) -> Iterator[EcgRecord | EcgError]:
    """Read recordings one after the other; with several threads, a few ahead of the one that is wanted.

    Each is what :func:`~ecg_hf.signal.io.reading.read_record` gives, with the same checks. Some dozens of recordings
    are in memory at a time, however many there are.

    Args:
        paths: Files, as :func:`~ecg_hf.signal.io.reading.read_record` takes them; any iterable.
        on_error: ``"raise"`` stops at the first recording that can't be read. ``"skip"`` logs a warning and gives the
            error in its place, so that results and paths stay aligned.
        num_threads: Threads that read. If not given, one, which is none besides the caller's, since threads that
            wait for the interpreter's lock cost more than they bring (0.51 ms a record with two, 0.32 with one, of
            files in memory); as many as there are processors where the interpreter has no such lock. More are worth
            trying where files come over a network.
        options: Further arguments of :func:`~ecg_hf.signal.io.reading.read_record`, the same for all recordings.

    Yields:
        A record for each path, in order; with ``on_error="skip"`` the ``EcgError`` of one that can't be read.

    Raises:
        ConfigurationError: for another ``on_error`` or fewer than one thread, before anything is read.
        EcgError: of the first recording that can't be read, unless errors are skipped.

    Example:
        >>> for record in ecg_hf.read_records(sorted(Path("records500").rglob("*.hea"))):  # doctest: +SKIP
        ...     print(record.record_id, record.duration_s)
    """
    if on_error not in ("raise", "skip"):
        raise ConfigurationError(f"on_error is raise or skip, got {on_error!r:.40}", value=on_error)
    locked = getattr(sys, "_is_gil_enabled", lambda: True)()
    threads = (1 if locked else os.cpu_count() or 1) if num_threads is None else num_threads
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ConfigurationError(f"num_threads must be at least 1, got {threads!r:.40}", value=threads)
    return _in_order(paths, threads, on_error == "skip", options)


def _in_order(
    paths: Iterable[AnyPath], threads: int, skip: bool, options: dict[str, Any]
) -> Iterator[EcgRecord | EcgError]:
    for part in _parts(paths, threads, options):
        for one in part:
            if isinstance(one, EcgError):
                if not skip:
                    raise one
                logger.warning("skipped a recording: %s", one)
            yield one


def _parts(
    paths: Iterable[AnyPath], threads: int, options: dict[str, Any]
) -> Iterator[list[EcgRecord | EcgError]]:
    remaining = iter(paths)
    tasks = iter(lambda: list(islice(remaining, _PER_TASK)), [])
    if threads == 1:
        yield from (_read(task, options) for task in tasks)
        return
    ahead: deque[Future[list[EcgRecord | EcgError]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read_records")
    try:
        for task in tasks:
            ahead.append(pool.submit(_read, task, options))
            if len(ahead) >= _TASKS_AHEAD * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        # A caller that stops early waits for the tasks that run, not for those that queue.
        pool.shutdown(wait=True, cancel_futures=True)


def _read(paths: list[AnyPath], options: dict[str, Any]) -> list[EcgRecord | EcgError]:
    """The records of some paths; errors are results, so that those before them are delivered first."""
    results: list[EcgRecord | EcgError] = []
    for path in paths:
        try:
            results.append(read_record(path, **options))
        except EcgError as error:
            results.append(error)
    return results
