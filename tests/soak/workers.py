"""Soak test of bulk work: kill -9 of workers, schedulers and drivers at drawn moments, beside the undisturbed result.

    python -m tests.soak.workers --runs 20 --only build embed study --engine local dask

Each command is run once undisturbed; that is the truth. Then a victim is killed at a moment drawn over the time its
work took, and what is there at the end must be the truth: rows, their order, values. A worker's death is the engine's
affair; after a scheduler's or a driver's the same command is given again. ``hang`` stops a worker (SIGSTOP).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.parquet as pq
from distributed import Client

from tests.engine.local_cluster import LocalCluster
from tests.soak.scenarios import Result, digest

PATIENCE_S = 600.0
POLL_S = 0.02
STUDY = """
title: Soak
pretrain: {datasets: [synthetic], budget: 600rec}
methods:
  - {method: simclr, label: SimCLR}
  - {method: clocs, label: CLOCS}
  - {method: crt, label: CRT}
evaluate: {benchmarks: [synthetic-findings], heads: [linear], fractions: [1.0]}
compare_with: SimCLR
"""
VICTIMS = ("worker", "driver", "scheduler", "hang")


@dataclass
class Command:
    """A command of bulk work and what it leaves."""

    name: str
    arguments: Callable[[Path, Path], list[str]]
    result: Callable[[Path], Result]
    again: tuple[str, ...] = ()


@dataclass
class Account:
    """What happened to one command with one kind of victim."""

    title: str
    runs: int = 0
    killed: int = 0
    losses: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def _built(output: Path) -> Result:
    return {path.name: digest(path) for path in output.iterdir() if path.name != "build_report.json"}


def _embedded(output: Path) -> Result:
    found = {path.name: digest(path) for path in sorted(output.glob("part-*.parquet"))}
    names = [name for path in sorted(found) for name in pq.read_table(output / path)["record_id"].to_pylist()]
    return found | {"rows": str(len(names)), "distinct": str(len(set(names)))}


def _studied(output: Path) -> Result:
    return {name: digest(output / name) for name in ("table.md",)}


COMMANDS = (
    Command(
        "build",
        lambda shop, output: [
            *("data", "build", "synthetic", "-o", "records=4000", "--output", str(output))
        ],
        _built,
    ),
    Command(
        "embed",
        lambda shop, output: [
            *("embed", "--model", "ecg-distil-ptbxl", "--dataset", str(shop / "built"), "--output", str(output))
        ],
        _embedded,
    ),
    Command(
        "study",
        lambda shop, output: [
            *("study", "run", str(shop / "study.yaml"), "--output", str(output)),
            *("--dataset", f"synthetic={shop / 'small'}"),
        ],
        _studied,
        again=("--resume",),
    ),
)  # fmt: skip


class Cluster(LocalCluster):
    """A cluster that says which of its workers are busy."""

    def start(self) -> None:
        """Begin, and connect."""
        super().start()
        self.client = Client(self.address, set_as_default=False)

    def kill(self) -> None:
        """All of it."""
        self.client.close()
        super().kill()

    def busy(self) -> list[int]:
        """Processes that work on a piece."""
        at_work = [address for address, tasks in self.client.processing().items() if tasks]
        return list(self.client.run(os.getpid, workers=at_work).values()) if at_work else []


def _start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen([sys.executable, "-m", "ecg_hf.cli", *arguments], stdout=file, stderr=file)


def _local_workers(command: subprocess.Popen[bytes]) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(command.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Soak:
    """Runs of one command on one engine, with one kind of victim.

    Args:
        command: What is run.
        engine: ``local`` or ``dask``.
        victim: What is killed.
        shop: Folder with what commands read.
        folder: For outputs.
        cluster: Of ``dask``.
        seed: Of the moments.
    """

    def __init__(
        self, command: Command, engine: str, victim: str, shop: Path, folder: Path,
        cluster: Cluster | None, seed: int,
    ) -> None:  # fmt: skip
        self.command, self.engine, self.victim, self.shop, self.folder = command, engine, victim, shop, folder
        self.cluster, self.random = cluster, random.Random(f"{command.name}{engine}{victim}{seed}")
        self.account = Account(f"{command.name}, {engine}, {victim}")

    def run(self, runs: int, truth: Result, work_s: float) -> Account:
        """Kill so many times.

        Args:
            runs: Victims.
            truth: Of the undisturbed run.
            work_s: How long its workers were there: moments are drawn over that.
        """
        while self.account.killed < runs and self.account.runs < 2 * runs:
            output = self.folder / str(self.account.runs)
            self.account.runs += 1
            started = time.monotonic()
            killed, code, log = self._trial(output, self.random.uniform(0.05, 0.95) * work_s)
            self.account.seconds.append(time.monotonic() - started)
            self.account.killed += killed
            found = (self.command.result(output) if code == 0 else None) or {}
            if found != truth:
                wrong = sorted(name for name in truth | found if truth.get(name) != found.get(name))
                last = (log.read_text(errors="replace").strip().splitlines() or [""])[-1]
                self.account.losses.append(f"run {output.name}: code {code}, {wrong[:3]}, {last}")
                print("LOSS", self.account.title, self.account.losses[-1], flush=True)
            else:
                shutil.rmtree(output)
        return self.account

    def _arguments(self, output: Path) -> list[str]:
        where = ["--num-proc", "2"]
        if self.cluster is not None:
            where = ["--engine", "dask", "--address", self.cluster.address]
            if self.victim == "hang":
                where += ["--piece-timeout", "20"]
        return [*self.command.arguments(self.shop, output), *where]

    def _trial(self, output: Path, after: float) -> tuple[bool, int, Path]:
        log = output.with_suffix(".log")
        command = _start(self._arguments(output), log)
        killed = self._kill(command, after)
        code = command.wait(PATIENCE_S)
        if not killed or self.victim in ("worker", "hang"):
            return killed, code, log
        if self.victim == "scheduler":
            last = log.read_text(errors="replace").strip().splitlines()[-1]
            if code != 2 or "scheduler is gone" not in last:
                self.account.losses.append(f"run {output.name}: ended with {code}: {last}")
            assert self.cluster is not None
            self.cluster.start()
        more = list(self.command.again) if output.exists() else []
        return killed, _start([*self._arguments(output), *more], log).wait(PATIENCE_S), log

    def _kill(self, command: subprocess.Popen[bytes], after: float) -> bool:
        """Kill the victim ``after`` seconds of work; False if the command was done before."""
        begun = None
        while command.poll() is None:
            workers = self.cluster.busy() if self.cluster else _local_workers(command)
            begun = begun or (time.monotonic() if workers else None)
            if begun is not None and time.monotonic() - begun >= after and workers:
                if self.victim == "driver":
                    command.kill()
                elif self.victim == "scheduler":
                    assert self.cluster is not None
                    self.cluster.kill()
                else:
                    os.kill(
                        self.random.choice(workers),
                        signal.SIGSTOP if self.victim == "hang" else signal.SIGKILL,
                    )
                return True
            time.sleep(POLL_S)
        return False


def undisturbed(
    command: Command, engine: str, shop: Path, folder: Path, cluster: Cluster | None
) -> tuple[Result, float]:
    """The truth, and for how many seconds there were workers."""
    soak = Soak(command, engine, "worker", shop, folder, cluster, 0)
    output = folder / "truth"
    process = _start(soak._arguments(output), folder / "truth.log")
    first, last = None, 0.0
    while process.poll() is None:
        if cluster.busy() if cluster else _local_workers(process):
            last = time.monotonic()
            first = first or last
        time.sleep(POLL_S)
    assert process.returncode == 0, (folder / "truth.log").read_text()
    truth = command.result(output)
    shutil.rmtree(output)
    return truth, last - (first or last)


@contextmanager
def workshop(folder: Path) -> Iterator[Path]:
    """Datasets and the study."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(STUDY)
    for name, records in (("built", 4000), ("small", 200)):
        build = ["data", "build", "synthetic", "-o", f"records={records}", "--output", str(folder / name)]
        assert _start(build, folder / "log").wait(PATIENCE_S) == 0, (folder / "log").read_text()
    yield folder
    shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [command.name for command in COMMANDS]
    parser.add_argument("--runs", type=int, default=5, help="victims of each command and engine")
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    parser.add_argument("--engine", nargs="*", choices=("local", "dask"), default=("local", "dask"))
    parser.add_argument("--victim", nargs="*", choices=VICTIMS, default=("worker",))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    total = {"runs": 0, "kills": 0, "losses": 0}
    place = Path(tempfile.mkdtemp(prefix="workers-"))
    with workshop(place / "shop") as shop:
        for engine in options.engine:
            cluster = Cluster(place) if engine == "dask" else None
            for command in (command for command in COMMANDS if command.name in options.only):
                folder = place / engine / command.name
                folder.mkdir(parents=True)
                truth, work_s = undisturbed(command, engine, shop, folder, cluster)
                for victim in options.victim:
                    if cluster is None and victim in ("scheduler", "hang"):
                        continue
                    (folder / victim).mkdir()
                    soak = Soak(command, engine, victim, shop, folder / victim, cluster, options.seed)
                    account = soak.run(options.runs, truth, work_s)
                    print(
                        f"{account.title:24s} {account.runs:3d} runs, {account.killed:3d} killed, "
                        f"{len(account.losses)} losses ({work_s:.0f} s of work undisturbed, a run in the middle "
                        f"{sorted(account.seconds)[len(account.seconds) // 2]:.0f} s)",
                        flush=True,
                    )
                    total["runs"] += account.runs
                    total["kills"] += account.killed
                    total["losses"] += len(account.losses)
            if cluster is not None:
                cluster.kill()
    if not total["losses"]:
        shutil.rmtree(place)
    print(json.dumps(total))
    sys.exit(1 if total["losses"] else 0)


if __name__ == "__main__":
    main()
