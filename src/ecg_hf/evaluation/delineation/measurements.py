"""Heart rate, PR, QRS duration, QT and QTc: from delineations, and read back from frozen embeddings.

Intervals are taken beat by beat in each lead; the value of a recording is the median over its leads of the median
over a lead's beats. The clinical *global* intervals, from the earliest onset to the latest end over all leads, are
longer: by 30 ms for QRS and 37 ms for QT in 40 recordings of LUDB (medians). Compare these numbers with each other
and not with a cardiograph's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import patient_folds
from ecg_hf.evaluation.cache import CellStore, plain
from ecg_hf.evaluation.delineation.annotations import AnnotatedRecord, Delineation, WaveTimes
from ecg_hf.evaluation.delineation.benchmark import annotated_depends
from ecg_hf.evaluation.encoders import Encoder, ModelEntrant, untrained_copy
from ecg_hf.evaluation.features.pooled import embed_dataset
from ecg_hf.evaluation.heads.ridge import RegressionHead, TargetScore, score_regression
from ecg_hf.evaluation.plan import EvaluationPlan
from ecg_hf.signal.beats.heartbeats import heart_rate_bpm

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import nn

__all__ = [
    "MEASUREMENTS",
    "MeasurementReport",
    "MeasurementTask",
    "cross_validated_regression",
    "heart_rate_targets",
    "measure",
    "measurement_targets",
    "qtc_bazett",
    "qtc_fridericia",
    "run_measurements",
]

FloatArray = npt.NDArray[np.float64]

MEASUREMENTS: dict[str, str] = {
    "heart_rate": "1/min",
    "pr_interval": "ms",
    "qrs_duration": "ms",
    "qt_interval": "ms",
    "qtc_bazett": "ms",
    "qtc_fridericia": "ms",
}
"""Measurement -> unit."""

LONGEST_PR_MS = 500.0
"""A P wave that begins earlier before a QRS complex is not taken to have led to it."""


def qtc_bazett(qt_ms: float, rr_ms: float) -> float:
    """QT corrected for rate, ms: ``QT / sqrt(RR / 1 s)`` (Bazett 1920)."""
    return float(qt_ms / np.sqrt(rr_ms / 1000.0))


def qtc_fridericia(qt_ms: float, rr_ms: float) -> float:
    """QT corrected for rate, ms: ``QT / (RR / 1 s)^(1/3)`` (Fridericia 1920)."""
    return float(qt_ms / np.cbrt(rr_ms / 1000.0))


def measure(delineation: Delineation, leads: Sequence[str] | None = None) -> dict[str, float]:
    """Measurements of one recording.

    In each lead, the P wave of a beat is the last one that begins between the previous QRS complex and this one, no
    more than :data:`LONGEST_PR_MS` before it; the T wave is the first one that ends between this complex and the
    next. A beat without P or T, or without the boundary in question, adds nothing to that interval. RR is the median
    interval of QRS peaks, so one missed beat changes little.

    Args:
        delineation: Waves of every lead, annotated or predicted.
        leads: Leads to use; all of ``delineation`` by default.

    Returns:
        Every key of :data:`MEASUREMENTS`, in its unit; NaN where nothing could be measured (PR in atrial
        fibrillation).
    """
    chosen = list(delineation) if leads is None else leads
    parts = np.array([_measure_lead(delineation.get(lead, {})) for lead in chosen]).reshape(-1, 4)
    rr, pr, qrs, qt = (_median(column) for column in parts.T)
    return {
        "heart_rate": 60_000.0 / rr,
        "pr_interval": pr,
        "qrs_duration": qrs,
        "qt_interval": qt,
        "qtc_bazett": qtc_bazett(qt, rr),
        "qtc_fridericia": qtc_fridericia(qt, rr),
    }


def _measure_lead(waves: Mapping[str, WaveTimes]) -> tuple[float, float, float, float]:
    """Medians over the beats of one lead: RR, PR, QRS, QT in ms."""
    if "QRS" not in waves or not len(waves["QRS"]):
        return (np.nan,) * 4
    qrs = waves["QRS"]
    rr = _median(np.diff(qrs.peak))
    pr, qt = [], []
    # NaN compares as false: a beat without onset has no PR and no QT.
    previous = np.concatenate([[-np.inf], qrs.peak[:-1]])
    following = np.concatenate([qrs.peak[1:], [np.inf]])
    if "P" in waves:
        onsets = waves["P"].onset
        for onset, before in zip(qrs.onset, previous, strict=True):
            led = onsets[(onsets < onset) & (onsets > before) & (onset - onsets <= LONGEST_PR_MS)]
            if led.size:
                pr.append(onset - led.max())
    if "T" in waves:
        ends = waves["T"].offset
        for onset, peak, after in zip(qrs.onset, qrs.peak, following, strict=True):
            later = ends[(ends > peak) & (ends < after)]
            if later.size:
                qt.append(later.min() - onset)
    return rr, _median(np.array(pr)), _median(qrs.offset - qrs.onset), _median(np.array(qt))


def _median(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def measurement_targets(
    records: Sequence[AnnotatedRecord], leads: Sequence[str] | None = None
) -> tuple[tuple[str, ...], FloatArray]:
    """True measurements of annotated recordings, such as those of LUDB.

    Returns:
        Names, and float64 ``(records, measurements)`` in the units of :data:`MEASUREMENTS`, NaN where there is none.
    """
    rows = [list(measure(one.delineation, leads).values()) for one in records]
    return tuple(MEASUREMENTS), np.array(rows, dtype=np.float64).reshape(len(rows), len(MEASUREMENTS))


def heart_rate_targets(dataset: Dataset, column: str = "ecg") -> FloatArray:
    """Heart rate of a built dataset's rows from their stored R peaks.

    Args:
        dataset: Dataset with a column ``r_peaks`` (samples at the stored rate).
        column: Name of the ECG column.

    Returns:
        float64 ``(records, 1)``: beats per minute by the median interval; NaN for fewer than two peaks.

    Raises:
        ConfigurationError: if there are no peaks.
    """
    missing = [name for name in ("r_peaks", column) if name not in dataset.column_names]
    if missing:
        raise ConfigurationError(f"the dataset has no column {', '.join(missing)}", value=tuple(missing))
    rates: list[float] = []
    for table in dataset.select_columns([column, "r_peaks"]).with_format("arrow").iter(batch_size=256):
        stored = table.column(column).combine_chunks().field("sampling_rate").to_pylist()
        for rate, peaks in zip(stored, table.column("r_peaks").to_pylist(), strict=True):
            found = heart_rate_bpm(np.asarray(peaks or [], dtype=np.int64), float(rate))
            rates.append(np.nan if found is None else found)
    if not np.isfinite(rates).any():
        raise ConfigurationError("no row of the dataset has two R peaks")
    return np.array(rates)[:, None]


@dataclass(frozen=True, slots=True)
class MeasurementReport:
    """How well measurements are read from embeddings.

    Attributes:
        names: Measurements.
        targets: float64 ``(records, measurements)``, NaN where unknown.
        predictions: Who -> the same from out-of-fold heads.
        scores: Who -> scores; ``z_mae`` is in standard deviations over all records. ``"training mean"``, the mean of
            all other folds, is the row of no information. Its rank correlation is negative by construction: the
            mean of the others is low where a fold is high.
    """

    names: tuple[str, ...]
    targets: FloatArray
    predictions: Mapping[str, FloatArray]
    scores: Mapping[str, tuple[TargetScore, ...]]

    def markdown(self) -> str:
        """A table for a reader."""
        lines = ["| | measurement | records | MAE | MAE / SD | Spearman |", "|---|---|---:|---:|---:|---:|"]
        for who, scores in self.scores.items():
            for score in scores:
                unit = MEASUREMENTS.get(score.name, "")
                cells = (
                    f"{part.estimate:{form}} ({part.low:{form}}, {part.high:{form}})"
                    for part, form in ((score.mae, ".1f"), (score.z_mae, ".2f"), (score.spearman, ".2f"))
                )
                lines.append(f"| {who} | {score.name} ({unit}) | {score.n} | {' | '.join(cells)} |")
        return "\n".join(lines)


def cross_validated_regression(
    features: npt.ArrayLike,
    targets: FloatArray,
    folds: npt.NDArray[np.intp],
    *,
    alphas: Sequence[float] | None = None,
) -> FloatArray:
    """Out-of-fold predictions of a ridge head.

    The penalty of the head that predicts fold ``f`` is chosen on fold ``f + 1``; it is trained on all others.

    Args:
        features: ``(records, dim)``.
        targets: ``(records, targets)``, NaN where unknown.
        folds: ``(records,)`` numbers from 0 to at least 2.
        alphas: Penalties to choose from; the head's by default.

    Returns:
        float64 ``(records, targets)``; NaN where a fold had no record to learn a target from, or to choose by.

    Raises:
        ConfigurationError: for fewer than three folds.
    """
    x, y = np.asarray(features), np.asarray(targets, dtype=np.float64)
    count = int(folds.max()) + 1
    if count < 3:
        raise ConfigurationError(f"at least 3 folds are needed, got {count}", value=count)
    predictions = np.full(y.shape, np.nan)
    for fold in range(count):
        validation, test = folds == (fold + 1) % count, folds == fold
        train = ~validation & ~test
        known = np.isfinite(y[validation]).any(axis=0) & (np.isfinite(y[train]).sum(axis=0) > 1)
        if not known.any():
            continue
        head = RegressionHead() if alphas is None else RegressionHead(alphas=alphas)
        head.fit(x[train], y[np.ix_(train, known)], x[validation], y[np.ix_(validation, known)])
        predictions[np.ix_(test, known)] = head.predict(x[test])
    return predictions


def run_measurements(
    model: nn.Module,
    feature_extractor: Any,
    data: Dataset | Sequence[Any],
    targets: FloatArray,
    names: Sequence[str],
    *,
    groups: Sequence[object] | None = None,
    n_folds: int = 5,
    controls: bool = True,
    batch_size: int = 32,
    n_resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> MeasurementReport:
    """Regression benchmark: measurements from frozen pooled embeddings, cross-validated by patients.

    Args:
        model: Encoder.
        feature_extractor: The model's own.
        data: Recordings: what :func:`ecg_hf.evaluation.embed_dataset` takes.
        targets: float64 ``(records, measurements)``, see :func:`measurement_targets`, :func:`heart_rate_targets`.
        names: Names of the measurements.
        groups: Patient of every record.
        n_folds: Folds.
        controls: Also run an untrained encoder and the training mean.
        batch_size: Records per forward pass.
        n_resamples: Bootstrap resamples, of patients where ``groups`` are given.
        seed: Of folds, resamples and the untrained encoder.
        progress: Show progress bars.

    Raises:
        ConfigurationError: if sizes do not fit.
    """
    if targets.shape != (len(data), len(names)):
        raise ConfigurationError(
            f"targets {targets.shape} are not {len(data)} records x {len(names)} names", value=targets.shape
        )
    folds = patient_folds(len(targets), n_folds, groups=groups, seed=seed)
    predictions: dict[str, FloatArray] = {}
    encoders = {"encoder": model, **({"untrained": untrained_copy(model, seed)} if controls else {})}
    for who, encoder in encoders.items():
        features = embed_dataset(encoder, feature_extractor, data, batch_size=batch_size, progress=progress)
        predictions[who] = cross_validated_regression(features, targets, folds)
    if controls:
        predictions["training mean"] = _training_means(targets, folds)
    spread = np.array([np.nanstd(column) if np.isfinite(column).any() else np.nan for column in targets.T])
    return MeasurementReport(
        names=tuple(names),
        targets=targets,
        predictions=predictions,
        scores={
            who: score_regression(
                targets, found, spread, names, groups=groups, n_resamples=n_resamples, seed=seed
            )
            for who, found in predictions.items()
        },
    )


def _training_means(targets: FloatArray, folds: npt.NDArray[np.intp]) -> FloatArray:
    means = np.full(targets.shape, np.nan)
    for fold in np.unique(folds):
        for k, column in enumerate(targets[folds != fold].T):
            known = column[np.isfinite(column)]
            if known.size:
                means[folds == fold, k] = known.mean()
    return means


@dataclass(frozen=True, slots=True, eq=False)
class MeasurementTask:
    """Heart rate, PR, QRS and QT of annotated recordings by ridge regression, cross-validated, controls within.

    Attributes:
        plan: What is asked for.
        benchmark: Its name.
        records: From :func:`ecg_hf.evaluation.delineation.annotations.read_ludb`.
        store: Where the result is kept.
        controls: Also run an untrained encoder and training means.
    """

    plan: EvaluationPlan
    benchmark: str
    records: Sequence[AnnotatedRecord]
    store: CellStore
    controls: bool

    part: ClassVar[str] = "reports"

    def run(self, encoder: Encoder) -> list[dict[str, Any]]:
        """One report of an encoder; none of a baseline.

        Raises:
            ConfigurationError: for an option: the head has none.
        """
        if not isinstance(encoder, ModelEntrant):
            return []
        if self.plan.head_options:
            raise ConfigurationError(
                f"the regression head has no option {next(iter(self.plan.head_options))!r}"
            )

        def compute() -> tuple[dict[str, Any], None]:
            names, targets = measurement_targets(self.records)
            found = run_measurements(
                encoder.model, encoder.extractor, [one.record for one in self.records], targets, names,
                groups=[one.record.patient_id for one in self.records], controls=self.controls,
                n_resamples=self.plan.n_resamples, seed=self.plan.seeds[0],
            )  # fmt: skip
            kept = ("n", "mae", "z_mae", "spearman")
            rows = [
                {"who": who, "target": one.name, **{name: getattr(one, name) for name in kept}}
                for who, scores in found.scores.items()
                for one in scores
            ]
            return plain({"rows": rows, "markdown": found.markdown()}), None

        depends = annotated_depends(self.plan, "regression", encoder, self.records, self.controls)
        content = self.store.get(depends, compute).content
        shared = {"benchmark": self.benchmark, "kind": "regression", "encoder": encoder.name}
        return [{**shared, "records": len(self.records), **content}]
