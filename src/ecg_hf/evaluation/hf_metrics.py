"""The scores as ``evaluate.Metric`` objects, for `Trainer.compute_metrics` and `evaluate.combine`.

Instantiated directly (``MacroAuroc().compute(...)``): nothing is downloaded, no script is loaded.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

from ecg_hf.evaluation.bootstrap import DEFAULT_LEVEL, DEFAULT_RESAMPLES, bootstrap_auroc
from ecg_hf.evaluation.metrics import score_classes
from ecg_hf.evaluation.results import finite

__all__ = ["MacroAuprc", "MacroAuroc"]

_DESCRIPTION = "Macro mean over the classes that are defined; the others are reported, with their counts."
_INPUTS = """
Args:
    predictions: Scores (records, classes); higher means more likely.
    references: 0/1 labels (records, classes).
    class_names: Names of the classes.
    n_resamples: Bootstrap resamples of the interval; 0 for no interval.
    groups: Patient of every record, to resample patients instead of records.
    level: Nominal coverage of the interval.
    seed: Seed of the resamples.
"""


class _MacroScore(evaluate.Metric):  # type: ignore[misc]
    """What both metrics share: their input and the counts they report."""

    score_name = ""

    def _info(self) -> evaluate.MetricInfo:
        row = datasets.Sequence(datasets.Value("float64"))
        labels = datasets.Sequence(datasets.Value("int32"))
        return evaluate.MetricInfo(
            description=f"{self.score_name}. {_DESCRIPTION}",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": row, "references": labels}),
        )


class MacroAuroc(_MacroScore):
    """Macro AUROC with its bootstrap interval.

    ``compute`` returns ``macro_auroc``, ``ci_low``, ``ci_high``, ``n``, ``positives`` and ``auroc`` by class and
    ``undefined``, the names of the classes left out.

    Example:
        >>> MacroAuroc().compute(predictions=scores, references=labels)["macro_auroc"]   # doctest: +SKIP
    """

    score_name = "macro AUROC"

    def _compute(
        self,
        predictions: Any,
        references: Any,
        class_names: list[str] | None = None,
        n_resamples: int = DEFAULT_RESAMPLES,
        groups: list[str] | None = None,
        level: float = DEFAULT_LEVEL,
        seed: int = 0,
    ) -> dict[str, Any]:
        scores, labels = np.asarray(predictions), np.asarray(references)
        result = score_classes(labels, scores, class_names)
        low = high = None
        if n_resamples:
            interval = bootstrap_auroc(
                labels, scores, groups=groups, n_resamples=n_resamples, level=level, seed=seed
            )
            low, high = finite(interval.macro.low), finite(interval.macro.high)
        return {
            "macro_auroc": result.macro_auroc,
            "ci_low": low,
            "ci_high": high,
            "n": result.n,
            "positives": result.positives,
            "auroc": {one.name: one.auroc for one in result.classes},
            "undefined": list(result.undefined),
        }


class MacroAuprc(_MacroScore):
    """Macro average precision, with every class's chance level (its share of positives)."""

    score_name = "macro average precision"

    def _compute(
        self, predictions: Any, references: Any, class_names: list[str] | None = None
    ) -> dict[str, Any]:
        result = score_classes(np.asarray(references), np.asarray(predictions), class_names)
        return {
            "macro_auprc": result.macro_auprc,
            "n": result.n,
            "positives": result.positives,
            "auprc": {one.name: one.auprc for one in result.classes},
            "chance": {one.name: one.positives / one.n for one in result.classes},
            "undefined": list(result.undefined),
        }
