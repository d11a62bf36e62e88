"""``results.json``: what an evaluation found, checked when written and when read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict, cast

import yaml

from ecg_hf.data.splits import parse_folds
from ecg_hf.documents import Bound, Count, Range, Share, check, read_json
from ecg_hf.errors import ConfigurationError
from ecg_hf.files import write_whole
from ecg_hf.metrics.intervals import IntervalMethod
from ecg_hf.metrics.ranking import MacroScore

__all__ = [
    "ClassRow",
    "ModelEntry",
    "PairedRow",
    "ProbeRow",
    "PublishedRow",
    "Results",
    "SummaryRow",
    "class_rows",
    "comparable_rows",
    "published_rows",
    "read_results",
    "validate_results",
    "write_results",
]


@dataclass(frozen=True, slots=True)
class _Limits(Bound):
    """Lower and upper limit, in this order; null where there is none."""

    def holds(self, value: Any) -> bool:
        """Whether the list is such a pair."""
        return len(value) == 2 and (None in value or value[0] <= value[1])

    def __str__(self) -> str:
        return "[low, high]"


Limits = Annotated[list[float | None], _Limits()]
"""``[low, high]``."""


class ClassRow(TypedDict):
    """One class of a scored test set; ``auroc`` is null where it is undefined or the class was excluded."""

    name: str
    auroc: Share | None
    ci95: Limits
    auprc: Share | None
    n: Count
    positives: Count
    excluded: str
    train_positives: NotRequired[Count]
    interval: NotRequired[IntervalMethod]


class ProbeRow(TypedDict):
    """One probe: an encoder at a label fraction.

    ``head`` is ``linear`` (also where it is absent) or ``attention``. Of a linear probe ``c`` is the chosen
    regularisation, of an attention probe ``epoch`` the chosen one of ``epochs``.

    ``macro_auroc`` is the mean over the classes that could be learnt and scored (all but ``undefined``).
    ``macro_auroc_unlearnt_at_chance`` also counts the classes that had no training positive, at 0.5: the figure
    to set beside published ones, which score a constant output that way.

    ``interval`` says how ``ci95`` was made, here and in every other row that has one: ``percentile`` or ``floored``,
    see :mod:`ecg_hf.metrics.bootstrap`.
    """

    encoder: str
    fraction: Share
    macro_auroc: Share | None
    ci95: Limits
    n_train: Count
    n_test: Count
    positives: dict[str, Count]
    benchmark: NotRequired[str]
    protocol: NotRequired[str]
    head: NotRequired[str]
    solver: NotRequired[str]
    aggregation: NotRequired[str]
    seed: NotRequired[int]
    cell: NotRequired[str]
    macro_auroc_unlearnt_at_chance: NotRequired[Share | None]
    macro_auprc: NotRequired[Share | None]
    macro_ece: NotRequired[Share | None]
    macro_brier: NotRequired[Share | None]
    n_validation: NotRequired[Count]
    c: NotRequired[float]
    c_at_edge: NotRequired[bool]
    converged: NotRequired[bool]
    epoch: NotRequired[Count]
    epochs: NotRequired[Count]
    interval: NotRequired[IntervalMethod]
    resampled: NotRequired[str]
    undefined: NotRequired[list[str]]
    classes: NotRequired[list[ClassRow]]


class PairedRow(TypedDict):
    """Difference of two encoders' macro AUROC on the same resamples, ``first - second``."""

    first: str
    second: str
    fraction: Share
    difference: float | None
    ci95: Limits
    p_value: float | None
    benchmark: NotRequired[str]
    head: NotRequired[str]
    second_head: NotRequired[str]
    seed: NotRequired[int]
    n_seeds: NotRequired[Count]
    p_delong: NotRequired[float | None]
    interval: NotRequired[IntervalMethod]


