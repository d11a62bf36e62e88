"""Macro AUROC as a metric of the ``evaluate`` library, for a ``Trainer`` of one's own.

``evaluate.load`` copies this file and takes the first metric class in it, so that it holds one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from ecg_hf.evaluation.results import finite
from ecg_hf.metrics.bootstrap import bootstrap_auroc
from ecg_hf.metrics.intervals import DEFAULT_LEVEL, DEFAULT_RESAMPLES
from ecg_hf.metrics.ranking import score_classes

__all__ = ["MacroAuroc"]

_INPUTS = """
Args:
    predictions: Scores (records, classes); higher means more likely.
    references: 0/1 labels (records, classes).
    class_names: Names of the classes.
    groups: Patient of every record, to resample patients instead of records.
    n_resamples: Bootstrap resamples of the interval; 0 for no interval.
    level: Nominal coverage of the interval.
    seed: Seed of the resamples.
"""


class MacroAuroc(evaluate.Metric):  # type: ignore[misc]
    """Macro AUROC with its interval, macro average precision, and both by class.

    ``compute`` returns ``macro_auroc``, ``ci_low`` and ``ci_high`` (None without an interval), ``interval``
    (``"percentile"``, or ``"floored"`` where a class has few records) and ``resampled`` (``"records"`` or
    ``"patients"``); ``macro_auprc``; ``n``; ``positives``, ``auroc`` and ``auprc`` by class; and ``undefined``, the
    classes left out of the means for want of a positive or a negative record.

    Example:
        >>> metric = evaluate.load(ecg_hf.hub.MACRO_AUROC)                                     # doctest: +SKIP
        >>> metric.compute(predictions=scores, references=labels)["macro_auroc"]               # doctest: +SKIP
    """

    def _info(self) -> evaluate.MetricInfo:
        scores = datasets.Sequence(datasets.Value("float64"))
        labels = datasets.Sequence(datasets.Value("int32"))
        return evaluate.MetricInfo(
            description="Mean area under the ROC curve over the classes where it is defined, with an interval.",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": scores, "references": labels}),
        )

    def _compute(
        self,
        predictions: Any,
        references: Any,
        class_names: Sequence[str] | None = None,
        groups: Sequence[object] | None = None,
        n_resamples: int = DEFAULT_RESAMPLES,
        level: float = DEFAULT_LEVEL,
        seed: int = 0,
    ) -> dict[str, Any]:
        labels, scores = np.asarray(references), np.asarray(predictions)
        result = score_classes(labels, scores, class_names)
        figures: dict[str, Any] = {
            "macro_auroc": result.macro_auroc,
            "ci_low": None,
            "ci_high": None,
            "interval": None,
            "resampled": None,
            "macro_auprc": result.macro_auprc,
            "n": result.n,
            "positives": result.positives,
            "auroc": {one.name: one.auroc for one in result.classes},
            "auprc": {one.name: one.auprc for one in result.classes},
            "undefined": list(result.undefined),
        }
        if n_resamples:
            found = bootstrap_auroc(
                labels, scores, groups=groups, n_resamples=n_resamples, level=level, seed=seed
            )
            figures["ci_low"], figures["ci_high"] = finite(found.macro.low), finite(found.macro.high)
            figures["interval"], figures["resampled"] = found.method, found.unit
        return figures
