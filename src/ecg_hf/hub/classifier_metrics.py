"""Figures of a fine-tuned classifier: what ``metrics.json`` holds, and how a card tells it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np
from huggingface_hub import EvalResult

from ecg_hf.documents import Count, Share
from ecg_hf.escaping import markdown_text
from ecg_hf.evaluation import bootstrap_auroc, score_classes
from ecg_hf.evaluation.results import finite

if TYPE_CHECKING:
    from ecg_hf.training.finetuning_run import FineTuneResult, HeldOut

__all__ = [
    "ClassFigures",
    "ClassifierMetrics",
    "SplitFigures",
    "classifier_metrics",
    "index_entry",
    "result_text",
]


class ClassFigures(TypedDict):
    """One class on the records of a split; null where a figure is undefined.

    ``ci95`` is the interval of ``auroc``; ``f1``, ``sensitivity`` and ``specificity`` are those at ``threshold``.
    """

    label: str
    name: str
    n: Count
    positives: Count
    train_positives: Count
    auroc: Share | None
    ci95: list[Share | None]
    auprc: Share | None
    threshold: Share | None
    f1: Share | None
    sensitivity: Share | None
    specificity: Share | None
    excluded: str


class SplitFigures(TypedDict):
    """All classes on the records of a split, and their macro mean; ``resampled`` says what the interval is over."""

    n: Count
    macro_auroc: Share | None
    ci95: list[Share | None]
    macro_auprc: Share | None
    interval: str
    resampled: str
    classes: list[ClassFigures]
    accuracy: NotRequired[Share]


class ClassifierMetrics(TypedDict):
    """A classifier, what it was trained on, and its figures; ``test`` is null where there were no test records."""

    labels: list[str]
    labels_from: str
    one_label: bool
    started_from: str
    from_scratch: bool
    fraction: Share
    records: dict[str, Count]
    left_out: dict[str, Count]
    notes: list[str]
    validation: SplitFigures
    test: SplitFigures | None


def classifier_metrics(result: FineTuneResult) -> ClassifierMetrics:
    """Figures of a classifier on its validation and test records.

    Intervals are those of :func:`ecg_hf.evaluation.bootstrap_auroc`: over patients where they are known, widened for
    classes of few records. The validation records chose epoch and thresholds, so their figures flatter.
    """
    return ClassifierMetrics(
        labels=list(result.labels),
        labels_from=result.labels_from,
        one_label=result.one_label,
        started_from=result.model,
        from_scratch=result.from_scratch,
        fraction=result.fraction,
        records=result.records,
        left_out=result.left_out,
        notes=list(result.notes),
        validation=_split_figures(result, result.held_out["validation"]),
        test=_split_figures(result, result.held_out["test"]) if "test" in result.held_out else None,
    )


def _split_figures(result: FineTuneResult, held_out: HeldOut) -> SplitFigures:
    trained = result.positives["train"]
    excluded = {name: "no training record" for name in result.labels if trained[name] == 0}
    patients = held_out.patients if any(held_out.patients) else None
    score = score_classes(held_out.truth, held_out.probabilities, result.labels, excluded=excluded)
    interval = bootstrap_auroc(
        held_out.truth,
        held_out.probabilities,
        groups=patients,
        include=np.array([name not in excluded for name in result.labels]),
    )
    classes = []
    for column, one in enumerate(score.classes):
        limits = interval.classes[column]
        threshold = result.details[one.name]["threshold"]
        f1, sensitivity, specificity = _at(
            threshold, held_out.truth[:, column], held_out.probabilities[:, column]
        )
        classes.append(
            ClassFigures(
                label=one.name,
                name=result.details[one.name]["name"],
                n=one.n,
                positives=one.positives,
                train_positives=trained[one.name],
                auroc=finite(one.auroc),
                ci95=[None if one.auroc is None else finite(limit) for limit in (limits.low, limits.high)],
                auprc=finite(one.auprc),
                threshold=threshold,
                f1=f1,
                sensitivity=sensitivity,
                specificity=specificity,
                excluded=one.excluded,
            )
        )
    figures = SplitFigures(
        n=score.n,
        macro_auroc=finite(score.macro_auroc),
        ci95=[finite(interval.macro.low), finite(interval.macro.high)],
        macro_auprc=finite(score.macro_auprc),
        interval=interval.method,
        resampled=interval.unit,
        classes=classes,
    )
    if result.one_label:
        right = held_out.truth[np.arange(score.n), held_out.probabilities.argmax(axis=1)]
        figures["accuracy"] = float(right.mean())
    return figures


def _at(threshold: float | None, truth: Any, probabilities: Any) -> tuple[float | None, ...]:
    """F1 score, sensitivity and specificity at a threshold; None where undefined."""
    if threshold is None:
        return None, None, None
    said = probabilities >= threshold
    hits, right_no = int((said & truth).sum()), int((~said & ~truth).sum())
    positives, negatives, called = int(truth.sum()), int((~truth).sum()), int(said.sum())
    return (
        2 * hits / (positives + called) if positives + called else None,
        hits / positives if positives else None,
        right_no / negatives if negatives else None,
    )


def result_text(metrics: ClassifierMetrics) -> str:
    """Figures of a classifier as Markdown, for its card."""
    parts = []
    for split, title in (("test", "Test records"), ("validation", "Validation records")):
        figures: SplitFigures | None = metrics[split]  # type: ignore[literal-required]
        if figures is not None:
            parts.append(_split_text(figures, title))
    parts.append(
        "Intervals are 95 % intervals of the area under the ROC curve, over patients where they are known. A label "
        "counts as present from its threshold, which has the best F1 score on the validation records; these chose "
        "the epoch too, so their figures flatter."
    )
    if metrics["notes"]:
        parts.append("\n".join(f"- {markdown_text(note)}" for note in metrics["notes"]))
    return "\n\n".join(parts)


def _split_text(figures: SplitFigures, title: str) -> str:
    accuracy = f", accuracy {figures['accuracy']:.3f}" if "accuracy" in figures else ""
    lines = [
        f"{title}: {figures['n']:,}, macro AUROC {_with_interval(figures['macro_auroc'], figures['ci95'])}{accuracy}",
        "",
        "| label | name | n | positives | in training | AUROC | average precision | threshold | F1 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {markdown_text(row['label'])} | {markdown_text(row['name'])} | {row['n']:,} | {row['positives']:,} | "
        f"{row['train_positives']:,} | {_with_interval(row['auroc'], row['ci95'])} | {_number(row['auprc'])} | "
        f"{_number(row['threshold'])} | {_number(row['f1'])} |"
        for row in figures["classes"]
    ]
    return "\n".join(lines)


def _with_interval(value: float | None, limits: Sequence[float | None]) -> str:
    if value is None:
        return "undefined"
    return f"{value:.3f} [{_number(limits[0])}, {_number(limits[1])}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def index_entry(metrics: ClassifierMetrics, dataset: str) -> list[EvalResult]:
    """The test figure of a classifier for the ``model-index``; nothing where there was no test."""
    figures = metrics["test"]
    if figures is None or figures["macro_auroc"] is None:
        return []
    return [
        EvalResult(
            task_type="ecg-classification",
            task_name="ECG classification",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_config=metrics["labels_from"],
            dataset_split="test",
            metric_type="roc_auc",
            metric_name="macro AUROC, fine-tuned",
            metric_value=round(figures["macro_auroc"], 4),
            metric_args={
                "ci95": [None if limit is None else round(limit, 4) for limit in figures["ci95"]],
                "n_test": figures["n"],
            },
        )
    ]
