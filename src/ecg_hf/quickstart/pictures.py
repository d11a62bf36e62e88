"""The quickstart's figures and its one-page report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from datasets import Dataset
from matplotlib.figure import Figure

from ecg_hf.evaluation.benchmarks import BenchmarkData
from ecg_hf.evaluation.plotting import (
    categories_of,
    plot_ecg,
    plot_embedding_map,
    plot_losses,
    plot_results,
    save_figure,
)
from ecg_hf.evaluation.results import Results
from ecg_hf.quickstart.report import ReportFigure, write_report
from ecg_hf.quickstart.showcase import reconstruct_record
from ecg_hf.training.training_log import read_training_log

__all__ = ["Pictured", "draw_report"]


@dataclass(frozen=True, slots=True, eq=False)
class Pictured:
    """What the report shows.

    Attributes:
        model: Pretraining model.
        processor: Its processor, or feature extractor.
        records: The built dataset.
        labels: Labels and splits.
        embeddings: Pretrained encoder's, ``(records, dim)``.
        results: Content of ``results.json``.
        facts: Short facts for the top of the page.
        synthetic: Whether all data is simulated.
        title: What the data is.
    """

    model: Any
    processor: Any
    records: Dataset
    labels: BenchmarkData
    embeddings: npt.ArrayLike
    results: Results
    facts: Mapping[str, object]
    synthetic: bool
    title: str


def draw_report(folder: Path, shown: Pictured, *, seed: int = 0) -> Path:
    """Draw every figure into ``folder/figures`` and write ``folder/report.html``.

    Args:
        folder: The quickstart's folder; ``pretraining/training_log.jsonl`` is read.
        shown: What to show.
        seed: Seed of the hidden patches and of the map.
    """
    figures = folder / "figures"
    kind = "Synthetic record" if shown.synthetic else "Record"
    test = shown.labels.rows("test")
    row = shown.records[int(test[0])]
    example = reconstruct_record(shown.model, shown.processor, row, seed=seed)
    share = example.hidden.mean()
    signal = plot_ecg(
        example.signal_mv,
        example.sampling_rate,
        example.lead_names,
        layout="rows",
        reconstruction=example.reconstruction_mv,
        patch_mask=example.hidden,
        title=f"{kind} {row['record_id']}: {', '.join(row['labels'])}",
    )
    usual = plot_ecg(
        example.signal_mv,
        example.sampling_rate,
        example.lead_names,
        title=f"{kind} {row['record_id']}: {', '.join(row['labels'])}",
    )
    rows = read_training_log(folder / "pretraining" / "training_log.jsonl")
    points = shown.labels.split != ""
    names = categories_of(shown.labels.labels[points], shown.labels.class_names, several=False)
    drawn: list[tuple[str, str, Figure, str]] = [
        (
            "ecg",
            "A test record as usually printed",
            usual,
            "25 mm/s and 10 mm/mV; a quarter of the time per lead, lead II below over the whole of it.",
        ),
        (
            "reconstruction",
            "The same record with what the model made of its hidden patches",
            signal,
            f"{share:.0%} of the patches were hidden. Squared error over them is {example.masked_error_vs_zero:.3f} "
            "of that of predicting zero (1 means nothing learned). A standardised patch is shown at its true mean "
            "and spread: the shape is the model's, the level is not.",
        ),
        (
            "losses",
            "Losses during pretraining",
            plot_losses(rows),
            "Every term of the loss, in training and on the validation records; the masked error is relative to "
            "predicting zero.",
        ),
        (
            "results",
            "Linear probes and zero-shot",
            plot_results(shown.results, title=shown.title),
            "Macro AUROC on the test records with 95 % bootstrap intervals, pretrained beside the same architecture "
            "untrained.",
        ),
        (
            "tsne",
            "Embeddings",
            plot_embedding_map(shown.embeddings[points], names, title=shown.title, seed=seed),  # type: ignore[index]
            "t-SNE of the pretrained encoder's embeddings; a record with several labels is named after the rarest. "
            "Distances between clusters mean little.",
        ),
    ]
    pages = []
    for name, title, figure, caption in drawn:
        pages.append(ReportFigure(title, save_figure(figure, figures / f"{name}.png"), caption))
    return write_report(
        folder / "report.html",
        shown.results,
        pages,
        title=f"Quickstart: {shown.title}",
        synthetic=shown.synthetic,
        facts=shown.facts,
    )
