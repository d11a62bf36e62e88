"""Disk full, read-only output, two writers, a clock going backwards: each command says so in one line and goes on.

    python -m tests.soak.faults

Full and read-only disks are small tmpfs mounts, which needs root; without it they are skipped, which is said.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.soak.kills import CHECKPOINT, Soak, make_workshop
from tests.soak.scenarios import SCENARIOS, Result, Scenario, Workshop
from tests.soak.warm import Outcome, in_child, run_command, start_command, wait_for, warm_up

SIZES = ("16k", "64k", "256k", "1m", "4m", "64m")
FUTURE = 4_000_000_000.0  # the year 2096

ON_DISK = [name for name, scenario in SCENARIOS.items() if not scenario.in_store]


class Faults(Soak):
    """Faults of one command; what goes wrong is counted as a loss."""

    def __init__(self, scenario: Scenario, shop: Workshop, folder: Path) -> None:
        super().__init__(scenario, shop, folder)
        self.counts: Counter[str] = Counter()
        self.truth: Result = None

    def run_all(self) -> None:
        self.truth = self._truth()
        for fault in (self.disk_full, self.read_only, self.two_writers, self.clock_backwards):
            try:
                fault()
            except PermissionError:
                self.counts[f"{fault.__name__} skipped: no mounts here"] += 1

    def disk_full(self) -> None:
        """Grow the disk step by step, the same folder all the time."""
        trial = self._new_trial()
        with mounted(trial, f"size={SIZES[0]}"):
            for attempt, size in enumerate(SIZES):
                remount(trial, f"size={size}")
                outcome = self._start(trial, attempt, log=self.folder / "log")
                if outcome.code == 0:
                    self._finished(trial, "disk_full")
                    return
                self._refused(trial, outcome, "disk_full")
                self._inspect(trial, self.truth, f"after kill: on a disk of {size}")
            self._lose(trial, f"not finished on a disk of {SIZES[-1]}")

    def read_only(self) -> None:
        trial = self._new_trial()
        with mounted(trial, "size=64m"):
            remount(trial, "ro")
            self._refused(trial, self._start(trial, 0, log=self.folder / "log"), "read_only")
            if any(trial.iterdir()):
                self._lose(trial, "something was written to a read-only disk")
            remount(trial, "rw")
            if self._start(trial, 0, log=self.folder / "log").code != 0:
                self._lose(trial, "does not run once the disk is writable")
            self._finished(trial, "read_only")

    def two_writers(self) -> None:
        """A second process, started while the first is at work."""
        for share in (0.2, 0.4, 0.6):
            trial = self._new_trial()
            arguments = self.scenario.arguments(self.shop, trial)
            first = start_command(arguments, trial / "log", setup=self.scenario.setup)
            time.sleep(share * self.account.seconds)
            second = run_command(
                [*arguments, *self.scenario.more_to_resume], self.folder / "log", setup=self.scenario.setup
            )
            if wait_for(first) != 0:
                self._lose(trial, f"the first writer failed: {(trial / 'log').read_text()[-300:]}")
            if second.code == 0:
                self.counts["two_writers: second found it finished"] += 1
            else:
                self._refused(trial, second, "two_writers")
            self._finished(trial, "two_writers")

    def clock_backwards(self) -> None:
        """Files from the future, and a clock that runs from then to now, backwards."""
        trial = self._new_trial()
        self._start(trial, 0, 0.6 * self.account.seconds)
        for path in trial.rglob("*"):
            os.utime(path, (FUTURE, FUTURE))
        scenario = self.scenario
        self.scenario = replace(
            scenario, setup=lambda: (scenario.setup or (lambda: None))() or turn_clock_back()
        )
        outcome = self._start(trial, 1)
        self.scenario = scenario
        done = scenario.finished_already
        if outcome.code != 0 and not (done and done in outcome.last_line):
            self._lose(trial, f"not continued with the clock going backwards: {outcome.last_line}")
        self._finished(trial, "clock_backwards")

    def _start(
        self, trial: Path, attempt: int, kill_after: float | None = None, log: Path | None = None
    ) -> Outcome:
        arguments = self.scenario.arguments(self.shop, trial)
        if attempt:
            arguments = [*arguments, *self.scenario.more_to_resume]
        self.account.runs += 1
        return run_command(arguments, log or trial / "log", kill_after=kill_after, setup=self.scenario.setup)

    def _look(self, trial: Path) -> Result:
        # Not in the trial, whose disk may be full.
        return in_child(lambda: self.scenario.result(trial), self.folder / "look")

    def _refused(self, trial: Path, outcome: Outcome, fault: str) -> None:
        """Exit code 2 and one line that says error, after whatever progress was shown."""
        errors = [line for line in outcome.output.splitlines() if "error: " in line]
        if outcome.code != 2 or len(errors) != 1 or "Traceback" in outcome.output:
            self._lose(trial, f"{fault}: exit code {outcome.code}, {outcome.output[-300:]!r}")
        self.counts[f"{fault}: refused in one line"] += 1

    def _finished(self, trial: Path, fault: str) -> None:
        if self._inspect(trial, self.truth, f"{fault}: at the end") is None:
            self._lose(trial, f"{fault}: no result at the end")
        self.counts[f"{fault}: result as undisturbed"] += 1


def turn_clock_back() -> None:
    """In the child: every look at the wall clock finds it a second earlier."""
    now = [FUTURE]

    def backwards() -> float:
        now[0] -= 1.0
        return now[0]

    time.time = backwards


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A tmpfs at ``folder``.

    Raises:
        PermissionError: if mounting is not allowed here.
    """
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
    ).returncode:
        raise PermissionError("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=ON_DISK, default=ON_DISK)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    warm_up()
    shop = make_workshop(folder / "workshop", options.checkpoint)
    total: Counter[str] = Counter()
    for name in options.only:
        faults = Faults(SCENARIOS[name], shop, folder / name)
        faults.run_all()
        losses = len(faults.account.losses)
        print(f"{name:10s} {dict(faults.counts)} losses {losses}", flush=True)
        total += faults.counts + Counter(losses=losses)
    print(json.dumps({**total, "losses": total["losses"]}))
    shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if total["losses"] else 0)


if __name__ == "__main__":
    main()
