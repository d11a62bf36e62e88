"""Bulk work on this machine's processes and on a Dask cluster: time, memory, and what a piece costs its driver.

    python benchmarks/bench_engines.py [--records 2000 20000] [--workers 1 2] [--only commands overhead crowd]

``commands`` builds and embeds synthetic recordings at 100 Hz by the command line, on either engine with as many
processes, each of one thread. Printed are wall and processor seconds and the most memory that the driver and any one
worker had of their own (anonymous pages: files that are mapped are the system's). Of two numbers of records the slope
follows, seconds per 1,000 records, in which starting up does not count; the ratio is Dask's slope to the local one.
``overhead`` hands out pieces that do nothing. ``crowd`` has a thousand workers asleep on their pieces, and says how
much of their time the driver lets them sleep.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
from distributed import LocalCluster

from ecg_hf.engine import Engine, run_pieces

POLL_S = 0.1
MODEL = "ecg-distil-ptbxl"
NOTHING = 2000
CROWD = 1000
CROWD_PROCESSES = 4
ROUNDS = 10


@contextmanager
def cluster(workers: int, threads: int = 1) -> Iterator[str]:
    """Address of a scheduler with workers on this machine."""
    with LocalCluster(
        n_workers=workers, threads_per_worker=threads, processes=True, dashboard_address=None
    ) as found:
        yield found.scheduler_address


@dataclass
class Run:
    """What a command took: seconds, and bytes of the processes' own memory."""

    wall: float
    processor: float
    driver: int
    worker: int


def _own_memory(process: psutil.Process) -> int:
    """Anonymous memory; pages that a forked process still shares with its parent count for both."""
    with open(f"/proc/{process.pid}/status") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))


def _processor(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def run_command(arguments: list[str], workers: list[psutil.Process], said: IO[bytes]) -> Run:
    """Run ``ecg-hf``, what it says into a file; workers are those of a cluster, else the command's own children."""
    before = sum(map(_processor, workers))
    started, used = time.monotonic(), os.times()
    command = subprocess.Popen([sys.executable, "-m", "ecg_hf.cli", *arguments], stdout=said, stderr=said)
    driver = psutil.Process(command.pid)
    most = {"driver": 0, "worker": 0}
    while command.poll() is None:
        try:
            most["driver"] = max(most["driver"], _own_memory(driver))
            for worker in workers or driver.children(recursive=True):
                most["worker"] = max(most["worker"], _own_memory(worker))
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            pass
        time.sleep(POLL_S)
    wall, after = time.monotonic() - started, os.times()
    if command.returncode:
        said.seek(0)
        raise SystemExit(said.read().decode())
    own = (after.children_user + after.children_system) - (used.children_user + used.children_system)
    return Run(wall, own + sum(map(_processor, workers)) - before, most["driver"], most["worker"])


def commands(records: list[int], counts: list[int], place: Path) -> None:
    """Build and embed; each engine in turn."""
    slopes: dict[tuple[str, str, int], float] = {}
    for count in counts:
        for engine in ("local", "dask"):
            found: dict[str, list[tuple[int, Run]]] = {"build": [], "embed": []}
            for number in records:
                with _where(engine, count) as (options, workers):
                    built, out = place / "built", place / "out"
                    source = ["synthetic", "-o", f"records={number}", "--output", str(built)]
                    model = ["--model", MODEL, "--dataset", str(built), "--output", str(out)]
                    for name, arguments in (
                        ("build", ["data", "build", *source]),
                        ("embed", ["embed", *model]),
                    ):
                        # A pipe that nobody reads would fill up with progress.
                        with tempfile.TemporaryFile() as said:
                            run = run_command([*arguments, *options], workers(), said)
                        found[name].append((number, run))
                        print(
                            f"{name} {engine} {count} workers {number} records: {run.wall:.1f} s, processor "
                            f"{run.processor:.1f} s, driver {run.driver / 1e6:.0f} MB, worker "
                            f"{run.worker / 1e6:.0f} MB",
                            flush=True,
                        )
                    shutil.rmtree(built)
                    shutil.rmtree(out)
            for name, runs in found.items():
                (few, short), (many, long) = runs[0], runs[-1]
                if many > few:
                    slopes[name, engine, count] = (long.wall - short.wall) / (many - few)
    for (name, engine, count), slope in slopes.items():
        ratio = slopes[name, "local", count] / slope
        print(
            f"{name} {engine} {count} workers: {1e3 * slope:.2f} s per 1,000 records, local / this {ratio:.3f}"
        )


@contextmanager
def _where(engine: str, count: int) -> Iterator[tuple[list[str], Callable[[], list[psutil.Process]]]]:
    if engine == "local":
        yield ["--num-proc", str(count)], list
        return
    with cluster(count) as address:

        def workers() -> list[psutil.Process]:
            everyone = psutil.Process().children(recursive=True)
            return [one for one in everyone if "spawn_main" in " ".join(one.cmdline())]

        yield ["--engine", "dask", "--address", address], workers


def _nothing(piece: int) -> int:
    return piece


def _sleep(piece: tuple[int, float]) -> None:
    time.sleep(piece[1])


def overhead(counts: list[int]) -> None:
    """Milliseconds of a piece that does nothing."""
    for count in counts:
        with cluster(count) as address:
            for name, engine in (
                ("local", Engine(num_proc=max(2, count))),
                ("dask", Engine("dask", address=address)),
            ):
                started, used = time.perf_counter(), time.process_time()
                done = sum(1 for _ in run_pieces(_nothing, range(NOTHING), engine))
                wall, driver = time.perf_counter() - started, time.process_time() - used
                print(
                    f"{name}, {count} workers: {done} empty pieces, {1e3 * wall / done:.2f} ms each, "
                    f"{1e3 * driver / done:.2f} ms of the driver's processor",
                    flush=True,
                )


def crowd(seconds: list[float]) -> None:
    """A thousand workers whose pieces take so many seconds of sleep."""
    with cluster(CROWD_PROCESSES, CROWD // CROWD_PROCESSES) as address:
        for piece_s in seconds:
            pieces = [(number, piece_s) for number in range(ROUNDS * CROWD)]
            started, used = time.perf_counter(), time.process_time()
            done = sum(1 for _ in run_pieces(_sleep, pieces, Engine("dask", address=address)))
            wall, driver = time.perf_counter() - started, time.process_time() - used
            print(
                f"{CROWD} workers, {done} pieces of {piece_s:g} s: {wall:.0f} s where {ROUNDS * piece_s:g} s would "
                f"be all, {ROUNDS * piece_s / wall:.0%} of the time at work; driver {1e3 * driver / done:.2f} ms "
                "of processor per piece",
                flush=True,
            )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ("commands", "overhead", "crowd")
    parser.add_argument("--only", nargs="*", choices=kinds, default=kinds)
    parser.add_argument("--records", nargs="*", type=int, default=[2000, 20000])
    parser.add_argument("--workers", nargs="*", type=int, default=[2])
    parser.add_argument("--sleep", nargs="*", type=float, default=[5.0, 20.0])
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if "overhead" in options.only:
        overhead(options.workers)
    if "crowd" in options.only:
        crowd(options.sleep)
    if "commands" in options.only:
        with tempfile.TemporaryDirectory() as folder:
            commands(sorted(options.records), options.workers, Path(folder))


if __name__ == "__main__":
    main()
