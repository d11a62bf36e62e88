"""Run many independent pieces of work, each of them whole or not at all, wherever processes are to be had.

A piece is anything that pickles; ``work(piece)`` writes what belongs to it and returns a small account. Which pieces
are still to do is the caller's question, and answered by files: so a killed run loses what was under way and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ecg_hf.engine.workers import Engine, LocalWorkers, ResultLost, WorkerDied, Workers
from ecg_hf.errors import EcgError

__all__ = ["FailedPieces", "run_pieces"]


class FailedPieces(EcgError):
    """Pieces that ended their worker each time; everything else is done."""


def run_pieces(
    work: Callable[[Any], Any], pieces: Sequence[Any], engine: Engine | None = None
) -> Iterator[tuple[Any, Any]]:
    """Work on every piece; yields pieces with their results as they are finished.

    Args:
        work: A function of a module, so that other processes find it. What it raises ends the run, after the pieces
            under way; the caller's files tell what is left.
        pieces: What to work on, in the order in which they are handed out.
        engine: Where; this process by default.

    Raises:
        FailedPieces: at the end, if pieces ended their workers ``retries`` times more than once.
        ConfigurationError: if a cluster can't be reached.
    """
    engine = engine or Engine()
    if engine.name == "local" and (engine.num_proc == 1 or len(pieces) <= 1):
        for piece in pieces:
            yield piece, work(piece)
        return
    workers: Workers
    if engine.name == "dask":
        from ecg_hf.engine.dask import DaskWorkers

        workers = DaskWorkers(engine)
    else:
        workers = LocalWorkers(min(engine.num_proc, len(pieces)))
    try:
        yield from _hand_out(work, pieces, workers, engine.retries)
    finally:
        workers.close()


def _hand_out(
    work: Callable[[Any], Any], pieces: Sequence[Any], workers: Workers, retries: int
) -> Iterator[tuple[Any, Any]]:
    waiting = list(reversed(range(len(pieces))))
    suspects: list[int] = []
    deaths: dict[int, int] = {}
    lost: list[int] = []
    running: dict[Any, int] = {}
    while waiting or suspects or running:
        # Pieces that were under way when a process died run alone, so that the next death tells which it was.
        alone = bool(suspects)
        slots = 1 if alone else workers.slots
        queue = suspects if alone else waiting
        while queue and len(running) < slots:
            number = queue.pop()
            running[workers.submit(work, pieces[number])] = number
        for future in workers.finished(list(running)):
            number = running.pop(future)
            try:
                result = workers.result(future)
            except ResultLost:
                waiting.append(number)
            except WorkerDied:
                # Those that died in a crowd are counted once they have been tried one by one.
                deaths[number] = deaths.get(number, 0) + alone
                over = workers.tries_again or deaths[number] > retries
                (lost if over else suspects).append(number)
            else:
                yield pieces[number], result
    if lost:
        names = ", ".join(str(pieces[number]) for number in sorted(lost)[:5])
        raise FailedPieces(
            f"{len(lost)} of {len(pieces)} pieces ended their worker each time (out of memory?): {names}; everything "
            "else is done",
            value=len(lost),
        )