class SummaryRow(TypedDict):
    """One encoder at a benchmark, head and label fraction, averaged over seeds.

    ``encoder`` is ``pretrained`` for the model itself, else a control's name: ``untrained``, ``handmade``,
    ``minirocket``, ``supervised``; of several models each has its own name, and its untrained row that name with
    ``, untrained``. ``ci95`` is the sampling interval of ``macro_auroc`` over test records, ``sd`` the
    spread over seeds (null for one). ``macro_auroc_unlearnt_at_chance``, a mean over seeds too, counts the classes
    that could not be learnt at 0.5, see :class:`ProbeRow`.
    """

    encoder: str
    benchmark: str
    protocol: str
    head: str
    fraction: Share
    seeds: list[int]
    macro_auroc: Share | None
    macro_auroc_unlearnt_at_chance: NotRequired[Share | None]
    sd: float | None
    ci95: Limits
    n_train: Count
    n_test: Count
    n_classes: Count
    positives: NotRequired[dict[str, Count]]
    solver: str
    interval: NotRequired[IntervalMethod]


class ModelEntry(TypedDict):
    """A model that was evaluated: what rows call it, and its folder or Hub name."""

    name: str
    source: str


class PublishedEntry(TypedDict):
    """A published row that may stand beside ours."""

    model: str
    benchmark: str
    head: str
    fraction: Share
    macro_auroc: Share
    ci95: Limits
    source: str


class SplitCounts(TypedDict):
    """Records of a benchmark by split; left out and missing ones by reason or split."""

    train: NotRequired[Count]
    validation: NotRequired[Count]
    test: NotRequired[Count]
    dropped: NotRequired[dict[str, Count]]
    missing: NotRequired[dict[str, Count]]


class ReportEntry(TypedDict):
    """An evaluation that is one report: retrieval, delineation, measurements."""

    benchmark: str
    kind: str
    markdown: str


class CurvePointEntry(TypedDict):
    """Macro AUROC under one condition, and what it lost against the first."""

    condition: str
    macro_auroc: Share | None
    ci95: Limits
    loss: float | None
    loss_ci95: Limits
    interval: NotRequired[IntervalMethod]


class CurveEntry(TypedDict):
    """Scores on ever poorer test recordings."""

    benchmark: str
    encoder: str
    axis: Literal["leads", "rate"]
    points: list[CurvePointEntry]


class Results(TypedDict):
    """All of one evaluation; ``timings`` in seconds."""

    dataset: str
    probe: list[ProbeRow]
    timings: dict[str, Annotated[float, Range(0)]]
    paired: NotRequired[list[PairedRow]]
    synthetic: NotRequired[bool]
    model: NotRequired[str]
    models: NotRequired[list[ModelEntry]]
    summary: NotRequired[list[SummaryRow]]
    published: NotRequired[list[PublishedEntry]]
    leaks: NotRequired[dict[str, Any]]
    splits: NotRequired[dict[str, SplitCounts]]
    reports: NotRequired[list[ReportEntry]]
    curves: NotRequired[list[CurveEntry]]
    notes: NotRequired[list[str]]
    settings: NotRequired[dict[str, Any]]


def finite(value: float | None) -> float | None:
    """``value``, or None (JSON's null) where it is not a finite number."""
    return None if value is None or not math.isfinite(value) else float(value)


def class_rows(
    score: MacroScore,
    intervals: Iterable[Any],
    train_positives: Mapping[str, int] | None = None,
    methods: Sequence[IntervalMethod] | None = None,
) -> list[ClassRow]:
    """Rows of every class.

    Args:
        score: Of all classes.
        intervals: An :class:`~ecg_hf.metrics.intervals.Interval` per class.
        train_positives: Class -> positive training records, if anything was trained.
        methods: How each interval was made, if there are any.
    """
    rows: list[ClassRow] = []
    made: Sequence[IntervalMethod | None] = [None] * len(score.classes) if methods is None else methods
    for one, interval, method in zip(score.classes, intervals, made, strict=True):
        limits = [None if one.auroc is None else finite(limit) for limit in interval.limits]
        row = ClassRow(
            name=one.name,
            auroc=one.auroc,
            ci95=limits,
            auprc=one.auprc,
            n=one.n,
            positives=one.positives,
            excluded=one.excluded,
        )
        if train_positives is not None:
            row["train_positives"] = int(train_positives[one.name])
        if method is not None:
            row["interval"] = method
        rows.append(row)
    return rows


