"""How much of a score is left with fewer leads, or from a recorder that samples more slowly.

A condition changes the recordings and nothing else: the head stays the one fitted on whole recordings, the encoder is
run again. Leads that are taken away are *missing* (they reach the feature extractor by name, or do not), never zeros
somebody measured; a lower rate is what a slower recorder would have stored, and bringing it to the model's own rate
is the feature extractor's task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ecg_hf.data.feature import Ecg, is_ecg_column
from ecg_hf.data.storage import StoredColumn
from ecg_hf.errors import ConfigurationError, LeadError
from ecg_hf.evaluation.cache import CellStore, plain
from ecg_hf.evaluation.encoders import Encoder, ModelEntrant, take
from ecg_hf.evaluation.heads.base import Head
from ecg_hf.evaluation.plan import EvaluationPlan
from ecg_hf.evaluation.prepare import PreparedBenchmark
from ecg_hf.metrics.bootstrap import bootstrap_auroc, paired_bootstrap
from ecg_hf.metrics.intervals import (
    DEFAULT_LEVEL,
    DEFAULT_RESAMPLES,
    RESAMPLING_SEED,
    Interval,
    IntervalMethod,
)
from ecg_hf.metrics.ranking import MacroScore, score_classes
from ecg_hf.signal.leads import STANDARD_LEADS, normalize_lead_names

if TYPE_CHECKING:
    from datasets import Dataset


__all__ = [
    "CURVE_AXES",
    "DEFAULT_RATES",
    "LEAD_SETS",
    "Condition",
    "CurvePoint",
    "RobustnessCurve",
    "curve_points",
    "degraded",
    "plan_leads",
    "plan_rates",
    "robustness_curve",
]

LEAD_SETS: Mapping[str, tuple[str, ...]] = {
    "12": STANDARD_LEADS,
    "6": ("I", "II", "III", "aVR", "aVL", "aVF"),
    "3": ("I", "II", "V2"),
    "2": ("I", "II"),
    "1": ("I",),
}
"""The sets of the PhysioNet/CinC Challenge 2021, and lead I alone. Six and two leads carry the same information: a
feature extractor that derives leads gives the same result for both."""

DEFAULT_RATES: tuple[float, ...] = (500.0, 250.0, 125.0, 100.0)
"""Hertz."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What test recordings are reduced to.

    Attributes:
        axis: ``"leads"`` or ``"rate"``.
        name: Shown in tables and figures.
        leads: Leads that are left; ``None`` for all.
        sampling_rate: Hertz; ``None`` for the stored one.
    """

    axis: Literal["leads", "rate"]
    name: str
    leads: tuple[str, ...] | None = None
    sampling_rate: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CurvePoint:
    """Score under one condition.

    Attributes:
        condition: The condition.
        score: AUROC of every class and the macro mean.
        interval: Macro AUROC with its bootstrap interval.
        loss: Macro AUROC of the first condition minus this one's, on the same resamples; zeros for the first.
        p_value: Of the loss; 1 for the first.
        method: How both intervals were made, see :mod:`ecg_hf.metrics.bootstrap`.
    """

    condition: Condition
    score: MacroScore
    interval: Interval
    loss: Interval
    p_value: float
    method: IntervalMethod = "percentile"

    def as_dict(self) -> dict[str, Any]:
        """Figures for a results file."""
        return {
            "axis": self.condition.axis,
            "condition": self.condition.name,
            "leads": None if self.condition.leads is None else list(self.condition.leads),
            "sampling_rate": self.condition.sampling_rate,
            "macro_auroc": self.score.macro_auroc,
            "ci95": self.interval.limits,
            "loss": self.loss.estimate,
            "loss_ci95": self.loss.limits,
            "p_value": self.p_value,
            "interval": self.method,
        }


def plan_leads(
    model_leads: Sequence[str], lead_sets: Mapping[str, Sequence[str]] = LEAD_SETS
) -> tuple[Condition, ...]:
    """Conditions of the lead-dropout curve for a model.

    Args:
        model_leads: Leads the model takes (``feature_extractor.lead_names``).
        lead_sets: Name -> leads a recorder has. Each is intersected with the model's: of a model of eight leads (I,
            II, V1 to V6) "12" leaves all eight and "6" leaves I and II. Sets that come to the same leads are kept, so
            that curves of different models have the same points.

    Raises:
        LeadError: if a set holds none of the model's leads.
    """
    wanted = normalize_lead_names(tuple(model_leads))
    conditions = []
    for name, leads in lead_sets.items():
        there = set(normalize_lead_names(tuple(leads)))
        left = tuple(lead for lead in wanted if lead in there)
        if not left:
            raise LeadError(f"lead set {name!r} has no lead of the model ({', '.join(wanted)})", value=name)
        conditions.append(Condition("leads", name, leads=left))
    return tuple(conditions)


def plan_rates(
    dataset: Dataset, rates: Sequence[float] = DEFAULT_RATES, *, column: str = "ecg"
) -> tuple[Condition, ...]:
    """Conditions of the sampling-rate curve for a dataset, from the highest rate down.

    Args:
        dataset: Test recordings.
        rates: Hertz. Those above the lowest rate stored are left out: nothing is gained by inventing samples.
        column: Name of the ECG column.

    Returns:
        The recordings as stored, then every rate below.

    Raises:
        ConfigurationError: for a rate that is not positive, or a dataset without recordings.
    """
    if not rates or not min(rates) > 0:
        raise ConfigurationError(f"sampling rates must be positive, got {tuple(rates)}", value=tuple(rates))
    stored = StoredColumn(dataset.data.table.column(column))
    rows = np.arange(len(stored)) if dataset._indices is None else np.asarray(dataset._indices.column(0))
    used = np.unique(stored.layout_ids[rows.astype(np.int64)])
    if not len(used):
        raise ConfigurationError("the dataset holds no recordings")
    own = sorted({stored.layouts[int(i)].sampling_rate for i in used})
    name = " and ".join(f"{rate:g}" for rate in own)
    lower = sorted({float(rate) for rate in rates if rate < own[0]}, reverse=True)
    return (
        Condition("rate", f"{name} Hz", sampling_rate=own[0] if len(own) == 1 else None),
        *(Condition("rate", f"{rate:g} Hz", sampling_rate=rate) for rate in lower),
    )


def degraded(dataset: Dataset, condition: Condition, *, column: str = "ecg") -> Dataset:
    """The dataset with recordings reduced to a condition when they are decoded; nothing is copied.

    Embeddings of it are cached under their own key: the column's settings are part of a dataset's fingerprint.

    Args:
        dataset: Built rows.
        condition: What is left.
        column: Name of the ECG column.

    Raises:
        ConfigurationError: if there is no such column.
    """
    if not is_ecg_column(dataset.features, column):
        raise ConfigurationError(f"the dataset has no ECG column named {column!r}", value=column)
    feature = Ecg(
        sampling_rate=condition.sampling_rate,
        lead_names=None if condition.leads is None else list(condition.leads),
    )
    view: Dataset = dataset.cast_column(column, feature)
    return view


def robustness_curve(
    embed: Callable[[Dataset], Any],
    dataset: Dataset,
    conditions: Sequence[Condition],
    head: Head,
    labels: npt.ArrayLike,
    class_names: Sequence[str],
    *,
    patient_ids: Sequence[object] | None = None,
    column: str = "ecg",
    n_resamples: int = DEFAULT_RESAMPLES,
    level: float = DEFAULT_LEVEL,
    seed: int = 0,
) -> list[CurvePoint]:
    """Embed test recordings again under every condition and score them with a head that is already fitted.

    Args:
        embed: Features of a dataset's rows as the head takes them, e.g.
            ``lambda rows: embed_dataset(model, extractor, rows, cache_dir=...)``.
        dataset: Test recordings.
        conditions: From :func:`plan_leads` or :func:`plan_rates`; the first is what losses are measured against.
        head: Fitted on whole recordings.
        labels: 0/1 ``(test records, classes)``.
        class_names: Names of the classes.
        patient_ids: Patient of every record, to resample patients.
        column: Name of the ECG column.
        n_resamples: Resamples of the intervals.
        level: Nominal coverage.
        seed: Seed of the resamples.

    Raises:
        ConfigurationError: if there is no condition, or arrays do not fit.
    """
    if not conditions:
        raise ConfigurationError("there are no conditions to evaluate")
    truth = np.asarray(labels)
    include = np.array([name not in head.unfitted for name in class_names])
    points: list[CurvePoint] = []
    reference = None
    for condition in conditions:
        scores = head.decision_function(embed(degraded(dataset, condition, column=column)))
        reference = scores if reference is None else reference
        options: dict[str, Any] = {
            "groups": patient_ids,
            "include": include,
            "n_resamples": n_resamples,
            "level": level,
            "seed": seed,
        }
        pair = paired_bootstrap(truth, reference, scores, **options)
        points.append(
            CurvePoint(
                condition=condition,
                score=score_classes(truth, scores, class_names, excluded=head.unfitted),
                interval=bootstrap_auroc(truth, scores, **options).macro,
                loss=pair.difference,
                p_value=pair.p_value,
                method=pair.method,
            )
        )
    return points


CURVE_AXES = ("leads", "rate")
"""What test recordings can be reduced in."""


@dataclass(frozen=True, slots=True, eq=False)
class RobustnessCurve:
    """Macro AUROC of a head at the largest fraction and the first seed, on ever poorer test recordings.

    Attributes:
        plan: Its heads are fitted on whole recordings.
        prepared: Records, labels, splits.
        store: Where the result is kept.
        axis: ``"leads"``: with ever fewer of them; ``"rate"``: sampled ever more slowly.
        head: On pooled features.
    """

    plan: EvaluationPlan
    prepared: PreparedBenchmark
    store: CellStore
    axis: str
    head: str = "linear"

    part: ClassVar[str] = "curves"

    def run(self, encoder: Encoder) -> list[dict[str, Any]]:
        """One curve of an encoder; none of a baseline.

        Raises:
            ConfigurationError: for a head that is not on pooled features.
        """
        if not isinstance(encoder, ModelEntrant):
            return []
        plan, prepared, entrant, store = self.plan, self.prepared, encoder, self.store
        axis, head_name = self.axis, self.head
        head_kind = plan.head(head_name)
        if head_kind.inputs != "pooled" or head_kind.build is None:
            raise ConfigurationError(
                f"a {axis} curve is of a linear or mlp head, not {head_name}", value=head_name
            )
        build = head_kind.build
        data, test = prepared.data, prepared.data.rows("test")
        subset = max(plan.labelled_subsets(data, plan.seeds[0]), key=lambda one: one.n)
        train, validation = data.rows("train")[subset.indices], data.rows("validation")
        recordings = prepared.dataset.select(test.tolist())
        conditions = plan_leads(entrant.extractor.lead_names) if axis == "leads" else plan_rates(recordings)
        depends = {
            "kind": f"{axis}-curve",
            "entrant": entrant.digest(),
            "data": prepared.digest(train),
            "head": {"name": head_name, **head_kind.settings},
            "seed": plan.seeds[0],
            "conditions": [[one.name, list(one.leads or ()), one.sampling_rate] for one in conditions],
            "resamples": plan.n_resamples,
        }

        def compute() -> tuple[dict[str, Any], None]:
            features = entrant.features("pooled", prepared.dataset, prepared.recordings)
            head = build(plan.seeds[0])
            judged = (
                (take(features, validation), data.labels[validation]) if len(validation) else (None, None)
            )
            head.fit(take(features, train), data.labels[train], *judged, class_names=data.class_names)
            points = robustness_curve(
                entrant.embed,
                recordings,
                conditions,
                head,
                data.labels[test],
                data.class_names,
                patient_ids=prepared.test_patients(),
                n_resamples=plan.n_resamples,
                seed=RESAMPLING_SEED,
            )
            return plain({"points": [point.as_dict() for point in points]}), None

        content = store.get(depends, compute).content
        curve = {
            "benchmark": prepared.benchmark.name,
            "encoder": entrant.name,
            "head": head_name,
            "axis": axis,
            "fraction": subset.fraction,
            **content,
        }
        return [curve]


def curve_points(curve: Mapping[str, Any]) -> list[CurvePoint]:
    """Points of a stored curve, for drawing."""
    points = []
    for one in curve["points"]:
        condition = Condition(one["axis"], one["condition"], sampling_rate=one["sampling_rate"])
        interval = Interval(_number(one["macro_auroc"]), *map(_number, one["ci95"]))
        loss = Interval(_number(one["loss"]), *map(_number, one["loss_ci95"]))
        score = MacroScore((), one["macro_auroc"], None, 0)
        points.append(
            CurvePoint(
                condition, score, interval, loss, _number(one["p_value"]), one.get("interval", "percentile")
            )
        )
    return points


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
