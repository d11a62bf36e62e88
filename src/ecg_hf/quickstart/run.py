"""The stages of the quickstart, in order, each continuing where an interrupted run stopped."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining

import ecg_hf.models.auto  # noqa: F401  (registers the methods)
from ecg_hf.data import build_dataset, load_built
from ecg_hf.data.sources import get_source
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation import (
    EvaluationPlan,
    LoadedModel,
    Recordings,
    embed_dataset,
    evaluate_model,
    get_benchmark,
    get_protocol,
    write_evaluation,
)
from ecg_hf.evaluation.encoders import UNTRAINED
from ecg_hf.evaluation.protocols import DEFAULT_PROTOCOL
from ecg_hf.evaluation.results import Results, write_results
from ecg_hf.files import temporary_name
from ecg_hf.hub import CardContext, write_model_card
from ecg_hf.hub.model_folder import model_files
from ecg_hf.models.registry import MethodSpec, get_method
from ecg_hf.planning import StoredRecords, planned_run
from ecg_hf.planning.measuring import measure_step
from ecg_hf.planning.samples import sample_inputs
from ecg_hf.processing import EcgProcessor
from ecg_hf.quickstart.pictures import Pictured, draw_report
from ecg_hf.quickstart.reload import reload_in_clean_process
from ecg_hf.training.progress import duration
from ecg_hf.training.recipe import Recipe, load_recipe
from ecg_hf.training.run import PretrainResult, pretrain
from ecg_hf.training.run_folder import write_json

__all__ = ["CORPORA", "Corpus", "check_choice", "run_quickstart"]

Say = Callable[[str], None]
RELOADED_RECORDS = 16


@dataclass(frozen=True, slots=True)
class Corpus:
    """A data source as the quickstart uses it.

    Attributes:
        source: Name of the source.
        benchmark: What is probed.
        title: For a reader.
        synthetic: Whether the recordings are simulated.
        options: Options of the source.
    """

    source: str
    benchmark: str
    title: str
    synthetic: bool
    options: dict[str, Any] = field(default_factory=dict)


CORPORA = {
    "synthetic": Corpus(
        "synthetic",
        "synthetic-findings",
        "synthetic ECGs (simulated signals and reports)",
        synthetic=True,
        options={"records": 2400, "sampling_rate": 100},
    ),
    "ptbxl": Corpus("ptbxl", "ptbxl-super", "PTB-XL 1.0.3 at 100 Hz", synthetic=False, options={"rate": 100}),
}


def check_choice(dataset: str, data_dir: str | Path | None, model: str) -> tuple[Corpus, MethodSpec]:
    """What a quickstart is to train on, and the method.

    Raises:
        ConfigurationError: if there is no such dataset or method, or the dataset needs a folder.
    """
    if dataset not in CORPORA:
        raise ConfigurationError(f"unknown dataset {dataset!r}; known: {', '.join(CORPORA)}", value=dataset)
    corpus = CORPORA[dataset]
    if data_dir is None and not corpus.synthetic:
        raise ConfigurationError(f"{corpus.source} needs the folder its files are in: data_dir (--data-dir)")
    spec = get_method(model)
    spec.require_role("pretraining")
    return corpus, spec


def run_quickstart(
    output: str | Path,
    *,
    dataset: str = "synthetic",
    data_dir: str | Path | None = None,
    model: str = "cg-dmer",
    max_steps: int | None = None,
    num_proc: int = 2,
    seed: int = 0,
    source_options: dict[str, Any] | None = None,
    say: Say = print,
) -> Results:
    """Do everything once, on the embedded synthetic corpus or on PTB-XL.

    Builds the dataset, pretrains with the method's small-machine recipe, evaluates as ``ecg-hf evaluate`` does
    (linear probes of the pretrained and of the untrained encoder at 1, 10 and 100 % of the labels, and zero-shot),
    writes the model with its card, loads it again in a clean process, and draws the report. An interrupted run
    continues.

    Args:
        output: Folder for ``data/``, ``pretraining/``, ``model/``, ``figures/``, ``report.html``, and what an
            evaluation leaves: ``results.json``, ``table.md``, cells, scores and features.
        dataset: A key of :data:`CORPORA`.
        data_dir: Where PTB-XL lies.
        model: Name of a method.
        max_steps: Pretraining steps; the recipe's epochs if not given.
        num_proc: Processes reading records.
        seed: Seed of weights, order, masks, label subsets and resamples.
        source_options: Options of the source beyond the corpus' own, such as ``records``.
        say: Receives one line per stage.

    Returns:
        The content of ``results.json``.

    Raises:
        EcgError: if the data or the options can't be used.
    """
    corpus, spec = check_choice(dataset, data_dir, model)
    folder = Path(output)
    timings: dict[str, float] = {}
    stage = _stages(say, timings)
    recipe = load_recipe(f"{spec.module}_cpu")
    say(expected_duration(recipe, max_steps))

    with stage("data", f"building {corpus.title}"):
        options = {**corpus.options, **(source_options or {})}
        report = build_dataset(corpus.source, data_dir, folder / "data", num_proc=num_proc, **options)
        say(report.summary())
    records = load_built(folder / "data")
    with stage("pretrain", f"pretraining {spec.name}"):
        steps: dict[str, Any] = {} if max_steps is None else {"max_steps": max_steps}
        trained = pretrain(
            spec.name, folder / "data", folder / "pretraining", recipe=recipe, resume=True, seed=seed, **steps
        )
    model_folder = _publish(folder / "pretraining", folder / "model")
    encoder = AutoModel.from_pretrained(model_folder).eval()
    extractor = AutoFeatureExtractor.from_pretrained(model_folder)
    benchmark = get_benchmark(corpus.benchmark)
    heads = ("linear", "zero-shot") if spec.multimodal else ("linear",)
    with stage(
        "evaluate", f"{' and '.join(heads)}, pretrained and untrained, at 1, 10 and 100 % of the labels"
    ):
        evaluation = evaluate_model(
            EvaluationPlan(get_protocol(DEFAULT_PROTOCOL), heads, seeds=(seed,)),
            LoadedModel(str(model_folder), encoder, extractor),
            [benchmark],
            {benchmark.name: Recordings.of(records)},
            folder,
            controls=(UNTRAINED,),
            say=say,
        )
    results, prepared = evaluation.results, evaluation.prepared[benchmark.name]
    labels = prepared.data
    results["timings"] = timings
    with stage("card", "writing the model card"):
        _write_card(spec, corpus, model_folder, extractor, trained, results)
    with stage("reload", "loading the model in a clean process"):
        rows = labels.rows("test")[:RELOADED_RECORDS].tolist()
        expected = embed_dataset(
            AutoModel.from_pretrained(model_folder),
            extractor,
            records.select(rows),
            batch_size=len(rows),
            progress=False,
        )
        reloaded = reload_in_clean_process(
            model_folder, folder / "data", rows, expected, folder, threads=torch.get_num_threads()
        )
        say(
            f"  {reloaded['model_class']}: {len(rows)} embeddings, largest difference {reloaded['max_difference']}"
        )
    write_evaluation(folder, evaluation, figures=False)
    with stage("report", "drawing the report"):
        facts = {
            "model": f"{spec.title}, {trained.parameters:,} parameters",
            "records": ", ".join(
                f"{name} {len(labels.rows(name)):,}" for name in ("train", "validation", "test")
            ),
            "pretraining": f"{trained.steps:,} steps in {trained.seconds:.0f} s on {trained.device}",
            "reloaded": f"in a clean process by the Auto classes, {len(rows)} embeddings equal bit for bit",
        }
        shown = Pictured(
            model=AutoModelForPreTraining.from_pretrained(model_folder),
            processor=EcgProcessor.from_pretrained(model_folder) if spec.multimodal else extractor,
            records=records,
            labels=labels,
            benchmark=benchmark.name,
            embeddings=evaluation.model[benchmark.name].features(
                "pooled", prepared.dataset, prepared.recordings
            ),
            results=results,
            facts=facts,
            synthetic=corpus.synthetic,
            title=corpus.title,
        )
        draw_report(folder, shown, seed=seed)
    write_results(folder / "results.json", results)
    for line in (*_summary(results), *closing_lines(folder, corpus)):
        say(line)
    return results


def expected_duration(recipe: Recipe, max_steps: int | None = None) -> str:
    """How long a quickstart takes on this machine, from one measured training step.

    Args:
        recipe: What it pretrains by.
        max_steps: Pretraining steps, instead of the recipe's.
    """
    run = planned_run(recipe.method, recipe=recipe, accelerator=torch.cuda.is_available())
    inputs = sample_inputs(run, StoredRecords())
    device = "cuda" if run.accelerator else "cpu"
    step = measure_step(run, inputs, device=device, records=run.batch_size, steps=1).step_s
    steps = run.max_steps if max_steps is None else max_steps
    # Evaluation while training takes about a fifth; data, probes and pictures about a minute.
    total = duration(60 * max(1, round((1.2 * steps * step + 60) / 60)))
    return (
        f"This takes about {total.removesuffix(' 00 s')} on this machine: {steps} pretraining steps of "
        f"{run.batch_size} records, then data, probes and pictures. If interrupted, run it again: it continues."
    )


def closing_lines(folder: Path, corpus: Corpus) -> list[str]:
    """What to open now, and what the numbers mean.

    Args:
        folder: Output of the quickstart.
        corpus: Its data.
    """
    meaning = (
        "The data are simulated: these numbers show that every part works here, and say nothing about real ECGs."
        if corpus.synthetic
        else "A few minutes on a small model: these numbers are a first look, not what the method can do."
    )
    return [
        f"Open {folder / 'report.html'}: figures and results by class, on one page.",
        "Pretraining helped where the interval of 'pretrained' lies above that of 'untrained', the same network with "
        "random weights. " + meaning,
        f"The model is in {folder / 'model'} (README.md is its card), all numbers in {folder / 'results.json'}. "
        "Next: ecg-hf pretrain and ecg-hf evaluate on data of your own; ecg-hf list datasets names what can be read.",
    ]


def _stages(say: Say, timings: dict[str, float]) -> Callable[[str, str], Any]:
    @contextmanager
    def stage(name: str, description: str) -> Iterator[None]:
        say(f"[{name}] {description}")
        started = time.perf_counter()
        yield
        timings[name] = round(time.perf_counter() - started, 2)

    return stage


def _publish(run: Path, target: Path) -> Path:
    """Copy what makes a model from the run's folder: no checkpoints, no logs, no arguments."""
    partial = temporary_name(target)
    partial.mkdir(parents=True)
    for file in model_files(run):
        shutil.copy2(file, partial / file.name)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)
    return target


