"""Probes while a model is pretraining: a run that learns nothing is seen after minutes, not after days."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.distributed.tensor import DTensor
from tqdm.auto import tqdm
from transformers import TrainerControl, TrainerState, TrainingArguments

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import Benchmark, BenchmarkData, get_benchmark
from ecg_hf.evaluation.features.pooled import (
    accepted,
    accepted_arguments,
    encode_batches,
    evaluating,
    output_field,
)
from ecg_hf.evaluation.heads.base import FeatureScale
from ecg_hf.evaluation.heads.linear import LinearProbe
from ecg_hf.metrics.ranking import BoolArray, FloatArray, auroc
from ecg_hf.training.training_log import MeasuringCallback

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["MAX_SHARE", "OnlineProbe", "knn_scores", "parse_probe", "probe_records"]

MAX_SHARE = 0.05
"""Most of the training time that probes take, unless their interval was asked for."""

FIT_RECORDS, SCORE_RECORDS = 1000, 500
PROBES = 10  # a run has so many, the one before its first step apart
NEIGHBOURS, TEMPERATURE = 20, 0.1
# One C for all steps and models: choosing it would cost records and time, and curves would jump with the choice.
C = 0.01
BATCH_SIZE = 64
SEED = 0  # not the run's: runs are compared on the same records


def parse_probe(text: str) -> tuple[Benchmark, Path | None]:
    """``BENCHMARK`` or ``BENCHMARK:DATASET``.

    Raises:
        ConfigurationError: if there is no such benchmark, or it has no labels to probe for.
    """
    name, colon, folder = text.partition(":")
    benchmark = get_benchmark(name)
    if benchmark.kind != "multilabel":
        raise ConfigurationError(
            f"{name} is a {benchmark.kind} task: there are no labels to probe for", value=name
        )
    if colon and not folder:
        raise ConfigurationError("a dataset is missing after the colon", value=text)
    return benchmark, Path(folder) if colon else None


def probe_records(benchmark: Benchmark, dataset: Dataset) -> tuple[BenchmarkData, npt.NDArray[np.intp]]:
    """Labels of a dataset's training folds; labels of other folds are not looked at.

    Args:
        benchmark: What the labels are.
        dataset: Rows of :func:`ecg_hf.data.load_built`.

    Returns:
        Labels and patients, one entry per row of the training folds, and the rows these are.

    Raises:
        ConfigurationError: if the dataset is another than the benchmark's, or its training folds hold no label.
    """
    from ecg_hf.data.sources.challenge2021 import sub_dataset_of
    from ecg_hf.data.splits import parse_folds

    wanted = [
        name
        for name in ("record_id", "patient_id", "source", "fold", "split")
        if name in dataset.column_names
    ]
    columns = dataset.select_columns(wanted).with_format("arrow")[:].to_pydict()
    sources = set(columns.get("source", ())) - {None}
    if sources != {benchmark.dataset}:
        given = ", ".join(sorted(sources)) or "unnamed"
        raise ConfigurationError(
            f"{benchmark.name} is about {benchmark.dataset}, the dataset is {given}",
            value=benchmark.name,
        )
    folds = parse_folds(benchmark.train_folds)
    training = (
        np.isin(columns["fold"], folds) if folds else np.asarray(columns["split"], dtype=str) == "train"
    )
    if benchmark.subset:
        training &= np.array([sub_dataset_of(name) == benchmark.subset for name in columns["record_id"]])
    rows = np.flatnonzero(training)
    codes = dataset.select(rows).select_columns(["labels"]).with_format("arrow")[:].to_pydict()["labels"]
    data = BenchmarkData.from_columns(
        benchmark,
        codes,
        folds=[folds[0]] * len(rows) if folds else None,
        split=["train"] * len(rows),
        patient_ids=[columns["patient_id"][row] for row in rows] if "patient_id" in columns else None,
        splits=("train",),
    )
    return data, rows


def knn_scores(features: FloatArray, labels: BoolArray, queries: FloatArray) -> FloatArray:
    """Labels of the nearest records by cosine, weighted by ``exp(cosine / 0.1)``.

    Args:
        features: ``(records, dim)``, standardised.
        labels: ``(records, classes)``.
        queries: ``(queries, dim)``, standardised by the same scale.

    Returns:
        float64 ``(queries, classes)`` in [0, 1].
    """
    cosine = _unit(queries) @ _unit(features).T
    nearest = np.argpartition(-cosine, min(NEIGHBOURS, len(features)) - 1, axis=1)[:, :NEIGHBOURS]
    weights = np.exp((np.take_along_axis(cosine, nearest, axis=1) - 1.0) / TEMPERATURE)
    return np.asarray(np.einsum("qk,qkc->qc", weights, labels[nearest]) / weights.sum(axis=1, keepdims=True))


def _unit(x: FloatArray) -> FloatArray:
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(norms > 0, norms, 1.0))


class OnlineProbe(MeasuringCallback):
    """Logs how well a kNN and a linear probe read a benchmark's labels off the encoder, as training goes on.

    The records are the same every time: 1,000 to fit and 500 to score, of different patients, all from the training
    folds, so that what is chosen by these curves has seen no validation or test label. They are preprocessed once and
    kept in memory. The encoder is what ``AutoModel`` would load from the run, in evaluation mode; weights, modes and
    random numbers are as before afterwards, so that a run with probes has the same bytes as one without.

    Logged are ``probe_knn_auroc`` and ``probe_linear_auroc``, macro AUROC over the classes with at least ten
    positives and negatives on both sides (one, if no class has ten): before the first step, every ``every`` steps,
    and after the last. NaN stands for an encoder whose output is not finite. Only the first of several processes
    probes.

    Args:
        benchmark: What the labels are.
        dataset: Built rows with these labels.
        every: Steps between probes. None: a tenth of the run, or more where probes would take more than
            :data:`MAX_SHARE` of the training time; the first and the last one are always made.
        fit_records: Records the heads are fitted to; of small datasets two thirds.
        score_records: Records they are scored on; of small datasets a third.

    Raises:
        ConfigurationError: if dataset and benchmark do not fit, or no class is on both sides.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        dataset: Dataset,
        *,
        every: int | None = None,
        fit_records: int = FIT_RECORDS,
        score_records: int = SCORE_RECORDS,
    ) -> None:
        if every is not None and every < 1:
            raise ConfigurationError(
                f"a probe needs at least 1 step between probes, got {every}", value=every
            )
        data, rows = probe_records(benchmark, dataset)
        fit, score = _drawn(data, fit_records, score_records)
        self.benchmark = benchmark
        self.every = every
        self.fit_rows, self.score_rows = rows[fit], rows[score]
        self.seconds = self.share = 0.0
        self.probed: list[int] = []
        self._dataset = dataset.select(np.concatenate([self.fit_rows, self.score_rows]))
        self._classes = _scored_classes(data, fit, score)
        self._labels = data.labels[np.concatenate([fit, score])][:, self._classes]
        self._inputs: list[dict[str, torch.Tensor]] = []
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._started = self._cost = 0.0
        self._begun = self._last_step = 0

    @classmethod
    def from_text(cls, text: str, datasets: Sequence[str | Path], every: int | None = None) -> OnlineProbe:
        """A probe as the command line names it.

        Args:
            text: ``BENCHMARK`` or ``BENCHMARK:DATASET``.
            datasets: What is trained on; one of them is taken if ``text`` names none.
            every: See :class:`OnlineProbe`.

        Raises:
            ConfigurationError: if none of them has the benchmark's labels.
        """
        from ecg_hf.data import BuildReport, load_built
        from ecg_hf.data.report import REPORT_FILE
        from ecg_hf.storage import local_folder

        benchmark, folder = parse_probe(text)
        if folder is not None:
            return cls(benchmark, load_built(folder), every=every)
        found = []
        for path in map(local_folder, datasets):
            if not (path / REPORT_FILE).is_file():
                continue
            found.append(BuildReport.load(path).source)
            if found[-1] == benchmark.dataset:
                return cls(benchmark, load_built(path), every=every)
        have = ", ".join(found) or "no built dataset"
        raise ConfigurationError(
            f"{benchmark.name} is about {benchmark.dataset}, and what is trained on is {have}: name a built dataset "
            f"as {benchmark.name}:FOLDER",
            value=text,
        )

    # The trainer calls these --------------------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note where the run starts.

        Raises:
            ConfigurationError: if the model is divided among processes, so that none of them could run it alone.
        """
        if any(isinstance(parameter, DTensor) for parameter in kwargs["model"].parameters()):
            raise ConfigurationError(
                "an online probe needs the whole model in one process: leave it out with FSDP"
            )
        self._started, self._begun = time.perf_counter(), state.global_step
        self.seconds, self.probed = 0.0, []
        self._last_step = state.global_step - state.global_step % self._interval(state)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Probe the untrained encoder."""
        if state.global_step == 0 and not self.probed:
            self._probe(args, state, kwargs["model"], kwargs["processing_class"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Probe if it is time."""
        last = state.global_step >= state.max_steps
        if last or state.global_step - self._last_step >= self._affordable_interval(state):
            self._probe(args, state, kwargs["model"], kwargs["processing_class"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Print what the probes found, and what they cost."""
        self.share = self.seconds / max(time.perf_counter() - self._started, 1e-9)
        if not state.is_world_process_zero or not self._last:
            return
        found = ", ".join(
            f"{name} {self._first[key]:.3f} -> {self._last[key]:.3f}"
            for name, key in (("kNN", "probe_knn_auroc"), ("linear", "probe_linear_auroc"))
        )
        line = (
            f"probe of {self.benchmark.name}: AUROC {found} (steps {self.probed[0]:,} and {self.probed[-1]:,}); "
            f"{len(self.probed)} probes of {len(self.fit_rows):,} + {len(self.score_rows):,} records took "
            f"{self.seconds:.1f} s, {self.share:.1%} of the training time"
        )
        tqdm.write(line, file=sys.stderr)

    # When ---------------------------------------------------------------------------------------------------

    def _interval(self, state: TrainerState) -> int:
        return self.every or max(1, state.max_steps // PROBES)

    def _affordable_interval(self, state: TrainerState) -> int:
        """Steps between probes, so many that those to come do not take more than their share."""
        asked = self._interval(state)
        done = state.global_step - self._begun
        if self.every is not None or not self._cost or done < asked:
            return asked
        pace = (time.perf_counter() - self._started - self.seconds) / done
        budget = MAX_SHARE * pace * (state.max_steps - self._begun) - self.seconds
        # One of them is the last step's. A tenth of a probe too few is no reason to leave it out: the budget is a
        # share of the steps' time alone.
        probes = max(1, int(budget / self._cost + 0.1))
        return int(max(asked, math.ceil((state.max_steps - self._last_step) / probes)))

    # What ---------------------------------------------------------------------------------------------------

    def _probe(
        self, args: TrainingArguments, state: TrainerState, model: nn.Module, processing_class: Any
    ) -> None:
        self._last_step = state.global_step
        if not state.is_world_process_zero:
            return
        if args.device.type == "cuda":
            torch.cuda.synchronize(args.device)  # training's own work is not the probe's
        started = time.perf_counter()
        with _random_numbers_kept():
            if not self._inputs:
                self._prepare(getattr(processing_class, "feature_extractor", processing_class))
                self.seconds += time.perf_counter() - started
                started = time.perf_counter()
            values = self._scores(self._embed(args, model))
        self._cost = time.perf_counter() - started
        self.seconds += self._cost
        self.probed.append(state.global_step)
        self._first = self._first or values
        self._last = values
        self.log(dict(values))

    def _prepare(self, feature_extractor: Any) -> None:
        def keep(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            self._inputs.append(inputs)
            return next(iter(inputs.values()))

        for _ in encode_batches(
            keep,
            feature_extractor,
            self._dataset,
            column="ecg",
            batch_size=BATCH_SIZE,
            device=torch.device("cpu"),
        ):
            pass

    def _embed(self, args: TrainingArguments, model: nn.Module) -> FloatArray:
        """Embeddings ``(records, dim)`` of the encoder as it is now, in the precision it is trained in."""
        encoder = getattr(model, "base_model", model)
        names = accepted_arguments(encoder.forward)
        half = torch.bfloat16 if args.bf16 else torch.float16
        found = []
        # Not inference mode: what a model computes once and keeps must stay usable for training.
        with (
            evaluating(encoder, None) as device,
            torch.no_grad(),
            torch.autocast(device.type, half, enabled=args.bf16 or args.fp16),
        ):
            for batch in self._inputs:
                inputs = {name: value.to(device) for name, value in accepted(batch, names).items()}
                found.append(output_field(encoder(**inputs), "pooler_output").float().cpu().numpy())
        return np.concatenate(found).astype(np.float64)

    def _scores(self, embeddings: FloatArray) -> dict[str, float]:
        if not np.isfinite(
            embeddings
        ).all():  # a diverging run is told by its loss; the probe does not end it
            return {"probe_knn_auroc": math.nan, "probe_linear_auroc": math.nan}
        n = len(self.fit_rows)
        fit, truth = self._labels[:n], self._labels[n:]
        linear = LinearProbe(c_grid=(C,), tolerance=1e-4).fit(embeddings[:n], fit)
        scale = FeatureScale.of(embeddings[:n], linear.clip_sd)
        nearest = knn_scores(scale(embeddings[:n]), fit, scale(embeddings[n:]))
        return {
            "probe_knn_auroc": float(auroc(truth, nearest).mean()),
            "probe_linear_auroc": float(auroc(truth, linear.decision_function(embeddings[n:])).mean()),
        }


def _drawn(
    data: BenchmarkData, fit_records: int, score_records: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Records to fit and to score, patient by patient in an order drawn once and for all."""
    labelled = data.rows("train")
    patients = data.patient_ids or (None,) * len(data.labels)
    # A record whose patient is unknown stands for a patient.
    names = np.array([f"p{patients[row]}" if patients[row] else f"r{row}" for row in labelled])
    _, of_record = np.unique(names, return_inverse=True)
    order = np.random.default_rng(SEED).permutation(of_record.max() + 1)
    position = np.argsort(order)[of_record]
    rows = labelled[np.argsort(position, kind="stable")]
    position = np.sort(position)
    total = min(len(rows), fit_records + score_records)
    wanted = min(score_records, math.ceil(total * score_records / (fit_records + score_records)))
    # The patient at the border is scored, as far as there is room.
    first_fit = int(np.searchsorted(position, position[wanted - 1], side="right"))
    return np.sort(rows[first_fit : first_fit + fit_records]), np.sort(rows[:wanted])


def _scored_classes(
    data: BenchmarkData, fit: npt.NDArray[np.intp], score: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """Classes with enough positives and negatives on both sides."""
    for least in (10, 1):
        enough = np.ones(data.labels.shape[1], dtype=bool)
        for rows in (fit, score):
            positives = data.labels[rows].sum(axis=0)
            enough &= (positives >= least) & (len(rows) - positives >= least)
        if enough.any():
            return np.flatnonzero(enough)
    raise ConfigurationError(
        f"{len(fit)} records to fit and {len(score)} to score have no class in common to probe for",
        value=len(fit),
    )


@contextmanager
def _random_numbers_kept() -> Iterator[None]:
    """Every generator training draws from goes on as if nothing had happened."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
