"""Where pieces are worked on, and the processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol

from ecg_hf.allocator import keep_freed_memory
from ecg_hf.errors import ConfigurationError

__all__ = ["Engine", "LocalWorkers", "ResultLost", "WorkerDied", "Workers"]

ORPHAN_CHECK_S = 1.0


class WorkerDied(Exception):
    """The process that worked on a piece is gone."""


class ResultLost(Exception):
    """A piece's result went with the process that had it; the piece is handed out again."""


@dataclass(frozen=True)
class Engine:
    """Where pieces are worked on.

    Attributes:
        name: ``local`` (processes of this machine) or ``dask``.
        address: Of Dask: ``HOST:PORT`` of a scheduler, the path of a scheduler file, or ``slurm`` (through
            dask-jobqueue and its own configuration).
        num_proc: Local processes; 1 is this process itself.
        retries: How often a piece is tried again after its worker died.
        piece_timeout: Seconds after which a piece of Dask counts as hanging: its worker is restarted.
        gpu: Whether a piece takes a GPU: Dask's workers get as many pieces as they have of the resource ``GPU``.
    """

    name: str = "local"
    address: str | None = None
    num_proc: int = 1
    retries: int = 2
    piece_timeout: float | None = None
    gpu: bool = False

    def __post_init__(self) -> None:
        """Check that the values go together."""
        if self.name not in ("local", "dask"):
            raise ConfigurationError(f"unknown engine {self.name!r}; known: local, dask", value=self.name)
        if (self.name == "dask") != (self.address is not None):
            raise ConfigurationError(
                "--engine dask and --address HOST:PORT|slurm|FILE go together", value=self.address
            )
        if self.num_proc < 1 or self.retries < 0:
            raise ConfigurationError("num_proc must be positive, retries at least 0", value=self.num_proc)
        if self.piece_timeout is not None and (self.name == "local" or self.piece_timeout <= 0):
            raise ConfigurationError("piece_timeout is for Dask, and above 0", value=self.piece_timeout)


class Workers(Protocol):
    """What runs pieces: :class:`LocalWorkers`, or Dask's."""

    @property
    def slots(self) -> int:
        """Pieces to hand out at a time."""

    tries_again: bool
    """Whether a piece whose worker died has been tried again already, as often as it was to be."""

    def submit(self, work: Callable[[Any], Any], piece: Any) -> Any:
        """Start a piece; gives a future."""

    def finished(self, futures: Sequence[Any]) -> set[Any]:
        """Wait for the first of them."""

    def result(self, future: Any) -> Any:
        """What a finished future holds; raises :class:`WorkerDied` or :class:`ResultLost` if its process is gone."""

    def close(self) -> None:
        """Let go of the processes."""


class LocalWorkers:
    """Processes of this machine, one thread each.

    A process that dies breaks the standard library's pool, and with it every piece under way. So no more pieces are
    handed out than there are processes, and after a death each of them is tried alone.
    """

    tries_again = False

    def __init__(self, num_proc: int) -> None:
        self._slots = num_proc
        self._pool = self._open()

    @property
    def slots(self) -> int:
        """See :class:`Workers`."""
        return self._slots

    def _open(self) -> ProcessPoolExecutor:
        methods = multiprocessing.get_all_start_methods()
        # Spawned workers would run the caller's script again up to its main guard.
        context = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
        return ProcessPoolExecutor(
            self._slots, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),)
        )

    def submit(self, work: Callable[[Any], Any], piece: Any) -> Future[Any]:
        """See :class:`Workers`."""
        try:
            return self._pool.submit(work, piece)
        except BrokenProcessPool:
            self._pool.shutdown(wait=False)
            self._pool = self._open()
            return self._pool.submit(work, piece)

    def finished(self, futures: Sequence[Future[Any]]) -> set[Future[Any]]:
        """See :class:`Workers`."""
        return wait(futures, return_when=FIRST_COMPLETED).done

    def result(self, future: Future[Any]) -> Any:
        """See :class:`Workers`."""
        try:
            return future.result()
        except BrokenProcessPool:
            raise WorkerDied from None

    def close(self) -> None:
        """See :class:`Workers`."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(parent: int) -> None:
    # Ctrl-C reaches every process of a terminal: the parent reports it once, and workers finish their piece.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    keep_freed_memory()
    # Processes are what runs side by side; and OpenMP's threads don't survive a fork.
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


def _end_with_parent(parent: int) -> None:
    # A killed parent can't stop its workers, which would wait for work forever.
    while os.getppid() == parent:
        time.sleep(ORPHAN_CHECK_S)
    os._exit(1)
