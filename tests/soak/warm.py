"""Commands in forked children of one warm process: they start in milliseconds, and can be killed like any other.

A fresh interpreter spends seconds importing torch; moments of death drawn over its life would mostly fall there.
A fork of a process that has everything imported spends its life on the work itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def warm_up() -> None:
    """Import, before the first fork, what commands would import."""
    import torch

    torch.set_num_threads(1)
    import datasets
    import sklearn.linear_model  # noqa: F401
    import transformers.trainer  # noqa: F401
    import wfdb  # noqa: F401
    from transformers import AutoFeatureExtractor, AutoModel, pipeline  # noqa: F401

    import ecg_hf.cli.main
    import ecg_hf.evaluation.evaluate
    import ecg_hf.hub.converting
    import ecg_hf.models.auto
    import ecg_hf.training.run  # noqa: F401

    datasets.disable_progress_bars()


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, None if it was killed."""

    code: int | None
    output: str
    seconds: float

    @property
    def last_line(self) -> str:
        return (self.output.strip().splitlines() or [""])[-1]


def run_command(
    arguments: Sequence[object],
    log: Path,
    *,
    kill_after: float | None = None,
    setup: Callable[[], None] | None = None,
    patience: float = 300.0,
) -> Outcome:
    """Run ``ecg-hf`` in a child and wait for it, or kill it after ``kill_after`` seconds."""
    started = time.monotonic()
    pid = start_command(arguments, log, setup=setup)
    code = _wait(pid, started + (patience if kill_after is None else kill_after))
    if code is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if kill_after is None:
            raise TimeoutError(f"{' '.join(map(str, arguments))} took more than {patience} s")
    return Outcome(code, log.read_text(errors="replace"), time.monotonic() - started)


def start_command(arguments: Sequence[object], log: Path, *, setup: Callable[[], None] | None = None) -> int:
    """Start ``ecg-hf`` in a child; returns its process id."""

    def command() -> int:
        from ecg_hf.cli.main import main

        if setup is not None:
            setup()
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return _fork(command, log)


def in_child(function: Callable[[], Any], log: Path) -> Any:
    """JSON value of a function, run in a child so that this process stays as it is."""
    answer = log.with_suffix(".json")

    def call() -> int:
        answer.write_text(json.dumps(function()))
        return 0

    pid = _fork(call, log)
    code = _wait(pid, time.monotonic() + 300)
    if code != 0:
        raise RuntimeError(f"looking at the results failed: {log.read_text(errors='replace')}")
    return json.loads(answer.read_text())


def wait_for(pid: int, patience: float = 300.0) -> int | None:
    """Exit code of a child, None if it was killed or is still running."""
    return _wait(pid, time.monotonic() + patience)


def _fork(work: Callable[[], int], log: Path) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    # Opened here: a child may die before it has done anything.
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    pid = os.fork()
    if pid:
        os.close(target)
        return pid
    code = 1
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int, deadline: float) -> int | None:
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else None
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.002)
