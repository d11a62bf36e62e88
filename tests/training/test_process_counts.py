"""Every method of the registry: the same global batches on 1, 2 and 4 processes give the same training.

What is run and compared is ``benchmarks/bench_processes.py``.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from ecg_hf.models.registry import METHODS, PRETRAINABLE

BENCH = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "bench_processes.py"))
STEPS = 2
# One launch for several methods, as starting the processes takes longer than their two steps.
GROUPS = [sorted(PRETRAINABLE)[first::5] for first in range(5)]


def check(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        method = row["method"]
        assert row["loss"] < 1e-5, method
        # One unit of a ReLU that rounding puts on the other side of 0 changes a gradient by 1e-4 (CRT, batches of 4);
        # a mean of means instead of a global one, by more than 1e-2.
        assert row["grad_norm"] < 5e-4, method
        # Of the way that two steps went: rounding, and the same unit.
        assert row["weights"] < 1e-4, method
        assert row["ranks"] == row["teacher"] == 0.0, method
        model = METHODS[method].load("pretraining")
        # CRT's and ECG-FM's steps note how far training has come, and move no teacher.
        if "after_optimizer_step" in vars(model) and method not in ("crt", "ecg-fm"):
            assert row["frozen"] > 0, method
            # ECG-Distil's teacher and HeartLang's vocabulary were trained before and stay as they are.
            moves = method not in ("ecg-distil", "heartlang")
            assert (row["teacher_moved"] > 0.0) == moves, method


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("methods", GROUPS, ids=",".join)
def test_every_method_trains_the_same(
    methods: list[str], processes: int, built_path: Path, tmp_path: Path
) -> None:
    folders = {count: tmp_path / str(count) for count in (1, processes)}
    for count, folder in folders.items():
        BENCH["launch"](count, built_path, folder, methods, STEPS)
    check([{"method": method, **BENCH["compare"](method, *folders.values())} for method in methods])
