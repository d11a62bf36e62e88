"""Retrieval with a dual encoder: the report of an ECG among many, and the ECG of a report.

Standard reports repeat ("sinus rhythm. normal ecg."), and a model cannot tell two equal texts apart. By default every
record with the same report counts as a hit, in both directions; ``strict=True`` accepts the query's own record alone.
Strict figures have a ceiling that the data set and not the model decides.

The *rank* of a query is 1 plus the number of wrong candidates scored above its best right one, plus half of those
that tie with it: constant features get the median rank of chance, not rank 1. Similarities closer than 1e-6 tie:
matrix products of equal rows differ by rounding, in another way on every processor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.cache import CellStore, array_digest, plain
from ecg_hf.evaluation.encoders import Encoder, ModelEntrant
from ecg_hf.evaluation.plan import EvaluationPlan
from ecg_hf.evaluation.prepare import PreparedBenchmark
from ecg_hf.evaluation.zero_shot import text_features, tokenizer_digest, unit_rows
from ecg_hf.metrics.bootstrap import resample_counts
from ecg_hf.metrics.intervals import DEFAULT_LEVEL, DEFAULT_RESAMPLES, RESAMPLING_SEED, Interval, percentiles
from ecg_hf.metrics.ranking import FloatArray

if TYPE_CHECKING:
    pass


__all__ = [
    "DEFAULT_CUTOFFS",
    "Retrieval",
    "RetrievalResult",
    "RetrievalTask",
    "evaluate_retrieval",
    "retrieval_ranks",
]

DEFAULT_CUTOFFS = (1, 5, 10)
# Queries per block: 1,024 x 10,000 float32 similarities are 41 MB.
BLOCK = 1024
# Of cosines in float32, whose products of unit vectors are good to a few 1e-7.
TIE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Retrieval:
    """One direction.

    Attributes:
        recall: Cut-off k -> share of queries with a right candidate among the first k, with its interval.
        median_rank: With its interval.
        ranks: float64 ``(queries,)``, from 1; halves where candidates tie.
        chance: Cut-off k -> expected recall of random candidates.
    """

    recall: dict[int, Interval]
    median_rank: Interval
    ranks: FloatArray
    chance: dict[int, float]


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalResult:
    """Both directions.

    Attributes:
        ecg_to_text: An ECG asks for its report.
        text_to_ecg: A report asks for its ECG.
        n: Records.
        distinct: Distinct reports among them.
        strict: Whether the query's own record alone counted.
        level: Nominal coverage of the intervals.
        unit: ``"records"`` or ``"patients"``: what was resampled.
    """

    ecg_to_text: Retrieval
    text_to_ecg: Retrieval
    n: int
    distinct: int
    strict: bool
    level: float
    unit: str

    def as_dict(self) -> dict[str, Any]:
        """Figures without the ranks, for a results file."""

        def direction(one: Retrieval) -> dict[str, Any]:
            recall: Mapping[int, Interval] = one.recall
            return {
                **{
                    f"recall_at_{k}": {"value": v.estimate, "ci95": v.limits, "chance": one.chance[k]}
                    for k, v in recall.items()
                },
                "median_rank": {"value": one.median_rank.estimate, "ci95": one.median_rank.limits},
            }

        return {
            "ecg_to_text": direction(self.ecg_to_text),
            "text_to_ecg": direction(self.text_to_ecg),
            "n": self.n,
            "distinct_reports": self.distinct,
            "strict": self.strict,
            "resampled": self.unit,
        }


def retrieval_ranks(
    queries: npt.ArrayLike,
    candidates: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    block: int = BLOCK,
) -> FloatArray:
    """Rank of the best right candidate of every query.

    Args:
        queries: Real ``(records, dim)``, normalised or not; similarity is the cosine.
        candidates: Same shape; candidate i belongs to query i.
        groups: Integers ``(records,)``: candidates of the query's own group are right; by default only candidate i.
        block: Queries compared at once.

    Returns:
        float64 ``(records,)``, from 1; see the module docstring for ties.

    Raises:
        ConfigurationError: for shapes that do not fit, or rows that are not finite.
    """
    # float32: the products of unit vectors are exact to 1e-7, and a quarter of the time of float64.
    asked, offered = (
        # A text of which a model that compares terms knows no word is like nothing.
        unit_rows(rows, what, keep_zeros=True).astype(np.float32)
        for rows, what in ((queries, "query"), (candidates, "candidate"))
    )
    if asked.shape != offered.shape:
        raise ConfigurationError(
            f"queries and candidates must pair up, got {asked.shape} and {offered.shape}",
            value=(asked.shape, offered.shape),
        )
    n = len(asked)
    numbers = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if numbers.shape != (n,):
        raise ConfigurationError(f"{numbers.shape} groups for {n} records", value=numbers.shape)
    # Members of a group side by side: the best right candidate is a maximum over a run of columns.
    order = np.argsort(numbers, kind="stable")
    sizes = np.bincount(numbers)
    starts = np.cumsum(sizes) - sizes
    offered, in_order = offered[order], numbers[order]
    ranks = np.empty(n)
    for first in range(0, n, block):
        rows = slice(first, min(first + block, n))
        similar = asked[rows] @ offered.T
        own = numbers[rows]
        best = np.maximum.reduceat(similar, starts, axis=1)[np.arange(len(own)), own][:, None]
        above = np.count_nonzero(similar > best + TIE, axis=1)
        # Candidates of the query's own group do not count as ties.
        tied_rows, tied_columns = np.nonzero(np.abs(similar - best) <= TIE)
        wrong = in_order[tied_columns] != own[tied_rows]
        ties = np.bincount(tied_rows[wrong], minlength=len(own))
        ranks[rows] = 1.0 + above + 0.5 * ties
    return ranks


def evaluate_retrieval(
    ecg_features: npt.ArrayLike,
    text_features: npt.ArrayLike,
    reports: Sequence[str] | None = None,
    *,
    strict: bool = False,
    cutoffs: Sequence[int] = DEFAULT_CUTOFFS,
    patient_ids: Sequence[object] | None = None,
    n_resamples: int = DEFAULT_RESAMPLES,
    level: float = DEFAULT_LEVEL,
    seed: int = 0,
) -> RetrievalResult:
    """Recall at k and median rank, in both directions, with bootstrap intervals.

    Resampled are the queries; the candidates stay, since recall at k depends on how many there are, and a resample
    would hold copies of a query's own record.

    Args:
        ecg_features: Projected ECG features ``(records, dim)``.
        text_features: Features of the records' reports, same shape.
        reports: Text of every record; equal texts (but for case and white space) are one report. Needed unless
            ``strict``.
        strict: Accept a query's own record alone.
        cutoffs: Numbers of candidates looked at.
        patient_ids: Patient of every record, to resample patients.
        n_resamples: Resamples; 0 for limits that are NaN.
        level: Nominal coverage.
        seed: Seed of the resamples.

    Raises:
        ConfigurationError: for arrays or options that do not fit.
    """
    n = len(unit_rows(ecg_features, "record"))
    if reports is None and not strict:
        raise ConfigurationError("give the reports, whose duplicates count as hits, or choose strict=True")
    if reports is not None and len(reports) != n:
        raise ConfigurationError(f"{len(reports)} reports for {n} records", value=len(reports))
    if not cutoffs or min(cutoffs) < 1:
        raise ConfigurationError(f"cut-offs must be at least 1, got {tuple(cutoffs)}", value=tuple(cutoffs))
    numbers = np.arange(n)
    if reports is not None:
        keys = [" ".join(text.lower().split()) for text in reports]
        numbers = np.unique(np.asarray(keys), return_inverse=True)[1]
    groups = None if strict else numbers
    counts = (
        list(resample_counts(n, n_resamples=n_resamples, seed=seed, groups=patient_ids))
        if n_resamples
        else []
    )
    right = np.ones(n, dtype=np.int64) if groups is None else np.bincount(groups)[groups]
    directions = (
        _summary(retrieval_ranks(asked, offered, groups), right, cutoffs, counts, level)
        for asked, offered in ((ecg_features, text_features), (text_features, ecg_features))
    )
    ecg_to_text, text_to_ecg = directions
    return RetrievalResult(
        ecg_to_text=ecg_to_text,
        text_to_ecg=text_to_ecg,
        n=n,
        distinct=int(numbers.max()) + 1,
        strict=strict,
        level=level,
        unit="records" if patient_ids is None else "patients",
    )


def _summary(
    ranks: FloatArray,
    right: npt.NDArray[np.int64],
    cutoffs: Sequence[int],
    counts: Sequence[npt.NDArray[np.float32]],
    level: float,
) -> Retrieval:
    hits = np.stack([ranks <= k for k in cutoffs], axis=1)
    weight = [block.sum(axis=0, dtype=np.float64) for block in counts]
    recalls = [
        block.T.astype(np.float64) @ hits / total[:, None]
        for block, total in zip(counts, weight, strict=True)
    ]
    samples = np.concatenate(recalls) if recalls else np.empty((0, len(cutoffs)))
    order = np.argsort(ranks, kind="stable")
    medians = [_medians(ranks[order], block[order]) for block in counts]
    return Retrieval(
        recall={
            int(k): Interval(float(hits[:, i].mean()), *percentiles(samples[:, i], level))
            for i, k in enumerate(cutoffs)
        },
        median_rank=Interval(
            float(np.median(ranks)), *percentiles(np.concatenate(medians) if medians else np.empty(0), level)
        ),
        ranks=ranks,
        chance={int(k): _chance(len(ranks), right, int(k)) for k in cutoffs},
    )


def _medians(ranks: FloatArray, counts: npt.NDArray[np.float32]) -> FloatArray:
    """Median of ascending ``ranks``, each as often as every column of ``counts`` says."""
    cumulative = np.cumsum(counts, axis=0, dtype=np.float64)
    total = cumulative[-1]
    middle = [(cumulative > place).argmax(axis=0) for place in ((total - 1) // 2, total // 2)]
    return np.asarray((ranks[middle[0]] + ranks[middle[1]]) / 2.0)


def _chance(n: int, right: npt.NDArray[np.int64], k: int) -> float:
    """Mean probability that k of n candidates drawn at random hold one of the right ones."""
    missed = np.ones(len(right))
    for drawn in range(min(k, n)):
        missed *= np.maximum(n - right - drawn, 0) / (n - drawn)
    return float(1.0 - missed.mean())


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalTask:
    """ECG to report and report to ECG on the test records that have a report.

    Attributes:
        plan: What is asked for.
        prepared: Records, splits.
        store: Where the result is kept.
    """

    plan: EvaluationPlan
    prepared: PreparedBenchmark
    store: CellStore

    part: ClassVar[str] = "reports"

    def run(self, encoder: Encoder) -> list[dict[str, Any]]:
        """One report of an encoder; none of a baseline.

        Raises:
            ConfigurationError: if no record has a report, or the model has no text side.
        """
        if not isinstance(encoder, ModelEntrant):
            return []
        plan, prepared, entrant, store = self.plan, self.prepared, encoder, self.store
        reports = (
            prepared.dataset.select_columns(["report"]).with_format("arrow")[:].column("report").to_pylist()
        )
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
                None
                if prepared.data.patient_ids is None
                else [prepared.data.patient_ids[row] for row in rows]
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
        report = {
            "benchmark": prepared.benchmark.name,
            "kind": "retrieval",
            "encoder": entrant.name,
            "figures": figures,
            "markdown": _retrieval_markdown(entrant.name, figures),
        }
        return [report]


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
