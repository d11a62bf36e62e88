"""Pieces on a Dask cluster. The one module that knows Dask (extra ``cluster``)."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ecg_hf.allocator import keep_freed_memory
from ecg_hf.engine.workers import Engine, ResultLost, WorkerDied
from ecg_hf.errors import ConfigurationError, LibraryMissing

__all__ = ["DaskWorkers"]

CONNECT_S = 30
GPU = "GPU"
CHECK_S = 1.0
RESTART_S = 20
_GONE = "the scheduler is gone; the same command goes on when there is one again"


class DaskWorkers:
    """Workers of a Dask cluster; TLS and everything else about it is Dask's own configuration.

    Dask itself hands a piece to another worker when one dies, and gives up after ``retries`` further ones.

    Raises:
        LibraryMissing: without the extra ``cluster``.
        ConfigurationError: if no scheduler answers.
    """

    tries_again = True

    def __init__(self, engine: Engine) -> None:
        self._dask = _library("distributed")
        self._timeout, self._retries = engine.piece_timeout, engine.retries
        self._cluster, self._client = _connect(self._dask, engine)
        self._address = engine.address
        self._fetched: dict[Any, Any] = {}
        self._client.run_on_scheduler(_allow_failures, failures=engine.retries)
        self._needs = {GPU: 1} if engine.gpu else None
        if engine.gpu and self._client.nthreads() and not self._client.run_on_scheduler(_count_gpus):
            self.close()
            raise ConfigurationError(
                "no worker of the cluster has a GPU: dask worker --resources GPU=1 says that one has",
                value=GPU,
            )

    @property
    def slots(self) -> int:
        """Threads of the cluster as it is now, or its GPUs if pieces take one.

        No piece waits at a worker for another: Dask would blame it for that one's death.
        """
        with self._scheduler_there():
            if self._needs is not None:
                return max(1, int(self._client.run_on_scheduler(_count_gpus)))
            threads: dict[str, int] = self._client.nthreads()
            return max(1, sum(threads.values()))

    def submit(self, work: Callable[[Any], Any], piece: Any) -> Any:
        """See :class:`ecg_hf.engine.workers.Workers`."""
        # Not pure: the same piece is another task in another run, since files decide what is done.
        with self._scheduler_there():
            return self._client.submit(_work, work, piece, pure=False, resources=self._needs)

    def finished(self, futures: Sequence[Any]) -> set[Any]:
        """See :class:`ecg_hf.engine.workers.Workers`."""
        while True:
            done = {future for future in futures if future.status != "pending"}
            if done:
                self._fetch(done)
                return done
            if self._client.status != "running":
                raise ConfigurationError(_GONE, value=self._address)
            with self._scheduler_there():
                try:
                    with self._client.as_current():
                        self._dask.wait(list(futures), timeout=CHECK_S, return_when="FIRST_COMPLETED")
                except TimeoutError:
                    self._restart_hanging()
                except self._dask.client.FuturesCancelledError:
                    continue  # their status says so too

    def _fetch(self, done: set[Any]) -> None:
        """Results in one request: one for each would keep a thousand workers waiting."""
        there = [future for future in done if future.status == "finished"]
        try:
            self._fetched = dict(zip(there, self._client.gather(there), strict=True))
        except Exception:
            self._fetched = {}  # one of them was lost meanwhile; which, their own requests tell

    def result(self, future: Any) -> Any:
        """See :class:`ecg_hf.engine.workers.Workers`."""
        if future in self._fetched:
            return self._fetched.pop(future)
        if future.status in ("cancelled", "lost"):
            if self._client.status != "running":
                raise ConfigurationError(_GONE, value=self._address)
            raise ResultLost
        try:
            return future.result()
        except self._dask.client.FutureCancelledError:
            return self.result(future)
        except self._dask.KilledWorker:
            raise WorkerDied from None

    def close(self) -> None:
        """See :class:`ecg_hf.engine.workers.Workers`."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    @contextmanager
    def _scheduler_there(self) -> Iterator[None]:
        """Whatever Dask makes of it: without a scheduler, that is what is said."""
        try:
            yield
        except (OSError, RuntimeError, self._dask.client.ClosedClientError):
            if self._client.status == "running":
                raise
            raise ConfigurationError(_GONE, value=self._address) from None

    def _restart_hanging(self) -> None:
        """Restart workers whose piece takes longer than it may; Dask hands the piece out again."""
        if self._timeout is None:
            return
        hanging = [
            address
            for address, seconds in self._client.run_on_scheduler(_executing).items()
            if seconds > self._timeout
        ]
        if hanging:
            self._client.restart_workers(hanging, timeout=RESTART_S, raise_for_error=False)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise LibraryMissing(
            "clusters need dask: pip install 'ecg-hf[cluster]' (in a checkout, '.[cluster]')", value="cluster"
        ) from None


def _connect(dask: Any, engine: Engine) -> tuple[Any, Any]:
    """The cluster, if it is ours, and its client."""
    address, cluster = str(engine.address), None
    try:
        if address == "slurm":
            cluster = _library("dask_jobqueue").SLURMCluster()
            cluster.scale(jobs=engine.num_proc)
            return cluster, dask.Client(cluster, timeout=CONNECT_S, set_as_default=False)
        if Path(address).is_file():
            return None, dask.Client(scheduler_file=address, timeout=CONNECT_S, set_as_default=False)
        return None, dask.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        if cluster is not None:
            cluster.close()
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigurationError(f"no Dask scheduler answers at {address}: {reason}", value=address) from None


def _work(work: Callable[[Any], Any], piece: Any) -> Any:
    keep_freed_memory()
    return work(piece)


def _allow_failures(dask_scheduler: Any, failures: int) -> None:
    dask_scheduler.allowed_failures = failures


def _count_gpus(dask_scheduler: Any) -> float:
    return float(sum(worker.resources.get(GPU, 0) for worker in dask_scheduler.workers.values()))


def _executing(dask_scheduler: Any) -> dict[str, float]:
    """Seconds that each worker's longest piece has been under way."""
    now = time.time()
    found: dict[str, float] = {}
    for address, worker in dask_scheduler.workers.items():
        late = now - worker.last_seen
        found[address] = max((seconds + late for seconds in worker.executing.values()), default=0.0)
    return found
