"""The quickstart's figures and its one-page report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from datasets import Dataset
from matplotlib.figure import Figure

from ecg_hf.evaluation.benchmark_data import BenchmarkData
from ecg_hf.evaluation.figures import plot_results
from ecg_hf.evaluation.results import Results
from ecg_hf.plotting import categories_of, plot_ecg, plot_embedding_map, plot_losses, save_figure
from ecg_hf.quickstart.report import ReportFigure, write_report
from ecg_hf.quickstart.showcase import reconstruct_record, record_millivolts
from ecg_hf.training.training_log import read_training_log

__all__ = ["Pictured", "draw_report"]

LEARNT = 0.9
"""A reconstruction with a larger share of the error of predicting zero shows nothing and is not drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class Pictured:
    """What the report shows.

    Attributes:
        model: Pretraining model.
        processor: Its processor, or feature extractor.
        records: The built dataset.
        labels: Labels and splits.
        benchmark: Name of the benchmark evaluated.
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
    benchmark: str
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
    pages = [
        ReportFigure(
            drawn.title, save_figure(drawn.figure, folder / "figures" / f"{drawn.name}.png"), drawn.caption
        )
        for drawn in (*_record_pictures(shown, seed), *_run_pictures(folder, shown, seed))
    ]
    return write_report(
        folder / "report.html",
        shown.results,
        pages,
        title=f"Quickstart: {shown.title}",
        synthetic=shown.synthetic,
        facts=shown.facts,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """A figure with what the page says about it."""

    name: str
    title: str
    figure: Figure
    caption: str


def _record_pictures(shown: Pictured, seed: int) -> Iterator[_Drawn]:
    """A test record, and what the model made of its hidden patches if it has learnt to predict patches."""
    row = shown.records[int(shown.labels.rows("test")[0])]
    kind = "Synthetic record" if shown.synthetic else "Record"
    title = f"{kind} {row['record_id']}: {', '.join(row['labels'])}"
    extractor = getattr(shown.processor, "feature_extractor", shown.processor)
    yield _Drawn(
        "ecg",
        "A test record as usually printed",
        plot_ecg(
            record_millivolts(extractor, row["ecg"]),
            extractor.sampling_rate,
            extractor.lead_names,
            title=title,
        ),
        "25 mm/s and 10 mm/mV; a quarter of the time per lead, lead II below over the whole of it.",
    )
    example = reconstruct_record(shown.model, shown.processor, row, seed=seed)
    if example is None or example.masked_error_vs_zero > LEARNT:
        return
    yield _Drawn(
        "reconstruction",
        "The same record with what the model made of its hidden patches",
        plot_ecg(
            example.signal_mv,
            example.sampling_rate,
            example.lead_names,
            layout="rows",
            reconstruction=example.reconstruction_mv,
            patch_mask=example.hidden,
            title=title,
        ),
        f"{example.hidden.mean():.0%} of the patches were hidden. Squared error over them is "
        f"{example.masked_error_vs_zero:.3f} of that of predicting zero (1 means nothing learned). A standardised "
        "patch is shown at its true mean and spread: the shape is the model's, the level is not.",
    )


def _run_pictures(folder: Path, shown: Pictured, seed: int) -> Iterator[_Drawn]:
    """Losses, results and the map of embeddings."""
    yield _Drawn(
        "losses",
        "Losses during pretraining",
        plot_losses(read_training_log(folder / "pretraining" / "training_log.jsonl")),
        "Every term of the loss and what else the method measures, in training and on the validation records.",
    )
    yield _Drawn(
        "results",
        "Results",
        plot_results(shown.results, shown.benchmark, title=shown.title),
        "Macro AUROC on the test records with 95 % bootstrap intervals, pretrained beside the same architecture "
        "untrained.",
    )
    points = shown.labels.split != ""
    names = categories_of(shown.labels.labels[points], shown.labels.class_names, several=False)
    yield _Drawn(
        "tsne",
        "Embeddings",
        plot_embedding_map(shown.embeddings[points], names, title=shown.title, seed=seed),  # type: ignore[index]
        "t-SNE of the pretrained encoder's embeddings; a record with several labels is named after the rarest. "
        "Distances between clusters mean little.",
    )
