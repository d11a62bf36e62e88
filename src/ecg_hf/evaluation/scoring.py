"""The evaluation of a model: every benchmark, head, label fraction and seed, with controls, as cells that stay.

One result is one cell (:mod:`ecg_hf.evaluation.cache`). Features are made once per encoder and recordings, kept by
content, and read by every head; cells that are there are not computed again, so that a killed run continues.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import LabelledSubset
from ecg_hf.evaluation.cache import CellResult, CellScores, CellStore, array_digest, cell_key
from ecg_hf.evaluation.encoders import BaselineEntrant, Encoder, ModelEntrant, take
from ecg_hf.evaluation.heads.finetune import finetune_scores
from ecg_hf.evaluation.heads.registry import ConfiguredHead
from ecg_hf.evaluation.plan import EvaluationPlan
from ecg_hf.evaluation.prepare import PreparedBenchmark
from ecg_hf.evaluation.rows import calibration_entries, learnable, scored_row, unscored_row
from ecg_hf.metrics.intervals import RESAMPLING_SEED
from ecg_hf.metrics.ranking import FloatArray
from ecg_hf.training.finetuning import layer_depths

if TYPE_CHECKING:
    pass
    from ecg_hf.evaluation.plan import EvaluationPlan


__all__ = ["Classification", "EvaluatedCell", "Job", "Say", "deviations", "finetuned_scores", "run_jobs"]

logger = logging.getLogger(__name__)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedCell:
    """A finished cell with its place in the evaluation.

    Attributes:
        encoder: Whose scores these are: ``"pretrained"`` for the model itself.
        benchmark: Name of the benchmark.
        head: Name of the head.
        fraction: Label fraction; 0 without training.
        seed: First seed this cell stands for.
        result: Row and scores.
    """

    encoder: str
    benchmark: str
    head: str
    fraction: float
    seed: int
    result: CellResult


def run_jobs(jobs: Iterable[Job], store: CellStore, say: Say = logger.info) -> list[EvaluatedCell]:
    """The cells of some jobs, each once; those already in the store are read.

    Args:
        jobs: Of one encoder on one benchmark.
        store: Where cells are kept.
        say: Receives one line per cell computed.

    Raises:
        ConfigurationError: if head and protocol do not fit, or a model lacks what the head needs.
    """
    found: dict[str, EvaluatedCell] = {}
    for job in jobs:
        before = store.computed
        result = store.get(job.depends(), job.compute)
        if result.key in found:
            continue  # nothing of this cell depends on the seed
        # Whose cell it is belongs to this evaluation: another may know the same weights by another name.
        whose = {"encoder": job.entrant.name, "seed": job.seed}
        result = replace(result, content={**result.content, **whose})
        name = job.prepared.benchmark.name
        cell = EvaluatedCell(job.entrant.name, name, job.head_name, job.fraction, job.seed, result)
        found[result.key] = cell
        if store.computed > before:
            value = result.content["macro_auroc"]
            shown = "no score" if value is None else f"macro AUROC {value:.4f}"
            who = f"{cell.benchmark} {cell.encoder} {cell.head} {cell.fraction:g} seed {cell.seed}"
            say(f"{who}: {shown} ({result.seconds:.1f} s)")
    return list(found.values())


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """A benchmark's labels by a trained head, at every label fraction and seed.

    Attributes:
        plan: What is asked for.
        prepared: Records, labels, splits.
        store: Where cells are kept.
        head: Of :data:`~ecg_hf.evaluation.heads.registry.HEADS`.
        say: Receives one line per cell computed.
    """

    plan: EvaluationPlan
    prepared: PreparedBenchmark
    store: CellStore
    head: str
    say: Say = logger.info

    part: ClassVar[str] = "probe"

    def run(self, encoder: Encoder) -> list[EvaluatedCell]:
        """Every fraction and seed of an encoder."""
        jobs = (
            _trained_job(self.plan, self.prepared, encoder, self.head, subset, seed)
            for seed in self.plan.seeds
            for subset in self.plan.labelled_subsets(self.prepared.data, seed)
        )
        return run_jobs(jobs, self.store, self.say)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One cell to be: what it depends on, and how to compute it.

    Attributes:
        plan: What is asked for.
        prepared: Records, labels, splits.
        entrant: Whose scores.
        head_name: By which head.
        subset: What is trained on; ``None`` without training.
        seed: Of the subset and of everything random.
        settings: Of the head, as JSON values.
        stochastic: Whether the seed matters beyond the subset.
        score: Gives scores of the test records, classes that could not be learnt, and notes for the row.
        needs_validation: Whether something is chosen on validation records.
    """

    plan: EvaluationPlan
    prepared: PreparedBenchmark
    entrant: Encoder
    head_name: str
    subset: LabelledSubset | None
    seed: int
    settings: Mapping[str, Any]
    stochastic: bool
    score: Callable[[Job], tuple[FloatArray, dict[str, str], dict[str, Any]]]
    needs_validation: bool = True

    @property
    def fraction(self) -> float:
        """Label fraction; 0 without training."""
        return 0.0 if self.subset is None else self.subset.fraction

    def train_rows(self) -> npt.NDArray[np.intp]:
        """Rows of the dataset that are trained on."""
        assert self.subset is not None
        return self.prepared.data.rows("train")[self.subset.indices]

    def depends(self) -> dict[str, Any]:
        """Everything the result depends on, as JSON values."""
        depends: dict[str, Any] = {
            "kind": "scores",
            "benchmark": self.prepared.benchmark.name,
            "protocol": self.plan.protocol.name,
            "entrant": self.entrant.digest(),
            "data": self.prepared.digest(None if self.subset is None else self.train_rows()),
            "head": {"name": self.head_name, **self.settings},
            "fraction": self.fraction,
            "resamples": self.plan.n_resamples,
        }
        if isinstance(self.entrant, BaselineEntrant) and self.entrant.frozen:
            depends["fit_rows"] = array_digest(self.prepared.fit_rows)
        if self.stochastic:
            depends["seed"] = self.seed
        return depends

    def compute(self) -> tuple[dict[str, Any], CellScores | None]:
        """The row, and the scores it is from."""
        data = self.prepared.data
        test = data.rows("test")
        truth, patients = data.labels[test], self.prepared.test_patients()
        own = {
            "benchmark": self.prepared.benchmark.name,
            "protocol": self.plan.protocol.name,
            "head": self.head_name,
            "n_validation": len(data.rows("validation")),
        }
        if self.subset is not None:
            validation = data.labels[data.rows("validation")] if self.needs_validation else None
            if not learnable(data.labels[self.train_rows()], validation):
                row = unscored_row(truth, data.class_names, self.subset, len(data.rows("validation")))
                return {**row, **own}, None
        scores, unfitted, notes = self.score(self)
        scored, interval = scored_row(
            truth,
            scores,
            data.class_names,
            unfitted,
            self.subset,
            patients=patients,
            n_resamples=self.plan.n_resamples,
            seed=RESAMPLING_SEED,
        )
        included = np.array([name not in unfitted for name in data.class_names])
        calibration = calibration_entries(self.head_name, truth, scores, included)
        kept = CellScores(
            record_ids=tuple(self.prepared.record_ids[test].tolist()),
            class_names=data.class_names,
            patients=patients,
            labels=truth,
            scores=scores,
            included=included,
            samples=interval.samples,
        )
        return {**scored, **calibration, **own, **notes}, kept


