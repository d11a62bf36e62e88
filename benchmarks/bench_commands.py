"""What a user waits for: the import, the commands' start, a first answer, a plan. Each in a process of its own.

Processor time of the process and its children, all threads together; caches of the system are warm after the first
round, which does not count.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ecg_hf
from ecg_hf.training.recipe import list_recipes, load_recipe
from rows import Row, measured

LIBRARIES = "import torch, transformers.modeling_utils, transformers.models.auto.modeling_auto"
COMMAND = (sys.executable, "-m", "ecg_hf.cli")


def spent(command: tuple[str, ...]) -> float:
    """Processor seconds of a command."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    before = os.times()
    done = subprocess.run(command, capture_output=True, env=environment, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def slowest_imports(command: tuple[str, ...]) -> str:
    """The three modules whose own code takes longest to import while a Python command runs."""
    told = subprocess.run(
        (command[0], "-X", "importtime", *command[1:]), check=True, capture_output=True, text=True
    )
    lines = [line.split("|") for line in told.stderr.splitlines() if line.startswith("import time:")]
    times = [(int(own.split(":")[1]), name.strip()) for own, _, name in lines if "[us]" not in own]
    total = sum(own for own, _ in times) or 1
    return ", ".join(f"import {name} {own / total:.0%}" for own, name in sorted(times, reverse=True)[:3])


def rows(quick: bool) -> Iterator[Row]:
    """Import, help, one answer, plans."""
    sample = str(Path(ecg_hf.sample_record()))
    for work, command, most, rounds in (
        ("import ecg_hf", (sys.executable, "-c", "import ecg_hf"), 0.3, 7),
        ("ecg-hf --help", (*COMMAND, "--help"), 0.5, 7),
        (
            "import torch and transformers' Auto classes, nothing of ours",
            (sys.executable, "-c", LIBRARIES),
            None,
            3,
        ),
        ("ecg-hf predict of one record, cold", (*COMMAND, "predict", sample), 4.0, 3),
    ):
        spent(command)
        times = [spent(command) for _ in range(rounds)]
        yield measured(work, times, "s", most=most, profile=slowest_imports(command))
    recipes = [name for name in list_recipes() if "cpu" not in name]
    for name in ("cg_dmer",) if quick else recipes:
        method = load_recipe(name).method
        command = (*COMMAND, "plan", "--model", method, "--recipe", name, "--records", "100000")
        yield measured(f"ecg-hf plan {method} --recipe {name}", [spent(command)], "s", most=20.0)
