"""The door of an evaluation: benchmarks prepared, encoders lined up, tasks run, results put together.

Several models are loaded one by one, each put to every task and let go before the next.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import Benchmark
from ecg_hf.evaluation.cache import CellStore
from ecg_hf.evaluation.encoders import (
    CONTROLS,
    QUICK_CONTROLS,
    UNTRAINED,
    BaselineEntrant,
    Encoder,
    ModelEntrant,
    adapted_extractor,
    untrained_copy,
)
from ecg_hf.evaluation.plan import EvaluationPlan
from ecg_hf.evaluation.prepare import PreparedBenchmark, Recordings, prepare
from ecg_hf.evaluation.protocols import extractor_overrides
from ecg_hf.evaluation.results import (
    ModelEntry,
    PublishedEntry,
    PublishedRow,
    Results,
    SplitCounts,
    SummaryRow,
    comparable_rows,
)
from ecg_hf.evaluation.scoring import EvaluatedCell, Say, deviations
from ecg_hf.evaluation.summary import PRETRAINED, paired_rows, summary_rows
from ecg_hf.evaluation.tasks import Task, annotated_task, tasks_of

if TYPE_CHECKING:
    from ecg_hf.evaluation.delineation.annotations import AnnotatedRecord

__all__ = ["Evaluation", "LoadedModel", "check_controls", "compute_cells", "evaluate_model"]

FEATURES = "features"
WORK = "work"


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model as a command loads it.

    Attributes:
        source: Folder or Hub name.
        model: The encoder, in evaluation mode.
        extractor: Its own feature extractor.
        device: Where it runs.
        batch_size: Recordings per forward pass.
        pool_tokens: For heads on tokens, see :func:`ecg_hf.evaluation.embed_tokens`.
        name: As rows call it; several models have different ones.
    """

    source: str
    model: Any
    extractor: Any
    device: str = "cpu"
    batch_size: int = 64
    pool_tokens: int = 1
    name: str = PRETRAINED

    @property
    def untrained_name(self) -> str:
        """As rows call the same architecture with random weights."""
        return UNTRAINED if self.name == PRETRAINED else f"{self.name}, {UNTRAINED}"


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        results: Content of ``results.json``.
        cells: Every cell, with scores.
        prepared: Benchmark -> records, labels, splits.
        model: The first model's entrant, per benchmark, for figures.
        computed: Cells computed by this run.
        reused: Cells that were there.
    """

    results: Results
    cells: list[EvaluatedCell]
    prepared: Mapping[str, PreparedBenchmark]
    model: Mapping[str, ModelEntrant]
    computed: int
    reused: int
    notes: list[str] = field(default_factory=list)


def check_controls(controls: Sequence[str] | None, plan: EvaluationPlan) -> tuple[tuple[str, ...], list[str]]:
    """Controls of an evaluation, and a sentence about those that were not asked for.

    Args:
        controls: Asked for (``"random"`` is taken for ``"untrained"``); ``None`` for the quick ones.
        plan: What is asked of the model.

    Raises:
        ConfigurationError: for a control that does not exist or can't be run.
    """
    from importlib.util import find_spec

    known = CONTROLS if plan.trained else (UNTRAINED,)
    if controls is None:
        slow = [name for name in known if name not in QUICK_CONTROLS]
        notes = []
        if slow:
            notes.append(
                f"Slow controls were not run: {', '.join(slow)}; ask for them with --controls {','.join(known)}."
            )
        return tuple(name for name in known if name in QUICK_CONTROLS), notes
    wanted = tuple(dict.fromkeys(UNTRAINED if name == "random" else name for name in controls))
    unknown = [name for name in wanted if name not in CONTROLS]
    if unknown:
        raise ConfigurationError(
            f"no control {unknown[0]!r}; there are {', '.join(CONTROLS)}, or 'none'", value=unknown[0]
        )
    misfit = [name for name in wanted if name not in known]
    if misfit:
        raise ConfigurationError(f"{misfit[0]} has no {plan.heads[0]} row", value=misfit[0])
    if "minirocket" in wanted and (find_spec("sktime") is None or find_spec("numba") is None):
        raise ConfigurationError(
            "control minirocket: it needs sktime and numba: pip install sktime numba",
            value="minirocket",
        )
    return wanted, []


def evaluate_model(
    plan: EvaluationPlan,
    loaded: LoadedModel | Iterable[LoadedModel],
    benchmarks: Sequence[Benchmark],
    recordings: Mapping[str, Recordings],
    output: str | os.PathLike[str],
    *,
    controls: Sequence[str] = (),
    control_options: Mapping[str, Mapping[str, Any]] | None = None,
    tables: str | os.PathLike[str] | None = None,
    annotated: Sequence[AnnotatedRecord] = (),
    curves: Sequence[str] = (),
    notes: Sequence[str] = (),
    say: Say = print,
) -> Evaluation:
    """Evaluate a model on benchmarks, or several, with controls; cells that are finished are not run again.

    Args:
        plan: Protocol, head, fractions, seeds.
        loaded: The model; or several, of different names, the first of which all others are compared with. They are
            taken one by one, so that an iterator may load each as it is asked for.
        benchmarks: On what.
        recordings: Benchmark -> built rows.
        output: Folder that keeps cells, scores and features.
        controls: Rows beside the models; an untrained one for each.
        control_options: Control -> arguments of its class.
        tables: Folder with MERL's published tables.
        annotated: Recordings of LUDB with their marks, for benchmarks about these.
        curves: Also score on poorer test recordings: ``"leads"``, ``"rate"``.
        notes: Sentences to stand below the tables.
        say: Receives progress.

    Raises:
        ConfigurationError: if parts do not fit, splits share patients, or two models have one name.
    """
    folder, timings = Path(output), dict[str, float]()
    started = time.perf_counter()
    # All of them before anything is scored.
    prepared = {
        one.name: prepare(one, plan.protocol, recordings[one.name], plan.folds, tables)
        for one in benchmarks
        if one.kind == "multilabel"
    }
    timings["prepare"] = time.perf_counter() - started
    for name, one in prepared.items():
        counts = ", ".join(
            f"{split} {len(one.data.rows(split))}" for split in ("train", "validation", "test")
        )
        say(f"{name}: {counts}; left out: {dict(one.data.dropped) or 'none'}")
    options = control_options or {}
    baselines = [
        BaselineEntrant(name, options.get(name, {}), folder / FEATURES, folder / WORK)
        for name in controls
        if name != UNTRAINED
    ]
    store = CellStore(folder)
    asked = _Asked(
        {
            one.name: list(tasks_of(plan, prepared[one.name], store, curves, say))
            if one.kind == "multilabel"
            else [annotated_task(plan, one, annotated, store, UNTRAINED in controls)]
            for one in benchmarks
        },
        timings,
    )
    found_notes = [*notes, *_notes_on_data(prepared, controls)]
    first: dict[str, ModelEntrant] = {}
    sources: dict[str, str] = {}
    differing: dict[str, list[str]] = {}

    def evaluate_one(model: LoadedModel) -> None:
        if model.name in sources:
            raise ConfigurationError(f"two models are called {model.name}", value=model.name)
        sources[model.name] = model.source
        if "finetune" in plan.heads:
            differs = deviations(plan, model.model)
            differing.update({model.name: differs, model.untrained_name: differs})
        entrants = _Entrants(model, folder, UNTRAINED in controls)
        for benchmark in benchmarks:
            if benchmark.kind != "multilabel":
                asked.ask(benchmark.name, [entrants.plain()])
                continue
            lined_up, kept = entrants.line_up(prepared[benchmark.name], plan)
            first.setdefault(benchmark.name, lined_up[0])
            if kept:
                whose = "" if model.name == PRETRAINED else f" {model.name}"
                found_notes.append(
                    f"{benchmark.name}: {', '.join(kept)} of the signal as the model{whose} was made for, not the "
                    "protocol's."
                )
            asked.ask(benchmark.name, lined_up)

    for model in [loaded] if isinstance(loaded, LoadedModel) else loaded:
        evaluate_one(model)
        del model  # its memory, before the next is loaded
    if not sources:
        raise ConfigurationError("there is no model to evaluate")
    for name, one in prepared.items():
        scratch = len(one.data.rows("validation")) > 0
        asked.ask(name, [entrant for entrant in baselines if entrant.name != "supervised" or scratch])
    rows = asked.rows()
    cells: list[EvaluatedCell] = rows["probe"]
    results = _results(
        plan, sources, benchmarks, prepared, cells, timings, list(dict.fromkeys(found_notes)), differing
    )
    for part in ("reports", "curves"):
        if rows[part]:
            results[part] = rows[part]  # type: ignore[literal-required]
    return Evaluation(results, cells, prepared, first, store.computed, store.reused)


def compute_cells(
    plan: EvaluationPlan,
    loaded: LoadedModel,
    benchmarks: Sequence[Benchmark],
    recordings: Mapping[str, Recordings],
    output: str | os.PathLike[str],
    *,
    untrained: bool = False,
    tables: str | os.PathLike[str] | None = None,
    curves: Sequence[str] = (),
) -> int:
    """Compute the cells that :func:`evaluate_model` would, where it finds them; gives how many were not there.

    Several processes may fill one folder as long as no two of them have the same weights and recordings.

    Args:
        plan: Protocol, head, fractions, seeds.
        loaded: The model; its name is of no account.
        benchmarks: On what; with labels.
        recordings: Benchmark -> built rows.
        output: Folder of the evaluation.
        untrained: The same architecture with random weights instead.
        tables: Folder with MERL's published tables.
        curves: Also score on poorer test recordings: ``"leads"``, ``"rate"``.
    """
    store, entrants = CellStore(output), _Entrants(loaded, Path(output), untrained)
    for one in benchmarks:
        prepared = prepare(one, plan.protocol, recordings[one.name], plan.folds, tables)
        lined_up, _ = entrants.line_up(prepared, plan)
        for task in tasks_of(plan, prepared, store, curves, _say_nothing):
            task.run(lined_up[-1])
    return store.computed


def _say_nothing(_: str) -> None:
    pass


class _Asked:
    """The tasks of every benchmark, with the rows of all encoders they were put to: task by task, in their order."""

    def __init__(self, tasks: Mapping[str, Sequence[Task]], timings: dict[str, float]) -> None:
        self.tasks = tasks
        self.timings = timings
        self._found: dict[str, list[list[Any]]] = {name: [[] for _ in some] for name, some in tasks.items()}

    def ask(self, benchmark: str, encoders: Sequence[Encoder]) -> None:
        """Put every task of a benchmark to some encoders."""
        started = time.perf_counter()
        for task, found in zip(self.tasks[benchmark], self._found[benchmark], strict=True):
            for encoder in encoders:
                found += task.run(encoder)
        self.timings[benchmark] = self.timings.get(benchmark, 0.0) + time.perf_counter() - started

    def rows(self) -> dict[str, list[Any]]:
        """Rows by the part of the results they belong to."""
        rows: dict[str, list[Any]] = {"probe": [], "reports": [], "curves": []}
        for name, some in self.tasks.items():
            for task, found in zip(some, self._found[name], strict=True):
                rows[task.part] += found
        return rows


def _notes_on_data(prepared: Mapping[str, PreparedBenchmark], controls: Sequence[str]) -> list[str]:
    notes = []
    for name, one in prepared.items():
        notes += [f"{name}: {note}." for note in one.data.notes]
        if "supervised" in controls and not len(one.data.rows("validation")):
            notes.append(
                f"{name}: no row from scratch, because there are no validation records to choose on."
            )
    return notes


class _Entrants:
    """A model, and the same untrained, each made once; preprocessing follows the protocol of a benchmark."""

    def __init__(self, loaded: LoadedModel, folder: Path, untrained: bool) -> None:
        self.loaded = loaded
        self.folder = folder
        self.untrained = untrained_copy(loaded.model) if untrained else None
        self._models: dict[str, list[ModelEntrant]] = {}

    def line_up(
        self, prepared: PreparedBenchmark, plan: EvaluationPlan
    ) -> tuple[list[ModelEntrant], tuple[str, ...]]:
        """The model first, then untrained; and the settings of the protocol that are the model's to decide."""
        overrides = extractor_overrides(plan.protocol, prepared.benchmark)
        extractor, kept = adapted_extractor(self.loaded.extractor, self.loaded.model, overrides)
        key = repr(sorted(overrides.items()))
        if key not in self._models:
            self._models[key] = [self._model(self.loaded.name, self.loaded.model, extractor)]
            if self.untrained is not None:
                self._models[key].append(self._model(self.loaded.untrained_name, self.untrained, extractor))
        return self._models[key], kept

    def plain(self) -> ModelEntrant:
        """The model with its own preprocessing."""
        return self._model(self.loaded.name, self.loaded.model, self.loaded.extractor)

    def _model(self, name: str, model: Any, extractor: Any) -> ModelEntrant:
        one = self.loaded
        return ModelEntrant(
            name, model, extractor, one.source, self.folder / FEATURES, untrained=model is self.untrained,
            device=one.device, batch_size=one.batch_size, pool_tokens=one.pool_tokens,
            adapted=extractor is not one.extractor,
        )  # fmt: skip


