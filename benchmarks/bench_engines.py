"""Bulk work on this machine's processes and on a Dask cluster: time, memory, and what a piece costs its driver.

    python benchmarks/bench_engines.py [--records 2000 20000] [--workers 1 2] [--rounds 3] [--commands build]
        [--only commands overhead crowd]

``commands`` builds and embeds synthetic recordings at 100 Hz by the command line, on either engine with as many
processes, each of one thread. Printed are wall and processor seconds and the most memory that the driver and any one
worker had of their own (anonymous pages: files that are mapped are the system's). From the fewest and the most
records follows a slope, seconds per 1,000 records, in which starting up does not count; the ratio is the local one to
Dask's.
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
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
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


def commands(records: list[int], counts: list[int], names: list[str], rounds: int, place: Path) -> None:
    """Build and embed; engines alternate, since a shared machine's speed wanders over minutes."""
    engines = ("local", "dask")
    for count in counts:
        walls: dict[tuple[str, str, int], list[float]] = defaultdict(list)
        for number in records:
            for _ in range(rounds):
                for engine in engines:
                    for name, run in _build_and_embed(engine, count, number, names, place):
                        walls[name, engine, number].append(run.wall)
                        print(
                            f"{name} {engine} {count} workers {number} records: {run.wall:.1f} s, processor "
                            f"{run.processor:.1f} s, driver {run.driver / 1e6:.0f} MB, worker "
                            f"{run.worker / 1e6:.0f} MB",
                            flush=True,
                        )
        few, many = records[0], records[-1]
        if few == many:
            continue
        for name in names:
            slope = {
                engine: (median(walls[name, engine, many]) - median(walls[name, engine, few])) / (many - few)
                for engine in engines
            }
            print(
                f"{name} {count} workers: {1e3 * slope['local']:.2f} s per 1,000 records, with Dask "
                f"{1e3 * slope['dask']:.2f}: {slope['local'] / slope['dask']:.3f} of its speed (medians of {rounds})"
            )


def _build_and_embed(
    engine: str, count: int, number: int, names: list[str], place: Path
) -> Iterator[tuple[str, Run]]:
    """What was asked for of the two; the build is always made, since the other reads it."""
    built, out = place / "built", place / "out"
    with _where(engine, count) as (options, workers):
        for name, arguments in (
            ("build", ["data", "build", "synthetic", "-o", f"records={number}", "--output", str(built)]),
            ("embed", ["embed", "--model", MODEL, "--dataset", str(built), "--output", str(out)]),
        ):
            if name == "build" or name in names:
                # A pipe that nobody reads would fill up with progress.
                with tempfile.TemporaryFile() as said:
                    run = run_command([*arguments, *options], workers(), said)
                if name in names:
                    yield name, run
    shutil.rmtree(built)
    shutil.rmtree(out, ignore_errors=True)


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
    parser.add_argument("--commands", nargs="*", choices=("build", "embed"), default=["build", "embed"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sleep", nargs="*", type=float, default=[5.0, 20.0])
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if "overhead" in options.only:
        overhead(options.workers)
    if "crowd" in options.only:
        crowd(options.sleep)
    if "commands" in options.only:
        with tempfile.TemporaryDirectory() as folder:
            sizes = sorted(options.records)
            commands(sizes, options.workers, options.commands, options.rounds, Path(folder))


if __name__ == "__main__":
    main()