def validate_results(content: Any) -> Results:
    """Check the schema of a results object.

    Returns:
        The object itself, or an equal one.

    Raises:
        ConfigurationError: naming the entry that is wrong.
    """
    results = cast(Results, check(content, Results))
    for i, row in enumerate(results["probe"]):
        untrained = row["fraction"] == 0 and row.get("head") == "zero-shot"
        if not untrained and not row["fraction"] > 0:
            raise ConfigurationError(
                f"probe[{i}].fraction must lie in (0, 1], got {row['fraction']!r}", value=row["fraction"]
            )
        for name, count in row["positives"].items():
            if count > row["n_test"]:
                raise ConfigurationError(
                    f"probe[{i}].positives.{name} is {count}, of {row['n_test']} test records", value=count
                )
    return results


def write_results(path: str | os.PathLike[str], results: Results) -> None:
    """Write results as JSON, checked first, atomically.

    Raises:
        ConfigurationError: if they do not fit the schema or hold a number JSON has no word for.
    """
    validate_results(results)
    path = Path(path)
    try:
        text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"results cannot be written as JSON: {error}", path=path) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text + "\n")


def read_results(path: str | os.PathLike[str]) -> Results:
    """Read and check a results file.

    Raises:
        ConfigurationError: if it is absent, no JSON, or does not fit the schema.
    """
    path = Path(path)
    try:
        return validate_results(read_json(path))
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path=path, value=error.value) from None


FILE = "published_rows.yaml"


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One published macro AUROC.

    Attributes:
        model: As the source calls it.
        benchmark: Benchmark here.
        head: Head here.
        fraction: Label fraction; 0 for zero-shot.
        macro_auroc: In [0, 1].
        ci95: Its interval, if published.
        source: Where it is from.
        note: What one must know to read it.
        protocols: Protocols here that are the same; empty if none is known to be.
        folds: Train, validation and test folds.
        n_test: Test records, where they are known.
    """

    model: str
    benchmark: str
    head: str
    fraction: float
    macro_auroc: float
    ci95: tuple[float, float] | None
    source: str
    note: str
    protocols: tuple[str, ...]
    folds: tuple[str, str, str]
    n_test: int | None

    def as_dict(self) -> PublishedEntry:
        """For a results file."""
        return {
            "model": self.model,
            "benchmark": self.benchmark,
            "head": self.head,
            "fraction": self.fraction,
            "macro_auroc": self.macro_auroc,
            "ci95": [None, None] if self.ci95 is None else list(self.ci95),
            "source": f"{self.source}; {self.note}" if self.note else self.source,
        }


@cache
def published_rows() -> tuple[PublishedRow, ...]:
    """Every row on file."""
    text = (resources.files("ecg_hf.evaluation") / FILE).read_text(encoding="utf-8")
    rows = []
    for table in yaml.safe_load(text):
        for model, benchmarks in table["models"].items():
            for benchmark, given in benchmarks.items():
                values = given if isinstance(given, list) else [given]
                limits = table.get("intervals", {}).get(model, {}).get(benchmark)
                rows += [
                    PublishedRow(
                        model=model,
                        benchmark=benchmark,
                        head=table["head"],
                        fraction=float(fraction),
                        macro_auroc=round(value / 100.0, 6),
                        ci95=None if limits is None else (limits[0] / 100.0, limits[1] / 100.0),
                        source=table["source"],
                        note=table.get("note", ""),
                        protocols=tuple(table["protocols"]),
                        folds=tuple(map(str, table["folds"])),  # type: ignore[arg-type]
                        n_test=table.get("n_test", {}).get(benchmark),
                    )
                    for fraction, value in zip(table["fractions"], values, strict=True)
                ]
    return tuple(rows)


def comparable_rows(
    benchmark: str,
    protocol: str,
    head: str,
    fraction: float,
    n_test: int,
    folds: tuple[str | None, str | None, str | None] = (None, None, None),
) -> list[PublishedRow]:
    """Published rows of the same benchmark, protocol, head, label fraction, folds and number of test records.

    Args:
        benchmark: Name of the benchmark.
        protocol: Name of the protocol.
        head: Name of the head.
        fraction: Label fraction.
        n_test: Records we scored.
        folds: Folds that replaced the protocol's, ``None`` where they did not.
    """
    return [
        row
        for row in published_rows()
        if (row.benchmark, row.head) == (benchmark, head)
        and protocol in row.protocols
        and abs(row.fraction - fraction) < 1e-9
        and row.n_test in (None, n_test)
        and all(
            asked is None or parse_folds(asked) == parse_folds(theirs)
            for asked, theirs in zip(folds, row.folds, strict=True)
        )
    ]