def _trained_job(
    plan: EvaluationPlan,
    prepared: PreparedBenchmark,
    entrant: Encoder,
    name: str,
    subset: LabelledSubset,
    seed: int,
) -> Job:
    if isinstance(entrant, BaselineEntrant) and not entrant.frozen:
        return Job(plan, prepared, entrant, "supervised", subset, seed, {}, True, _scratch_scores)
    head = head_of(plan, entrant, name)
    if head.inputs == "recordings":
        return Job(
            plan, prepared, entrant, head.name, subset, seed, head.settings, head.stochastic, finetuned_scores
        )
    return Job(
        plan, prepared, entrant, head.name, subset, seed, head.settings, head.stochastic,
        partial(_frozen_scores, head), head.needs_validation or len(prepared.data.rows("validation")) > 0,
    )  # fmt: skip


def head_of(plan: EvaluationPlan, entrant: Encoder, name: str) -> ConfiguredHead:
    """The head asked for; of baselines, which have no tokens and no weights to tune, the linear one."""
    if isinstance(entrant, ModelEntrant):
        windows = plan.protocol.window_s is not None and entrant.window_s == plan.protocol.window_s
        return plan.head(name, windows=windows, model_type=entrant.model.config.model_type)
    return plan.head(name if name in ("linear", "mlp") else "linear")


def _frozen_scores(chosen: ConfiguredHead, job: Job) -> tuple[FloatArray, dict[str, str], dict[str, Any]]:
    prepared, plan = job.prepared, job.plan
    data = prepared.data
    assert chosen.build is not None
    if isinstance(job.entrant, ModelEntrant):
        features = job.entrant.features(chosen.inputs, prepared.dataset, prepared.recordings)
    else:
        features = job.entrant.features(prepared.dataset, prepared.recordings, prepared.fit_rows)
    head = chosen.build(job.seed)
    test = data.rows("test")
    extra: dict[str, Any] = {}
    if chosen.sees_test:
        extra = {"test_features": take(features, test), "test_labels": data.labels[test]}
    train, validation = job.train_rows(), data.rows("validation")
    if chosen.needs_validation and not len(validation):
        raise ConfigurationError(
            f"the {chosen.name} head chooses on validation records, of which {plan.protocol.name} has none: give "
            "validation folds, or another solver"
        )
    judged = (take(features, validation), data.labels[validation]) if len(validation) else (None, None)
    head.fit(take(features, train), data.labels[train], *judged, class_names=data.class_names, **extra)
    scores = head.decision_function(take(features, test))
    return scores, dict(head.unfitted), {**_chosen(getattr(head, "head", head), head), **_solver(chosen)}


