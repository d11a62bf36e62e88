"""Studies: files are checked, cells are done once, the table does not depend on how they were run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ecg_hf.cli.main import main
from ecg_hf.engine import Engine
from ecg_hf.errors import ConfigurationError
from ecg_hf.models.registry import METHODS
from ecg_hf.studies import list_studies, load_study, run_study
from ecg_hf.studies import run as module
from ecg_hf.studies.study import Budget

SMALL = """
title: Small
pretrain: {datasets: [synthetic]}
methods:
  - {method: ecg-jepa, label: JEPA}
  - {method: simclr, label: SimCLR, overrides: {temperature: 0.2}}
evaluate: {benchmarks: [synthetic-findings], heads: [linear], fractions: [1.0]}
compare_with: JEPA
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def quiet(_: str) -> None:
    """Nothing is said."""


def without_times(content: dict[str, Any]) -> dict[str, Any]:
    cells = [{k: v for k, v in cell.items() if k != "seconds"} for cell in content["cells"]]
    return {**content, "cells": cells}


def test_the_studies_of_the_package():
    assert len(list_studies()) == 7
    assert len(load_study("cg_dmer_table1").arms) == 15


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ecg-jepa", "ecg-jepaa", "ecg-jepaa"),
        ("label: SimCLR", "label: JEPA", "labels of their own"),
        ("compare_with: JEPA", "compare_with: CLIP", "compare_with"),
        ("synthetic-findings", "no-such", "no-such"),
        ("title: Small", "titel: Small", "titel"),
        ("temperature: 0.2}", "temperature: 0.2}, variant: best", "best"),
        ("datasets: [synthetic]", "datasets: []", "datasets"),
        ("datasets: [synthetic]", "datasets: [synthetic], budget: 10h", "10h"),
    ],
)
def test_what_a_file_cannot_hold_is_named(small: Path, old: str, new: str, said: str):
    assert old in SMALL
    small.write_text(SMALL.replace(old, new))
    with pytest.raises(ConfigurationError, match=said):
        load_study(small)


def test_budgets():
    assert Budget.parse("10min") == Budget(minutes=10.0)
    assert Budget.parse("100000rec") == Budget(records=100_000)
    for wrong in ("10", "min", "0min", "ten min", "1e3rec"):
        with pytest.raises(ConfigurationError):
            Budget.parse(wrong)


@pytest.mark.slow
def test_the_table_is_the_same_however_cells_are_run(small: Path, built_path: Path, tmp_path: Path):
    tables = []
    for num_proc in (1, 2):
        out = tmp_path / f"out{num_proc}"
        content = run_study(
            small, out, {"synthetic": built_path}, budget="16rec", engine=Engine(num_proc=num_proc), say=quiet
        )
        tables.append((without_times(content), (out / "table.md").read_text()))
        assert (out / "figures" / "synthetic-findings.png").stat().st_size > 10_000
    assert tables[0] == tables[1]
    rows = tables[0][0]["rows"]
    assert {(row["label"], row["method"], row["pretrain_seed"]) for row in rows} == {
        ("JEPA", "ecg-jepa", 0),
        ("SimCLR", "simclr", 0),
    }
    assert {row["encoder"] for row in rows} == {"pretrained", "untrained", "handmade"}
    assert [pair["second_label"] for pair in tables[0][0]["paired"]] == ["SimCLR"]


