"""The rows that every benchmark reports and the table they become."""

from __future__ import annotations

import ast
import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def rows() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_rows", FOLDER / "rows.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def burn(seconds: float) -> None:
    stop = time.process_time() + seconds
    while time.process_time() < stop:
        pass


def test_a_ratio_is_per_item_and_meets_its_goal_or_not(rows: ModuleType) -> None:
    fast, slow = (lambda: burn(0.004)), (lambda: burn(0.02))
    row = rows.alternate(
        "work", fast, slow, "theirs", per=2, reference_per=1, item="record", least=5.0, rounds=3
    )
    assert row.value == pytest.approx(10.0, rel=0.3)
    assert row.spread[0] <= row.value <= row.spread[1]
    assert row.goal == ">= 5"
    assert row.met is True
    assert row.ours.endswith("ms/record")
    assert "burn" in row.profile
    assert rows.alternate("work", slow, fast, "theirs", least=1.0, rounds=3).met is False


def test_figures_without_a_reference_have_bounds(rows: ModuleType) -> None:
    row = rows.measured("start", [0.2, 0.4, 0.3], "s", most=0.35)
    assert (row.value, row.met, row.goal, row.reference) == (0.3, True, "< 0.35 s", "")
    assert rows.measured("rate", [10.0], "records/s", least=20.0).met is False
    assert rows.measured("rate", [10.0], "records/s").met is None


def test_the_table_has_one_line_per_row(rows: ModuleType) -> None:
    lines = rows.table(
        [rows.measured("a | b", [1.0], "s", most=2.0), rows.measured("c", [1.0], "s")]
    ).splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {9}
    assert "| yes |" in lines[2]


def test_everything_that_runs_in_one_table_has_rows() -> None:
    tree = ast.parse((FOLDER / "run.py").read_text(encoding="utf-8"))
    scripts = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "SCRIPTS"
    )
    for name in scripts:
        source = ast.parse((FOLDER / f"bench_{name}.py").read_text(encoding="utf-8"))
        defined = [node.name for node in source.body if isinstance(node, ast.FunctionDef)]
        assert "rows" in defined, name
        assert "main" not in defined, name
    by_themselves = {"mfu", "encoders", "engines", "export", "processes", "storage_faults"}
    assert {path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py")} == {
        *scripts,
        *by_themselves,
    }
