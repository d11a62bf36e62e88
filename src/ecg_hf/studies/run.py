"""Run a study: each arm and seed is a cell of its own, pretrained and evaluated by the package's two roads."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoFeatureExtractor, AutoModel, TrainerCallback

from ecg_hf.data import load_built
from ecg_hf.data.report import BuildReport
from ecg_hf.engine import Engine, absolute, run_pieces
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import get_benchmark
from ecg_hf.evaluation.evaluate import LoadedModel, evaluate_model
from ecg_hf.evaluation.prepare import SAME_NAMES, Recordings
from ecg_hf.evaluation.report import write_evaluation
from ecg_hf.evaluation.zero_shot import BILINGUAL_PROMPTS
from ecg_hf.files import replace_file, sole_writer, write_whole
from ecg_hf.models.registry import get_method
from ecg_hf.storage import local_folder
from ecg_hf.studies.report import CellResult, write_report
from ecg_hf.studies.study import Arm, Budget, Study, load_study
from ecg_hf.training import list_recipes, load_recipe, pretrain
from ecg_hf.training.recipe import Recipe

__all__ = ["StudyCell", "run_study", "study_cells"]

TIMED_STEPS = 20
_DONE = "done.json"
_SETTINGS = "study.json"
_STEPS = "steps.json"


@dataclass(frozen=True)
class StudyCell:
    """One arm and pretraining seed: a pure function of these fields and its folder.

    ``study`` is the name or path of the study's file, ``built`` its datasets by source, ``steps`` the length of
    pretraining where a budget decides it.
    """

    study: str
    arm: int
    seed: int
    output: str
    built: tuple[tuple[str, str], ...]
    steps: int | None
    controls: tuple[str, ...]

    @property
    def plan(self) -> Study:
        """The study."""
        return load_study(self.study)

    @property
    def folder(self) -> Path:
        """Where the cell keeps its model, its evaluation and its account."""
        return Path(self.output) / "cells" / self.plan.arms[self.arm].folder_name(self.seed)

    def __str__(self) -> str:
        return f"{self.plan.arms[self.arm].label}, seed {self.seed}"

    def key(self) -> str:
        """Identifies what the cell's content depends on."""
        study = self.plan
        what = [
            asdict(study.arms[self.arm]),
            [self.seed, self.steps, self.controls],
            [study.datasets, study.benchmarks, study.zero_shot, study.curves, study.maps, repr(study.plan)],
            [(source, BuildReport.load(local_folder(path)).content()) for source, path in self.built],
        ]
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:32]


def study_cells(
    study: str, output: Path, built: Mapping[str, str], steps: Mapping[str, int]
) -> list[StudyCell]:
    """The cells of a study that can be run, in the order of its file; the first has the hand-made features."""
    plan = load_study(study)
    cells: list[StudyCell] = []
    for number, arm in enumerate(plan.arms):
        for seed in plan.seeds:
            controls: tuple[str, ...] = ("untrained",) if cells else ("untrained", "handmade")
            if not {"linear", "mlp"} & set(plan.plan.heads):
                controls = ()
            cells.append(
                StudyCell(
                    study,
                    number,
                    seed,
                    os.fspath(output),
                    tuple(built.items()),
                    steps.get(arm.label),
                    controls,
                )
            )
    return cells