@pytest.mark.slow
def test_a_killed_study_goes_on_and_does_no_cell_twice(small: Path, built_path: Path, tmp_path: Path):
    out = tmp_path / "out"
    script = (
        "import sys; from ecg_hf.studies import run_study; "
        "run_study(sys.argv[1], sys.argv[2], {'synthetic': sys.argv[3]}, budget='16rec')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(small), str(out), str(built_path)], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while not (out / "cells" / "jepa-seed0" / "done.json").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = (out / "cells" / "jepa-seed0" / "done.json").stat().st_mtime_ns
    with pytest.raises(ConfigurationError, match="--resume"):
        run_study(small, out, {"synthetic": built_path}, budget="16rec", say=quiet)
    with pytest.raises(ConfigurationError, match="with budget 16rec"):
        run_study(small, out, {"synthetic": built_path}, budget="32rec", resume=True, say=quiet)
    said: list[str] = []
    content = run_study(small, out, {"synthetic": built_path}, budget="16rec", resume=True, say=said.append)
    assert (out / "cells" / "jepa-seed0" / "done.json").stat().st_mtime_ns == before
    assert any("JEPA, seed 0: done before" in line for line in said)
    assert len(content["cells"]) == 2


@pytest.mark.slow
def test_a_study_lies_in_an_object_store(
    small: Path, built_path: Path, tmp_path: Path, empty_store: MemoryFileSystem,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
):  # fmt: skip
    store = empty_store
    store.put(str(built_path), "/store/built", recursive=True)
    run_study(small, tmp_path / "local", {"synthetic": built_path}, budget="16rec", say=quiet)
    place = "memory://store/study"
    command = ["study", "run", str(small), "--output", place, "--dataset", "synthetic=memory://store/built"]
    real, stored_then = module._run_cell, []

    def ended_at_the_second(cell: module.StudyCell) -> dict[str, Any]:
        if cell.arm == 1:
            stored_then.extend(store.find("/store/study"))
            raise KeyboardInterrupt
        return real(cell)

    monkeypatch.setattr(module, "_run_cell", ended_at_the_second)
    with pytest.raises(SystemExit):
        main([*command, "--budget", "16rec"])
    assert {"/store/study/study.json", "/store/study/cells/jepa-seed0/done.json"} <= set(stored_then)
    monkeypatch.setattr(module, "_run_cell", real)
    main([*command, "--budget", "16rec", "--resume"])
    assert "JEPA, seed 0: done before" in capfd.readouterr().err
    assert store.cat("/store/study/table.md") == (tmp_path / "local" / "table.md").read_bytes()
    found = json.loads(store.cat("/store/study/results.json"))
    assert str(tmp_path) not in json.dumps(found)
    for engine in ("--engine", "dask", "--address", "127.0.0.1:1"):
        command.append(engine)
    with pytest.raises(SystemExit):
        main(command)
    assert "all of them see" in capfd.readouterr().err


def test_steps_are_timed_after_those_that_begin_a_run(
    small: Path, built_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: dict[str, Any] = {}
    now = [0.0]

    def steps_of(cell: Any, folder: Path, *, callbacks: list[Any], **options: Any) -> None:
        asked.update(options)
        for second in range(options["steps"]):
            now[0] = 100.0 + (5.0 * second if second < 2 else 10.0 + 0.5 * second)
            callbacks[0].on_step_end()

    monkeypatch.setattr(module, "_pretrain", steps_of)
    monkeypatch.setattr(module.time, "process_time", lambda: now[0])
    cell = module._one_per_arm(load_study(small), tmp_path, {"synthetic": str(built_path)})[0]
    # From the end of the second step, at 105, to that of the twenty-second, at 120.5.
    assert module._seconds_per_step(cell, tmp_path / "timing") == pytest.approx(15.5 / 20)
    assert asked["steps"] == 2 + module.TIMED_STEPS
    assert asked["save_strategy"] == "no"


def test_minutes_become_steps_once(
    small: Path, built_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    timed: list[int] = []

    def seconds(cell: Any, folder: Path) -> float:
        timed.append(cell.arm)
        return 0.5

    monkeypatch.setattr(module, "_seconds_per_step", seconds)
    study = load_study(small)
    for _ in range(2):
        steps = module._steps(study, Budget(minutes=2.0), tmp_path, {"synthetic": str(built_path)}, quiet)
        assert steps == {"JEPA": 240, "SimCLR": 240}
    assert timed == [0, 1]


def test_missing_recordings_are_named(small: Path, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="no recordings of synthetic"):
        run_study(small, tmp_path / "out", {}, say=quiet)


def test_the_command(small: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            main(["study", *map(str, arguments)])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capfd.readouterr()

    _, listed, _ = run("list", "--json")
    assert [row["name"] for row in json.loads(listed)] == list_studies()
    _, plan, _ = run("run", small, "--output", tmp_path / "out", "--dry-run", "--budget", "10min", "--json")
    assert json.loads(plan)["cells"] == 2
    assert json.loads(plan)["pretraining_hours"] == pytest.approx(1 / 3)
    assert not (tmp_path / "out").exists()
    for wrong in (
        ("run", "no_such", "--output", tmp_path / "out"),
        ("run", small, "--output", tmp_path / "out", "--dataset", "synthetic"),
        ("run", small, "--output", tmp_path / "out", "--budget", "soon"),
        ("show", tmp_path),
    ):
        code, _, said = run(*wrong)
        assert code == 2
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", list_studies())
def test_every_row_of_a_study_is_a_model(name: str):
    for arm in load_study(name).arms:
        recipe = module.recipe_of(arm)
        options = recipe.model_options({"variant": arm.variant, **arm.overrides})
        config = METHODS[arm.method].load("config").preset(recipe.size, **options)
        assert all(getattr(config, field) == value for field, value in arm.overrides.items())
