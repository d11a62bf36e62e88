"""From scores of a test set to the row of a results file, the same way for every head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from ecg_hf.evaluation.benchmark_data import LabelledSubset
from ecg_hf.evaluation.heads.base import Head, class_names_of
from ecg_hf.evaluation.heads.linear import LinearProbe
from ecg_hf.evaluation.results import ProbeRow, class_rows, finite
from ecg_hf.metrics.bootstrap import BootstrapResult, bootstrap_auroc
from ecg_hf.metrics.calibration import assess_calibration
from ecg_hf.metrics.intervals import DEFAULT_RESAMPLES, Interval
from ecg_hf.metrics.ranking import BoolArray, FloatArray, auroc, score_classes

__all__ = [
    "calibration_entries",
    "learnable",
    "probabilities",
    "score_embeddings",
    "scored_row",
    "unscored_row",
]

Labelled = tuple[npt.ArrayLike, npt.ArrayLike]

LOG_ODDS_HEADS = frozenset({"linear", "mlp", "attention", "finetune"})
PROBABILITY_HEADS = frozenset({"supervised"})


def learnable(train: BoolArray, validation: BoolArray | None = None) -> bool:
    """Whether some class has both label values in training records and, where there are any, in validation records.

    Args:
        train: bool ``(training records, classes)``.
        validation: bool ``(validation records, classes)``; ``None`` where nothing is chosen on them.
    """
    both = train.any(axis=0) & ~train.all(axis=0)
    if validation is not None:
        both &= validation.any(axis=0) & ~validation.all(axis=0)
    return bool(both.any())


def scored_row(
    truth: BoolArray,
    scores: FloatArray,
    class_names: Sequence[str],
    unfitted: Mapping[str, str],
    subset: LabelledSubset | None,
    *,
    patients: Sequence[str | None] | None,
    n_resamples: int,
    seed: int,
) -> tuple[ProbeRow, BootstrapResult]:
    """Row of a scored test set, without the fields that say whose it is.

    Args:
        truth: bool ``(test records, classes)``.
        scores: float64, same shape.
        class_names: Names of the classes.
        unfitted: Class name -> why it could not be learnt; these take no part in the macro mean.
        subset: What was trained on; ``None`` without training, which is fraction 0.
        patients: Patient of every test record, to resample patients.
        n_resamples: Bootstrap resamples.
        seed: Seed of the resamples.

    Returns:
        The row, and the bootstrap its intervals are from.
    """
    include = np.array([name not in unfitted for name in class_names])
    score = score_classes(truth, scores, class_names, excluded=dict(unfitted))
    interval = bootstrap_auroc(
        truth, scores, groups=patients, include=include, n_resamples=n_resamples, seed=seed
    )
    # What a constant output scores, wherever the test set defines a score at all.
    areas = auroc(truth, np.where(include, scores, 0.0))
    at_chance = float(np.nanmean(areas)) if np.isfinite(areas).any() else None
    train_positives = None
    if subset is not None:
        train_positives = dict(zip(class_names, (int(p) for p in subset.positives), strict=True))
    row = ProbeRow(
        encoder="",
        fraction=0.0 if subset is None else subset.fraction,
        macro_auroc=score.macro_auroc,
        ci95=[finite(interval.macro.low), finite(interval.macro.high)],
        n_train=0 if subset is None else subset.n,
        n_test=score.n,
        positives=score.positives,
        macro_auroc_unlearnt_at_chance=at_chance,
        macro_auprc=score.macro_auprc,
        interval=interval.method,
        resampled=interval.unit,
        undefined=list(score.undefined),
        classes=class_rows(score, interval.classes, train_positives, interval.class_methods),
    )
    return row, interval


def probabilities(head: str, scores: FloatArray) -> FloatArray | None:
    """Scores of a head as probabilities; ``None`` where they are similarities, which are none.

    Args:
        head: Name of the head.
        scores: Its log-odds or probabilities, any shape.
    """
    if head in LOG_ODDS_HEADS:
        return np.asarray(expit(scores))
    return scores if head in PROBABILITY_HEADS else None


def calibration_entries(
    head: str, truth: BoolArray, scores: FloatArray, included: BoolArray
) -> dict[str, float | None]:
    """Expected calibration error and Brier score of the classes that could be learnt; nothing for similarities.

    Args:
        head: Name of the head the scores are of.
        truth: bool ``(test records, classes)``.
        scores: float64, same shape.
        included: bool ``(classes,)``.
    """
    values = probabilities(head, scores)
    if values is None or not included.any():
        return {}
    found = assess_calibration(truth[:, included], values[:, included])
    return {"macro_ece": finite(found.macro_error), "macro_brier": finite(found.macro_brier)}


def unscored_row(
    truth: BoolArray, class_names: Sequence[str], subset: LabelledSubset, n_validation: int
) -> ProbeRow:
    """The row of a fraction too small to learn anything from: no score, and every class says why."""
    reason = (
        f"{subset.n} training and {n_validation} validation records are too few to fit and choose a probe"
    )
    score = score_classes(
        truth, np.zeros(truth.shape), class_names, excluded=dict.fromkeys(class_names, reason)
    )
    nothing = [Interval(np.nan, np.nan, np.nan)] * len(class_names)
    return ProbeRow(
        encoder="",
        fraction=subset.fraction,
        macro_auroc=None,
        ci95=[None, None],
        n_train=subset.n,
        n_test=len(truth),
        positives=score.positives,
        n_validation=n_validation,
        undefined=list(class_names),
        classes=class_rows(score, nothing),
    )


def score_embeddings(
    train: Labelled,
    validation: Labelled | None,
    test: Labelled,
    *,
    class_names: Sequence[str] | None = None,
    patients: Sequence[str | None] | None = None,
    head: Head | None = None,
    n_resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> ProbeRow:
    """Fit a head to embeddings and score it as an evaluation does, with intervals.

    Args:
        train: Embeddings ``(records, dim)`` and labels 0 or 1 ``(records, classes)``.
        validation: The same, to choose settings on; ``None`` for a head that chooses nothing.
        test: The same, scored.
        class_names: Names of the classes; ``class_0``... by default.
        patients: Patient of every test record, to resample patients.
        head: Fitted to ``train``; a :class:`~ecg_hf.evaluation.LinearProbe` by default.
        n_resamples: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        A row of a results file, without the names of encoder and benchmark.

    Raises:
        ConfigurationError: if shapes do not fit, or no class can be learnt or chosen on.
    """
    labels, truth = np.asarray(train[1], dtype=bool), np.asarray(test[1], dtype=bool)
    names = class_names_of(class_names, truth.shape[-1])
    fitted = (head or LinearProbe()).fit(*train, *(validation or (None, None)), class_names=names)
    everything = LabelledSubset(1.0, np.arange(len(labels)), labels.sum(axis=0))
    row, _ = scored_row(
        truth, fitted.decision_function(test[0]), names, fitted.unfitted, everything,
        patients=patients, n_resamples=n_resamples, seed=seed,
    )  # fmt: skip
    return row