def run_study(
    study: str | Path,
    output: str | os.PathLike[str],
    built: Mapping[str, str | os.PathLike[str]],
    *,
    budget: str | None = None,
    engine: Engine | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
    after_cell: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run every cell, then write ``table.md``, ``results.json`` and a figure per benchmark.

    Args:
        study: Name or file.
        output: Folder; holds a folder per cell.
        built: Source -> folder of a built dataset or its address, of every source of the study. What lies in an
            object store is fetched once, on each machine that works on the study.
        budget: Instead of the study's: ``10min`` or ``100000rec``. Minutes become steps once, by timing steps alone
            on this machine, and are kept.
        engine: Where cells run; each uses one thread, so that the table does not depend on how many run at a time.
        resume: Continue a folder of the same study.
        say: Receives progress.
        after_cell: Called when one more cell is done.

    Returns:
        The content of ``results.json``.

    Raises:
        ConfigurationError: if a source is missing, or the folder holds another study.
    """
    plan, folder = load_study(study), Path(output)
    if Path(study).suffix:
        study = Path(study).resolve()
    wanted = Budget.parse(budget) if budget is not None else plan.budget
    lacking = [source for source in plan.sources if not _has(source, built)]
    if lacking:
        raise ConfigurationError(
            f"no recordings of {', '.join(lacking)}: give --data-dir SOURCE=DIR or --dataset SOURCE=BUILT",
            value=lacking,
        )
    places = {source: absolute(path) for source, path in built.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder):
        _claim(folder, plan, wanted, resume=resume)
        steps = _steps(plan, wanted, folder, places, say)
        cells = study_cells(str(study), folder.resolve(), places, steps)
        done = {cell: account for cell in cells if (account := _finished(cell)) is not None}
        for number, cell in enumerate(done, 1):
            say(f"[{number}/{len(cells)}] {cell}: done before")
        todo = [cell for cell in cells if cell not in done]
        for cell, account in run_pieces(_run_cell, todo, engine):
            done[cell] = account
            say(f"[{len(done)}/{len(cells)}] {cell}: {account['steps']} steps, {account['seconds']:.0f} s")
            after_cell()
        found = [CellResult(plan.arms[cell.arm], cell.seed, cell.folder, done[cell]) for cell in cells]
        return write_report(folder, plan, found)


def _has(source: str, built: Mapping[str, Any]) -> bool:
    return source in built or any(other in built for other in SAME_NAMES.get(source, ()))


def _claim(folder: Path, study: Study, budget: Budget | None, *, resume: bool) -> None:
    """Note whose folder this is, or refuse another study's."""
    settings = {"study": study.name, "budget": None if budget is None else str(budget)}
    path = folder / _SETTINGS
    if not path.exists():
        write_whole(path, json.dumps(settings, indent=2) + "\n")
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    if found != settings:
        raise ConfigurationError(
            f"holds study {found.get('study')} with budget {found.get('budget')}", path=folder
        )
    if not resume:
        raise ConfigurationError("holds a run of this study already; --resume continues it", path=folder)


def recipe_of(arm: Arm) -> Recipe:
    """The arm's recipe: its own, the method's for two cores, the method's, or the library's defaults."""
    name = get_method(arm.method).module
    known = set(list_recipes())
    chosen = arm.recipe or next((one for one in (f"{name}_cpu", name) if one in known), None)
    if chosen is None:
        return Recipe("defaults", arm.method, get_method(arm.method).sizes[0])
    return load_recipe(chosen)


def _pretrain(cell: StudyCell, folder: Path, *, steps: int | None, **options: Any) -> Any:
    study = cell.plan
    arm, built = study.arms[cell.arm], dict(cell.built)
    recipe = recipe_of(arm)
    if steps is not None:
        training = {k: v for k, v in recipe.training.items() if k not in ("num_train_epochs", "eval_steps")}
        recipe = replace(recipe, training=training)
        saving = {"save_strategy": "steps", "save_steps": max(20, steps // 10)}
        options = {"max_steps": steps, **saving, **options}
    return pretrain(
        arm.method,
        [built[source] for source in study.datasets],
        folder,
        recipe=recipe,
        model_options={"variant": arm.variant, **arm.overrides} if arm.variant != "full" else arm.overrides,
        eval_strategy="no",
        save_total_limit=1,
        seed=cell.seed,
        disable_tqdm=True,
        **options,
    )


def _steps(
    study: Study,
    budget: Budget | None,
    folder: Path,
    built: Mapping[str, str],
    say: Callable[[str], None],
) -> dict[str, int]:
    """Steps of each arm by the budget, decided once per folder."""
    if budget is None:
        return {}
    path = folder / _STEPS
    known: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for cell in _one_per_arm(study, folder, built):
        arm = study.arms[cell.arm]
        if arm.label in known:
            continue
        batch = int(recipe_of(arm).training.get("per_device_train_batch_size", 8))
        if budget.records is not None:
            known[arm.label] = max(1, round(budget.records / batch))
        else:
            assert budget.minutes is not None
            seconds = _seconds_per_step(cell, folder / "timing")
            known[arm.label] = max(1, round(60.0 * budget.minutes / seconds))
        say(f"{arm.label}: {known[arm.label]} steps of {batch} records")
        write_whole(path, json.dumps(known, indent=2) + "\n")
    return known


def _one_per_arm(study: Study, folder: Path, built: Mapping[str, str]) -> list[_Timed]:
    return [
        _Timed(study, number, os.fspath(folder), tuple(built.items())) for number in range(len(study.arms))
    ]


@dataclass(frozen=True)
class _Timed:
    """Just enough of a cell to train some steps of it."""

    plan: Study
    arm: int
    output: str
    built: tuple[tuple[str, str], ...]
    seed: int = 0


def _seconds_per_step(cell: Any, folder: Path) -> float:
    """Processor seconds of a step, after two others: what a run begins with does not count."""
    watch = _Stopwatch()
    shutil.rmtree(folder, ignore_errors=True)  # a killed study's, in whatever state
    with _one_thread():
        _pretrain(
            cell,
            folder,
            steps=2 + TIMED_STEPS,
            save_strategy="no",
            callbacks=[watch],
        )
    shutil.rmtree(folder, ignore_errors=True)
    return max((watch.ends[-1] - watch.ends[1]) / TIMED_STEPS, 1e-3)


class _Stopwatch(TrainerCallback):
    """Processor seconds of this process at the end of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.process_time())


class _one_thread:
    """Torch on one thread meanwhile: a cell's numbers must not depend on how many cells run at a time."""

    def __enter__(self) -> None:
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads)


def _finished(cell: StudyCell) -> dict[str, Any] | None:
    """The account of a cell that is done; a cell of other settings counts as not begun."""
    path = cell.folder / _DONE
    if not path.is_file():
        return None
    account: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return account if account.get("key") == cell.key() else None


def _run_cell(cell: StudyCell) -> dict[str, Any]:
    """Pretrain and evaluate; both continue what an earlier process left of them."""
    study, folder = cell.plan, cell.folder
    started, key = time.perf_counter(), cell.key()
    claim = folder / "key"
    if not claim.is_file() or claim.read_text(encoding="utf-8") != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_whole(claim, key)
    with _one_thread():
        result = _pretrain(cell, folder / "model", steps=cell.steps, resume=True)
        _evaluate(cell, study, folder)
    account = {
        "key": key,
        "steps": result.steps,
        "records": result.records,
        "parameters": result.parameters,
        "seconds": round(time.perf_counter() - started, 2),
    }
    with replace_file(folder / _DONE) as file:
        file.write(json.dumps(account, indent=2).encode())
    return account


def _evaluate(cell: StudyCell, study: Study, folder: Path) -> None:
    built = {source: Recordings.of(load_built(local_folder(path))) for source, path in cell.built}
    benchmarks = [get_benchmark(name) for name in study.benchmarks]
    recordings = {}
    for one in benchmarks:
        names = (one.dataset, *sorted(SAME_NAMES.get(one.name, ())))
        recordings[one.name] = next(built[name] for name in names if name in built)
    model = AutoModel.from_pretrained(folder / "model").eval()
    extractor = AutoFeatureExtractor.from_pretrained(folder / "model")
    loaded = LoadedModel(os.fspath(folder / "model"), model, extractor)
    plans = {"evaluation": (study.plan, cell.controls)}
    if study.zero_shot and hasattr(model, "get_text_features"):
        zero_shot = replace(
            study.plan,
            heads=("zero-shot",),
            fractions=None,
            prompts=BILINGUAL_PROMPTS,
            prompt_set="bilingual",
        )
        plans["zero_shot"] = (zero_shot, ())
    for name, (plan, controls) in plans.items():
        evaluation = evaluate_model(
            plan,
            loaded,
            benchmarks,
            recordings,
            folder / name,
            controls=controls,
            curves=study.curves if name == "evaluation" else (),
            say=lambda _: None,
        )
        write_evaluation(folder / name, evaluation, figures=study.maps or bool(study.curves))