def _results(
    plan: EvaluationPlan,
    models: Mapping[str, str],
    benchmarks: Sequence[Benchmark],
    prepared: Mapping[str, PreparedBenchmark],
    cells: Sequence[EvaluatedCell],
    timings: Mapping[str, float],
    notes: list[str],
    differing: Mapping[str, list[str]],
) -> Results:
    sources = list(dict.fromkeys(one.dataset for one in benchmarks))
    summary = summary_rows(cells)
    published, unlisted = _published(plan, tuple(models), summary, differing)
    rows: list[Any] = [{**cell.result.content, "cell": cell.result.key} for cell in cells]
    return Results(
        dataset=", ".join(sources),
        synthetic=sources == ["synthetic"],
        model=", ".join(models.values()),
        models=[ModelEntry(name=name, source=source) for name, source in models.items()],
        probe=rows,
        summary=summary,
        published=published,
        paired=paired_rows(cells, first=next(iter(models))),
        leaks={name: dict(one.leaks) for name, one in prepared.items()},
        splits={
            name: SplitCounts(
                train=len(one.data.rows("train")),
                validation=len(one.data.rows("validation")),
                test=len(one.data.rows("test")),
                dropped=dict(one.data.dropped),
                missing=dict(one.data.missing),
            )
            for name, one in prepared.items()
        },
        settings={
            "protocol": plan.protocol.name,
            "heads": list(plan.heads),
            "fractions": None if plan.fractions is None else list(plan.fractions),
            "seeds": list(plan.seeds),
            "folds": list(plan.folds),
            "solver": plan.solver,
            "subsets": plan.subsets,
            "prompts": plan.prompt_set if "zero-shot" in plan.heads else None,
            "head_options": dict(plan.head_options),
            "n_resamples": plan.n_resamples,
        },
        notes=[*notes, *unlisted],
        timings={name: round(seconds, 2) for name, seconds in timings.items()},
    )