def _write_card(
    spec: MethodSpec, corpus: Corpus, folder: Path, extractor: Any, trained: PretrainResult, results: Results
) -> None:
    model = AutoModelForPreTraining.from_pretrained(folder)
    training = {
        "records": f"{trained.records['train']} of {corpus.title}",
        "optimiser steps": str(trained.steps),
        "duration": f"{trained.seconds:.0f} s on {trained.processes} x {trained.device}",
        "versions": ", ".join(f"{name} {number}" for name, number in trained.versions.items()),
    }
    context = CardContext(
        model_name=f"{spec.name} quickstart ({corpus.source})",
        dataset=corpus.source,
        data_licence=get_source(corpus.source).info.licence,
        training=training,
        results=dict(results),
        synthetic=corpus.synthetic,
    )
    write_model_card(folder, model, extractor, context)
    write_json(folder.parent / "training.json", training)


def _summary(results: Results) -> list[str]:
    lines = []
    for row in results["summary"]:
        low, high = row["ci95"]
        labels = f"{row['fraction']:.0%} of labels ({row['n_train']} records)" if row["fraction"] else ""
        lines.append(
            f"  {row['encoder']:>10}  {row['head']}, {labels}: ".replace(", :", ":")
            + f"macro AUROC {_number(row['macro_auroc'])} [{_number(low)}, {_number(high)}]"
        )
    return lines


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