def _solver(chosen: ConfiguredHead) -> dict[str, Any]:
    notes: dict[str, Any] = {}
    if "solver" in chosen.settings:
        schedule = chosen.settings.get("schedule")
        notes["solver"] = chosen.settings["solver"] if schedule is None else schedule["name"]
    if chosen.inputs == "windows":
        notes["aggregation"] = "mean_probability"
    return notes


def _chosen(inner: Any, head: Any) -> dict[str, Any]:
    """What the head chose on validation, for the row."""
    for thing in (head, inner):
        if hasattr(thing, "c_grid"):
            return {"c": thing.c, "c_at_edge": thing.c_at_edge, "converged": thing.converged}
        if hasattr(thing, "epochs"):
            return {"epoch": thing.epoch, "epochs": thing.epochs}
        if hasattr(thing, "schedule"):
            return {"epoch": thing.epoch}
    return {}


def _scratch_scores(job: Job) -> tuple[FloatArray, dict[str, str], dict[str, Any]]:
    assert isinstance(job.entrant, BaselineEntrant)
    data, network = job.prepared.data, job.entrant.make()
    if not len(data.rows("validation")):
        raise ConfigurationError(
            "a network trained from scratch is chosen on validation records: give validation folds"
        )
    scores = network.fit_predict(
        job.prepared.dataset,
        data.labels.astype(np.float32),
        job.train_rows(),
        data.rows("validation"),
        data.rows("test"),
        data.class_names,
        seed=job.seed,
    )
    return scores, dict(network.unfitted), {"epoch": network.epoch, "epochs": network.epochs}


EXTRACTOR_FILE = "preprocessor_config.json"


def deviations(plan: EvaluationPlan, model: Any) -> list[str]:
    """What keeps a fine-tuning from being its protocol's published one, in words; nothing if it is.

    Args:
        plan: What is asked for.
        model: The encoder.
    """
    schedule = plan.protocol.schedules.get("finetune")
    if schedule is None:
        return ["the protocol publishes no schedule of it"]
    found = [f"{name} is not reproduced" for name in schedule.not_reproduced]
    if schedule.encoder_learning_rate is not None and max(layer_depths(model).values()) == 0:
        found.append("the encoder has no layers to tell its stem from")
    if plan.protocol.window_s is not None and getattr(model.config, "window_samples", None):
        found.append("the model is trained on all windows of a recording, not on a random one")
    if plan.head_options:
        found.append(f"asked for otherwise: {', '.join(sorted(plan.head_options))}")
    return found


def finetuned_scores(job: Job) -> tuple[FloatArray, dict[str, str], dict[str, Any]]:
    """Log-odds of the test records by a fine-tuned model; a killed training continues from its last epoch."""
    entrant, data = job.entrant, job.prepared.data
    assert isinstance(entrant, ModelEntrant)
    if not len(data.rows("validation")):
        raise ConfigurationError("fine-tuning chooses the epoch on validation records: give validation folds")
    folder = entrant.cache_dir.parent / "work" / f"finetune-{cell_key(job.depends())}"
    options: dict[str, Any] = {"disable_tqdm": False, "report_to": "none", **job.settings}
    if job.plan.device == "cpu":
        options.setdefault("use_cpu", True)
    found = finetune_scores(
        _staged(entrant, folder / "start"),
        job.prepared.dataset,
        data,
        folder / "training",
        train_rows=job.train_rows(),
        from_scratch=entrant.untrained,
        model_options=_model_options(job.plan),
        resume=True,
        seed=job.seed,
        **options,
    )
    # Weights and optimiser states of every cell would fill the disk; the scores are what is kept.
    shutil.rmtree(folder, ignore_errors=True)
    return found.scores, found.unfitted, {"best_step": found.best_step}


def _model_options(plan: EvaluationPlan) -> dict[str, Any]:
    """Fields of the configuration that the published schedule decides."""
    schedule = plan.protocol.schedules.get("finetune")
    return {} if schedule is None or schedule.pooling is None else {"classifier_pooling": schedule.pooling}


def _staged(entrant: ModelEntrant, folder: Path) -> str:
    """The model's folder, with the protocol's preprocessing in place of its own where that differs."""
    if not entrant.adapted:
        return entrant.source
    source = Path(entrant.source)
    if not source.is_dir():
        raise ConfigurationError(
            "fine-tuning under a protocol with its own preprocessing needs a local model", path=source
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        target = folder / file.name
        if (
            file.is_file()
            and file.name not in (EXTRACTOR_FILE, "processor_config.json")
            and not target.exists()
        ):
            os.symlink(file.resolve(), target)
    entrant.extractor.save_pretrained(folder)
    return str(folder)
