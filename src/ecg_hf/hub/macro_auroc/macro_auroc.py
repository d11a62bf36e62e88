"""The scores as ``evaluate.Metric`` objects, for `Trainer.compute_metrics` and `evaluate.combine`.

Instantiated directly (``MacroAuroc().compute(...)``): nothing is downloaded, no script is loaded.
"""

from __future__ import annotations

from typing import Any, Literal

import datasets
import evaluate
import numpy as np

from ecg_hf.evaluation.heads.base import class_names_of
from ecg_hf.evaluation.heads.ridge import score_regression
from ecg_hf.evaluation.results import finite
from ecg_hf.evaluation.retrieval import DEFAULT_CUTOFFS, evaluate_retrieval
from ecg_hf.metrics.bootstrap import bootstrap_auroc
from ecg_hf.metrics.calibration import DEFAULT_BINS, assess_calibration
from ecg_hf.metrics.delong import paired_delong
from ecg_hf.metrics.intervals import DEFAULT_LEVEL, DEFAULT_RESAMPLES
from ecg_hf.metrics.ranking import score_classes

__all__ = [
    "CalibrationError",
    "MacroAuprc",
    "MacroAuroc",
    "PairedMacroAuroc",
    "RegressionError",
    "ReportRetrieval",
]

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


class PairedMacroAuroc(_MacroScore):
    """Difference of two models' macro AUROC with DeLong's interval and test; ``predictions`` are the first model's.

    ``compute`` takes the scores of the other model as ``second`` and returns ``difference``, ``ci_low``, ``ci_high``,
    ``p_value``, and by class ``differences`` and ``p_values`` (None where undefined).
    """

    score_name = "difference of two macro AUROCs"

    def _compute(
        self,
        predictions: Any,
        references: Any,
        second: Any,
        class_names: list[str] | None = None,
        groups: list[str] | None = None,
        level: float = DEFAULT_LEVEL,
    ) -> dict[str, Any]:
        labels = np.asarray(references)
        test = paired_delong(labels, np.asarray(predictions), np.asarray(second), groups=groups, level=level)
        names = class_names_of(class_names, labels.shape[1])
        return {
            "difference": finite(test.macro.estimate),
            "ci_low": finite(test.macro.low),
            "ci_high": finite(test.macro.high),
            "p_value": finite(test.macro_p_value),
            "differences": {n: finite(one.estimate) for n, one in zip(names, test.differences, strict=True)},
            "p_values": {n: finite(p) for n, p in zip(names, test.p_values.tolist(), strict=True)},
        }


class CalibrationError(_MacroScore):
    """Expected calibration error and Brier score; ``predictions`` are probabilities.

    ``compute`` returns ``macro_error``, ``micro_error``, ``macro_brier``, ``micro_brier``, ``error`` and ``brier`` by
    class.
    """

    score_name = "expected calibration error"

    def _compute(
        self,
        predictions: Any,
        references: Any,
        class_names: list[str] | None = None,
        bins: int = DEFAULT_BINS,
        binning: Literal["width", "mass"] = "width",
    ) -> dict[str, Any]:
        result = assess_calibration(
            np.asarray(references), np.asarray(predictions), class_names, bins=bins, binning=binning
        )
        return {
            "macro_error": finite(result.macro_error),
            "micro_error": finite(result.micro.error),
            "macro_brier": finite(result.macro_brier),
            "micro_brier": finite(result.micro_brier),
            "error": dict(zip(result.class_names, map(finite, result.error.tolist()), strict=True)),
            "brier": dict(zip(result.class_names, map(finite, result.brier.tolist()), strict=True)),
        }


class _RealPairs(evaluate.Metric):  # type: ignore[misc]
    """What metrics of two real matrices share."""

    score_name = ""

    def _info(self) -> evaluate.MetricInfo:
        row = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=self.score_name,
            citation="",
            inputs_description=self.__doc__ or "",
            features=datasets.Features({"predictions": row, "references": row}),
        )


class RegressionError(_RealPairs):
    """Mean absolute error, z-normalised and plain, and Spearman's correlation per target, with intervals.

    Args:
        predictions: Real (records, targets).
        references: True values, NaN where unknown.
        spread: Standard deviation of every target's training values; of the references by default.
        target_names: Names of the targets.
        n_resamples: Bootstrap resamples; 0 for no interval.
        groups: Patient of every record.
    """

    score_name = "mean absolute error and rank correlation"

    def _compute(
        self,
        predictions: Any,
        references: Any,
        spread: list[float] | None = None,
        target_names: list[str] | None = None,
        n_resamples: int = DEFAULT_RESAMPLES,
        groups: list[str] | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        truth = np.asarray(references, dtype=np.float64)
        scores = score_regression(
            truth,
            np.asarray(predictions),
            np.nanstd(truth, axis=0) if spread is None else spread,
            target_names,
            groups=groups,
            n_resamples=n_resamples,
            seed=seed,
        )
        return {
            one.name: {
                "n": one.n,
                **{
                    name: finite(interval.estimate)
                    for name, interval in (("mae", one.mae), ("z_mae", one.z_mae), ("spearman", one.spearman))
                },
                "mae_ci": [finite(limit) for limit in one.mae.limits],
                "z_mae_ci": [finite(limit) for limit in one.z_mae.limits],
                "spearman_ci": [finite(limit) for limit in one.spearman.limits],
            }
            for one in scores
        }


class ReportRetrieval(_RealPairs):
    """Retrieval of reports by ECGs and of ECGs by reports: recall at k and median rank.

    Args:
        predictions: ECG features (records, dim) of a dual encoder.
        references: Features of the records' reports, same shape.
        reports: Texts; equal ones count as hits.
        strict: Accept the record's own report alone.
        cutoffs: Numbers of candidates looked at.
        n_resamples: Bootstrap resamples; 0 for no interval.
    """

    score_name = "retrieval"

    def _compute(
        self,
        predictions: Any,
        references: Any,
        reports: list[str] | None = None,
        strict: bool = False,
        cutoffs: tuple[int, ...] = DEFAULT_CUTOFFS,
        n_resamples: int = DEFAULT_RESAMPLES,
        seed: int = 0,
    ) -> dict[str, Any]:
        return evaluate_retrieval(
            np.asarray(predictions),
            np.asarray(references),
            reports,
            strict=strict,
            cutoffs=cutoffs,
            n_resamples=n_resamples,
            seed=seed,
        ).as_dict()