def _published(
    plan: EvaluationPlan,
    models: Sequence[str],
    summary: Sequence[SummaryRow],
    differing: Mapping[str, list[str]],
) -> tuple[list[PublishedEntry], list[str]]:
    """Published rows that were found as ours were, and why others are not listed."""
    if plan.subsets != "published":
        return [], []
    found: dict[PublishedRow, None] = {}
    unlisted: dict[str, None] = {}
    for row in summary:
        if row["head"] == "zero-shot" and plan.prompt_set != "merl":
            continue
        rows = comparable_rows(
            row["benchmark"], row["protocol"], row["head"], row["fraction"], row["n_test"], plan.folds
        )
        differs = _differs(plan, models, row, differing)
        if rows and differs:
            unlisted[f"Published {row['head']} rows are not listed: {'; '.join(differs)}."] = None
        elif rows:
            found |= dict.fromkeys(rows)
    return [one.as_dict() for one in found], list(unlisted)


def _differs(
    plan: EvaluationPlan, models: Sequence[str], row: SummaryRow, differing: Mapping[str, list[str]]
) -> list[str]:
    """What of a row's training is not as the protocol publishes it; of fine-tuning as ``differing`` says."""
    if row["head"] == "zero-shot":
        return []
    if row["head"] == "finetune":
        return differing[row["encoder"]]
    if row["head"] not in plan.protocol.schedules:
        return ["the protocol publishes no schedule of it"]
    if row["head"] == "linear" and (row["encoder"] not in models or row["solver"] == "lbfgs"):
        # A protocol's own procedure: our exact optimum is another head.
        return ["the head is fitted exactly, not by the published schedule"]
    if row["head"] in plan.heads and plan.head_options:
        return [f"asked for otherwise: {', '.join(sorted(plan.head_options))}"]
    return []
