"""``ecg-hf finetune``: a classifier from a pretrained model and a dataset with labels."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ecg_hf.cli.output import echo, print_json, quiet_libraries
from ecg_hf.cli.pretrain import Overwrite, Resume, parse_overrides
from ecg_hf.errors import ConfigurationError

if TYPE_CHECKING:
    from ecg_hf.hub.classifier_metrics import ClassifierMetrics, SplitFigures

__all__ = ["finetune_command", "label_options"]


def finetune_command(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="Pretrained model: a folder, Hub repository or shipped name.")],
    dataset: Annotated[
        Path,
        typer.Option(
            help="Built dataset, Parquet export, or one of these saved again with more columns. Its column 'split' "
            "says what trains, validates and tests, unless folds are given."
        ),
    ],
    labels: Annotated[
        str,
        typer.Option(
            help="A column: whole numbers or text for one label per record, lists for several. Or a benchmark, such "
            "as ptbxl-super, with its folds."
        ),
    ],
    output: Annotated[Path, typer.Option(help="The classifier's folder.")],
    train_folds: Annotated[str | None, typer.Option(help="Folds to train on, e.g. 1-8.")] = None,
    validation_folds: Annotated[
        str | None, typer.Option(help="Folds the epoch and the thresholds are chosen on.")
    ] = None,
    test_folds: Annotated[str | None, typer.Option(help="Folds scored once, at the end.")] = None,
    fraction: Annotated[float, typer.Option(help="Share of the labelled training records to use.")] = 1.0,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Start from random weights: the baseline.")
    ] = False,
    class_weights: Annotated[
        Literal["none", "balanced"] | None,
        typer.Option(help="balanced: rare labels weigh as much as common ones in the loss."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the new head, the order of records, the fraction.")
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Fine-tune all weights for a classification task.

    The epoch with the best macro AUROC on validation records is kept. OUTPUT is the model folder, with a card and
    metrics.json (every class's scores with intervals); pipeline("ecg-classification", model=OUTPUT) loads it. Any
    training argument and any field of the model's configuration is an option too: --learning-rate 1e-4
    --num-train-epochs 30 --early-stopping-patience 10 --layer-decay 0.75 --classifier-pooling attention.
    """
    from ecg_hf.cli.loading import load_config
    from ecg_hf.hub.fetching import resolve_model
    from ecg_hf.training import EcgFineTuningArguments, finetune

    model = resolve_model(model)
    training, options = parse_overrides(context.args, load_config(model).model_type, EcgFineTuningArguments)
    quiet_libraries()
    from ecg_hf.hub import document_classifier

    for name, value in (("class_weights", class_weights), ("seed", seed)):
        if value is not None:
            training[name] = value
    folds = {"train_folds": train_folds, "validation_folds": validation_folds, "test_folds": test_folds}
    # The trainer prints its log lines on standard output, which belongs to the answer.
    training.setdefault("disable_tqdm", False)
    with contextlib.redirect_stdout(sys.stderr):
        result = finetune(
            model,
            dataset,
            output,
            **label_options(labels, dataset, folds),
            fraction=fraction,
            from_scratch=from_scratch,
            model_options=options,
            resume=resume,
            overwrite=overwrite,
            **training,
        )
        if not result.main_process:
            return
        metrics = document_classifier(result)
    if as_json:
        print_json(metrics)
    else:
        echo(_summary(metrics, output))


def label_options(labels: str, dataset: Path, folds: dict[str, str | None]) -> dict[str, Any]:
    """Options of :func:`ecg_hf.training.finetune` that say which labels to learn from which records.

    Args:
        labels: A column of the dataset, a benchmark or a label group; a column comes first.
        dataset: The dataset's folder.
        folds: Folds that were asked for, None where none were.

    Raises:
        EcgError: if the dataset can't be opened or has no such labels.
    """
    from ecg_hf.data.label_columns import is_label_group
    from ecg_hf.data.opening import open_rows
    from ecg_hf.evaluation import BENCHMARKS

    given = {name: value for name, value in folds.items() if value is not None}
    rows = open_rows(dataset)
    columns = rows.column_names
    if labels in columns or (labels not in BENCHMARKS and is_label_group(labels)):
        return {"labels": labels, **given}
    if labels not in BENCHMARKS:
        raise ConfigurationError(
            f"no column and no benchmark {labels!r} (columns: {', '.join(columns)}; benchmarks: "
            f"{', '.join(name for name, one in BENCHMARKS.items() if one.task)})",
            value=labels,
        )
    benchmark = BENCHMARKS[labels]
    if not benchmark.task:
        raise ConfigurationError(f"{labels} has no labels to classify by", value=labels)
    sources = sorted(set(rows.unique("source"))) if "source" in columns else []
    if sources != [benchmark.dataset]:
        found = ", ".join(map(str, sources)) or "an unknown source"
        echo(f"{labels} is defined on {benchmark.dataset}; these records are from {found}", err=True)
    return {
        "labels": benchmark.task,
        "present_only": benchmark.present_only,
        "subset": benchmark.subset,
        **{name: getattr(benchmark, name) for name in folds},
        **given,
    }


def _summary(metrics: ClassifierMetrics, output: Path) -> str:
    lines = [f"classifier of {len(metrics['labels'])} labels in {output}"]
    for split in ("validation", "test"):
        figures: SplitFigures | None = metrics[split]  # type: ignore[literal-required]
        if figures is not None:
            value = figures["macro_auroc"]
            low, high = ("-" if limit is None else f"{limit:.3f}" for limit in figures["ci95"])
            score = "undefined" if value is None else f"{value:.4f} [{low}, {high}]"
            lines.append(f"{split:<10} macro AUROC {score}, {figures['n']:,} records")
    return "\n".join(lines)
