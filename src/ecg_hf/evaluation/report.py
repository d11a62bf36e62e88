"""What an evaluation leaves behind for readers: JSON, CSV, a Markdown table, figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ecg_hf.evaluation.cache import write_text
from ecg_hf.evaluation.encoders import UNTRAINED
from ecg_hf.evaluation.evaluate import Evaluation
from ecg_hf.evaluation.results import Results, write_results
from ecg_hf.evaluation.robustness import CURVE_AXES, curve_points
from ecg_hf.evaluation.rows import probabilities
from ecg_hf.evaluation.tables import evaluation_markdown
from ecg_hf.metrics.calibration import reliability

__all__ = ["write_evaluation"]

CSV_COLUMNS = (
    "benchmark", "protocol", "encoder", "head", "solver", "fraction", "seed", "macro_auroc", "low", "high",
    "interval", "macro_auprc", "macro_ece", "macro_brier", "macro_auroc_unlearnt_at_chance", "n_train",
    "n_validation", "n_test", "resampled", "undefined", "cell",
)  # fmt: skip
MAP_POINTS = 3000
FIGURE_SEED = 0


def write_evaluation(folder: str | Path, evaluation: Evaluation, *, figures: bool = True) -> list[Path]:
    """Write ``results.json``, ``results.csv``, ``table.md`` and, if asked for, ``figures/*.png`` and ``*.svg``.

    Returns:
        The files, in that order.
    """
    target = Path(folder)
    results = evaluation.results
    write_results(target / "results.json", results)
    files = [
        target / "results.json",
        write_text(target / "results.csv", results_csv(results)),
        write_text(target / "table.md", evaluation_markdown(results)),
    ]
    if figures:
        files += _figures(target / "figures", evaluation)
    return files


def results_csv(results: Results) -> str:
    """One line per cell, empty where a value is undefined."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n", restval="")
    writer.writeheader()
    for row in results["probe"]:
        low, high = row["ci95"]
        content: dict[str, Any] = {
            **row,
            "low": low,
            "high": high,
            "undefined": " ".join(row.get("undefined", [])),
        }
        writer.writerow({name: "" if value is None else value for name, value in content.items()})
    return buffer.getvalue()


def _figures(folder: Path, evaluation: Evaluation) -> Iterator[Path]:
    from ecg_hf.evaluation.figures import plot_reliability, plot_results, plot_robustness, plot_roc
    from ecg_hf.plotting import categories_of, plot_embedding_map, save_figure

    for name, prepared in evaluation.prepared.items():
        cells = [cell for cell in evaluation.cells if cell.benchmark == name]
        scored = [cell for cell in cells if cell.result.scores is not None]
        drawn: dict[str, Any] = {}
        if any(row["benchmark"] == name for row in evaluation.results.get("summary", [])):
            drawn["bars"] = plot_results(evaluation.results, name)
        largest = max((cell.fraction for cell in scored), default=0.0)
        models = [model["name"] for model in evaluation.results.get("models", [])]
        encoders = dict.fromkeys(cell.encoder for cell in scored if cell.fraction == largest)
        told_apart = _told_apart(encoders, models)
        some = "" if len(told_apart) == len(encoders) else f"\n{len(told_apart)} of {len(encoders)} encoders"
        curves, heads = {}, {}
        for cell in scored:
            wanted = cell.fraction == largest and cell.encoder in told_apart
            if wanted and cell.encoder not in curves and cell.result.scores is not None:
                curves[cell.encoder], heads[cell.encoder] = cell.result.scores, cell.head
        if curves:
            reference = next(iter(curves.values()))
            if (reference.labels.any(axis=0) & ~reference.labels.all(axis=0)).any():
                drawn["roc"] = plot_roc(
                    reference.labels,
                    {encoder: one.scores for encoder, one in curves.items()},
                    reference.class_names,
                    title=f"{name}, " + (f"{largest:.0%} of labels" if largest else "zero-shot") + some,
                )
            calibrated = {
                encoder: reliability(one.labels[:, one.included], values[:, one.included])
                for encoder, one in curves.items()
                if (values := probabilities(heads[encoder], one.scores)) is not None
            }
            if calibrated:
                drawn["reliability"] = plot_reliability(
                    calibrated, title=f"{name}, {largest:.0%} of labels{some}"
                )
        for axis in CURVE_AXES:
            lines = {
                one["encoder"]: curve_points(one)
                for one in evaluation.results.get("curves", [])
                if (one["benchmark"], one["axis"]) == (name, axis)
            }
            if lines:
                chosen = _told_apart(lines, models)
                drawn[axis] = plot_robustness({encoder: lines[encoder] for encoder in chosen}, title=name)
        test = prepared.data.rows("test")
        if len(test) >= 4:
            features = evaluation.model[name].features("pooled", prepared.dataset, prepared.recordings)[test]
            labels = categories_of(prepared.data.labels[test], prepared.data.class_names, several=False)
            whose = f", {models[0]}" if len(models) > 1 else ""
            drawn["tsne"] = plot_embedding_map(
                features,
                labels,
                title=f"{name}: test records{whose}",
                max_points=MAP_POINTS,
                seed=FIGURE_SEED,
            )
        for kind, figure in drawn.items():
            for suffix in ("png", "svg"):
                yield save_figure(figure, folder / f"{name}-{kind}.{suffix}")


def _told_apart(encoders: Iterable[str], models: Sequence[str]) -> list[str]:
    """Encoders whose curves go into one picture: of several models not their untrained rows, and as many as colours.

    The results' own figure has them all.
    """
    from ecg_hf.plotting.style import PALETTE

    names = list(encoders)
    if len(models) > 1:
        names = [name for name in names if not name.endswith(f", {UNTRAINED}")]
    return names[: len(PALETTE)]
