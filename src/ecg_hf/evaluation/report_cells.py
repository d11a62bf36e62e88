"""Evaluations that are one report, not a score per fraction: retrieval, delineation, measurements, curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.bootstrap import Interval
from ecg_hf.evaluation.cells import CellStore, array_digest
from ecg_hf.evaluation.entrants import ModelEntrant, take
from ecg_hf.evaluation.fingerprints import fingerprint_dataset
from ecg_hf.evaluation.metrics import MacroScore
from ecg_hf.evaluation.plan import RESAMPLING_SEED, EvaluationPlan
from ecg_hf.evaluation.prepared import PreparedBenchmark
from ecg_hf.evaluation.robustness import Condition, CurvePoint, plan_leads, plan_rates, robustness_curve

if TYPE_CHECKING:
    from ecg_hf.evaluation.delineation.annotations import AnnotatedRecord

__all__ = ["CURVE_AXES", "curve_points", "degradation_curve", "ludb_report", "retrieval_report"]

LUDB_KINDS = {"ludb-delineation": "delineation", "ludb-measurements": "regression"}
"""Benchmark -> the head it is for."""

CURVE_AXES = ("leads", "rate")
"""What test recordings can be reduced in."""


def retrieval_report(
    plan: EvaluationPlan, prepared: PreparedBenchmark, entrant: ModelEntrant, store: CellStore
) -> dict[str, Any]:
    """ECG to report and report to ECG on the test records that have a report.

    Raises:
        ConfigurationError: if none has, or the model has no text side.
    """
    from ecg_hf.evaluation.retrieval import evaluate_retrieval
    from ecg_hf.evaluation.text_cells import text_features, tokenizer_digest

    reports = prepared.dataset.select_columns(["report"]).with_format("arrow")[:].column("report").to_pylist()
    rows = np.array(
        [row for row in prepared.data.rows("test") if (reports[row] or "").strip()], dtype=np.intp
    )
    if len(rows) < 2:
        raise ConfigurationError(
            f"retrieval needs reports; {len(rows)} test records of {prepared.benchmark.name} have one"
        )
    texts = [reports[row] for row in rows]
    depends = {
        "kind": "retrieval",
        "entrant": entrant.digest(),
        "data": prepared.digest(None),
        "reports": array_digest(np.asarray(texts, dtype=object), rows),
        "tokenizer": tokenizer_digest(entrant.source),
        "resamples": plan.n_resamples,
    }

    def compute() -> tuple[dict[str, Any], None]:
        patients = (
            None if prepared.data.patient_ids is None else [prepared.data.patient_ids[row] for row in rows]
        )
        found = evaluate_retrieval(
            entrant.projected(prepared.dataset, prepared.recordings)[rows],
            text_features(entrant, texts),
            texts,
            patient_ids=patients,
            n_resamples=plan.n_resamples,
            seed=RESAMPLING_SEED,
        )
        content: dict[str, Any] = plain(found.as_dict())
        return content, None

    figures = store.get(depends, compute).content
    return {
        "benchmark": prepared.benchmark.name,
        "kind": "retrieval",
        "encoder": entrant.name,
        "figures": figures,
        "markdown": _retrieval_markdown(entrant.name, figures),
    }


def _retrieval_markdown(encoder: str, figures: Mapping[str, Any]) -> str:
    lines = [
        f"{encoder}: {figures['n']:,} records, {figures['distinct_reports']:,} distinct reports; equal reports count "
        "as hits.",
        "",
        "| Direction | Measure | Value [95 % interval] | Chance |",
        "|---|---|---:|---:|",
    ]
    for direction, title in (("ecg_to_text", "ECG to report"), ("text_to_ecg", "report to ECG")):
        for name, one in figures[direction].items():
            low, high = one["ci95"]
            form = ".1f" if name == "median_rank" else ".3f"
            limits = "" if low is None else f" [{low:{form}}, {high:{form}}]"
            chance = "" if "chance" not in one else f"{one['chance']:.3f}"
            lines.append(f"| {title} | {name.replace('_', ' ')} | {one['value']:{form}}{limits} | {chance} |")
    return "\n".join(lines)


def ludb_report(
    plan: EvaluationPlan,
    benchmark: str,
    entrant: ModelEntrant,
    records: Sequence[AnnotatedRecord],
    store: CellStore,
    *,
    controls: bool,
) -> dict[str, Any]:
    """Delineation or measurements of annotated recordings, cross-validated, controls within.

    Args:
        plan: Its head must be the benchmark's.
        benchmark: ``"ludb-delineation"`` or ``"ludb-measurements"``.
        entrant: The model.
        records: From :func:`ecg_hf.evaluation.delineation.annotations.read_ludb`.
        store: Where the cell is kept.
        controls: Also run an untrained encoder and what else there is without one.
    """
    kind = LUDB_KINDS[benchmark]
    options = dict(plan.head_options)
    signals = [one.record for one in records]
    marks = [
        part
        for one in records
        for lead in sorted(one.delineation)
        for wave in sorted(one.delineation[lead])
        for part in (getattr(one.delineation[lead][wave], name) for name in ("onset", "peak", "offset"))
    ]
    depends = {
        "kind": kind,
        "entrant": entrant.digest(),
        "recordings": fingerprint_dataset(signals),
        "marks": array_digest(*marks),
        "options": options,
        "controls": controls,
        "seed": plan.seeds[0],
        "resamples": plan.n_resamples,
    }

    def compute() -> tuple[dict[str, Any], None]:
        run: dict[str, Any] = {"controls": controls, "n_resamples": plan.n_resamples, "seed": plan.seeds[0]}
        if kind == "delineation":
            from ecg_hf.evaluation.delineation.benchmark import run_delineation
            from ecg_hf.evaluation.delineation.head import DelineationHead

            try:
                head = DelineationHead(**options)
            except TypeError as error:
                raise ConfigurationError(f"options of the delineation head: {error}") from None
            report = run_delineation(entrant.model, entrant.extractor, records, head=head, **run)
            return plain({"rows": report.rows(), "leads": report.leads, "markdown": report.markdown()}), None
        from ecg_hf.evaluation.measurements import measurement_targets, run_measurements

        if options:
            raise ConfigurationError(f"the regression head has no option {next(iter(options))!r}")
        names, targets = measurement_targets(records)
        patients = [one.record.patient_id for one in records]
        found = run_measurements(
            entrant.model, entrant.extractor, signals, targets, names, groups=patients, **run
        )  # fmt: skip
        rows = [
            {
                "who": who,
                "target": one.name,
                "n": one.n,
                "mae": one.mae,
                "z_mae": one.z_mae,
                "spearman": one.spearman,
            }
            for who, scores in found.scores.items()
            for one in scores
        ]
        return plain({"rows": rows, "markdown": found.markdown()}), None

    content = store.get(depends, compute).content
    return {"benchmark": benchmark, "kind": kind, "encoder": entrant.name, "records": len(records), **content}


def degradation_curve(
    plan: EvaluationPlan,
    prepared: PreparedBenchmark,
    entrant: ModelEntrant,
    store: CellStore,
    axis: str,
    head_name: str = "linear",
) -> dict[str, Any]:
    """Macro AUROC of a head at the largest fraction and the first seed, on ever poorer test recordings.

    Args:
        plan: Its heads are fitted on whole recordings.
        prepared: Records, labels, splits.
        entrant: The encoder that is run again.
        store: Where the cell is kept.
        axis: ``"leads"``: with ever fewer of them; ``"rate"``: sampled ever more slowly.
        head_name: On pooled features.

    Raises:
        ConfigurationError: for a head that is not on frozen features.
    """
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
        judged = (take(features, validation), data.labels[validation]) if len(validation) else (None, None)
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
    return {
        "benchmark": prepared.benchmark.name,
        "encoder": entrant.name,
        "head": head_name,
        "axis": axis,
        "fraction": subset.fraction,
        **content,
    }


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


def plain(value: Any) -> Any:
    """JSON values: intervals as numbers with limits, NaN as null."""
    if isinstance(value, Interval):
        return {"value": plain(value.estimate), "ci95": plain(value.limits)}
    if isinstance(value, Mapping):
        if set(value) == {"estimate", "low", "high"}:
            return plain(Interval(**value))
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
