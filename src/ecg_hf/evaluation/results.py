"""``results.json``: what an evaluation found, checked when written and when read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.metrics import MacroScore
from ecg_hf.evaluation.zero_shot import ZeroShotResult

__all__ = [
    "ClassRow",
    "PairedRow",
    "ProbeRow",
    "Results",
    "SummaryRow",
    "ZeroShotRow",
    "class_rows",
    "read_results",
    "validate_results",
    "write_results",
    "zero_shot_row",
]


class ClassRow(TypedDict):
    """One class of a scored test set; ``auroc`` is null where it is undefined or the class was excluded."""

    name: str
    auroc: float | None
    ci95: list[float | None]
    auprc: float | None
    n: int
    positives: int
    excluded: str
    train_positives: NotRequired[int]


class ProbeRow(TypedDict):
    """One probe: an encoder at a label fraction.

    ``head`` is ``linear`` (also where it is absent) or ``attention``. Of a linear probe ``c`` is the chosen
    regularisation, of an attention probe ``epoch`` the chosen one of ``epochs``.

    ``macro_auroc`` is the mean over the classes that could be learnt and scored (all but ``undefined``).
    ``macro_auroc_unlearnt_at_chance`` also counts the classes that had no training positive, at 0.5: the figure
    to set beside published ones, which score a constant output that way.
    """

    encoder: str
    fraction: float
    macro_auroc: float | None
    ci95: list[float | None]
    n_train: int
    n_test: int
    positives: dict[str, int]
    benchmark: NotRequired[str]
    protocol: NotRequired[str]
    head: NotRequired[str]
    solver: NotRequired[str]
    aggregation: NotRequired[str]
    seed: NotRequired[int]
    cell: NotRequired[str]
    macro_auroc_unlearnt_at_chance: NotRequired[float | None]
    macro_auprc: NotRequired[float | None]
    macro_ece: NotRequired[float | None]
    macro_brier: NotRequired[float | None]
    n_validation: NotRequired[int]
    c: NotRequired[float]
    c_at_edge: NotRequired[bool]
    converged: NotRequired[bool]
    epoch: NotRequired[int]
    epochs: NotRequired[int]
    resampled: NotRequired[str]
    undefined: NotRequired[list[str]]
    classes: NotRequired[list[ClassRow]]


class PairedRow(TypedDict):
    """Difference of two encoders' macro AUROC on the same resamples, ``first - second``."""

    first: str
    second: str
    fraction: float
    difference: float | None
    ci95: list[float | None]
    p_value: float | None
    benchmark: NotRequired[str]
    head: NotRequired[str]
    second_head: NotRequired[str]
    seed: NotRequired[int]
    n_seeds: NotRequired[int]
    p_delong: NotRequired[float | None]


class SummaryRow(TypedDict):
    """One encoder at a benchmark, head and label fraction, averaged over seeds.

    ``ci95`` is the sampling interval of that mean over test records, ``sd`` the spread over seeds (null for one).
    """

    encoder: str
    benchmark: str
    protocol: str
    head: str
    fraction: float
    seeds: list[int]
    macro_auroc: float | None
    sd: float | None
    ci95: list[float | None]
    n_train: int
    n_test: int
    n_classes: int
    solver: str


class ZeroShotRow(TypedDict):
    """Zero-shot scores of a test set."""

    macro_auroc: float | None
    ci95: list[float | None]
    n_test: NotRequired[int]
    positives: NotRequired[dict[str, int]]
    benchmark: NotRequired[str]
    macro_auprc: NotRequired[float | None]
    resampled: NotRequired[str]
    undefined: NotRequired[list[str]]
    classes: NotRequired[list[ClassRow]]
    prompts: NotRequired[dict[str, str]]


class Results(TypedDict):
    """All of one evaluation; ``timings`` in seconds, ``zero_shot`` for methods with text alone."""

    dataset: str
    probe: list[ProbeRow]
    timings: dict[str, float]
    zero_shot: NotRequired[ZeroShotRow | None]
    paired: NotRequired[list[PairedRow]]
    synthetic: NotRequired[bool]
    model: NotRequired[str]
    summary: NotRequired[list[SummaryRow]]
    published: NotRequired[list[dict[str, Any]]]
    leaks: NotRequired[dict[str, Any]]
    splits: NotRequired[dict[str, Any]]
    reports: NotRequired[list[dict[str, Any]]]
    curves: NotRequired[list[dict[str, Any]]]
    notes: NotRequired[list[str]]
    settings: NotRequired[dict[str, Any]]


def finite(value: float | None) -> float | None:
    """``value``, or None (JSON's null) where it is not a finite number."""
    return None if value is None or not math.isfinite(value) else float(value)


def class_rows(
    score: MacroScore, intervals: Iterable[Any], train_positives: Mapping[str, int] | None = None
) -> list[ClassRow]:
    """Rows of every class, from their scores and their :class:`~ecg_hf.evaluation.bootstrap.Interval` s."""
    rows: list[ClassRow] = []
    for one, interval in zip(score.classes, intervals, strict=True):
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
        rows.append(row)
    return rows


def zero_shot_row(result: ZeroShotResult, *, benchmark: str | None = None) -> ZeroShotRow:
    """The ``zero_shot`` entry of a results file."""
    score, macro = result.score, result.bootstrap.macro
    row = ZeroShotRow(
        macro_auroc=score.macro_auroc,
        ci95=[finite(macro.low), finite(macro.high)],
        n_test=score.n,
        positives=score.positives,
        macro_auprc=score.macro_auprc,
        resampled=result.bootstrap.unit,
        undefined=list(score.undefined),
        classes=class_rows(score, result.bootstrap.classes),
        prompts=result.prompts,
    )
    if benchmark is not None:
        row["benchmark"] = benchmark
    return row


def validate_results(content: Any) -> Results:
    """Check the schema of a results object.

    Returns:
        The object itself.

    Raises:
        ConfigurationError: naming the entry that is wrong.
    """
    if not isinstance(content, dict):
        raise ConfigurationError("results must be an object")
    _need(content, "results", {"dataset": str, "probe": list, "timings": dict})
    for name, seconds in content["timings"].items():
        if not _is_number(seconds) or seconds < 0:
            raise ConfigurationError(f"timings.{name} must be seconds, got {seconds!r}", value=seconds)
    for i, row in enumerate(content["probe"]):
        where = f"probe[{i}]"
        _need(row, where, {"encoder": str, "n_train": int, "n_test": int, "positives": dict})
        fraction = row.get("fraction")
        untrained = fraction == 0 and row.get("head") == "zero-shot"
        if not untrained and (not _is_number(fraction) or not 0 < fraction <= 1):
            raise ConfigurationError(f"{where}.fraction must lie in (0, 1], got {fraction!r}", value=fraction)
        _check_score(row, where)
        for name, count in row["positives"].items():
            if not isinstance(count, int) or not 0 <= count <= row["n_test"]:
                raise ConfigurationError(f"{where}.positives.{name} must be a count, got {count!r}")
    if content.get("zero_shot") is not None:
        _need(content["zero_shot"], "zero_shot", {})
        _check_score(content["zero_shot"], "zero_shot")
    for i, row in enumerate(content.get("paired", [])):
        _need(row, f"paired[{i}]", {"first": str, "second": str, "ci95": list})
    return cast(Results, content)


def _need(row: Any, where: str, fields: Mapping[str, type]) -> None:
    if not isinstance(row, dict):
        raise ConfigurationError(f"{where} must be an object")
    for name, kind in fields.items():
        if not isinstance(row.get(name), kind) or isinstance(row.get(name), bool):
            raise ConfigurationError(f"{where}.{name} must be a {kind.__name__}, got {row.get(name)!r}")


def _check_score(row: Mapping[str, Any], where: str) -> None:
    value = row.get("macro_auroc", "")
    if value is not None and not (_is_number(value) and 0 <= value <= 1):
        raise ConfigurationError(f"{where}.macro_auroc must lie in [0, 1] or be null, got {value!r}")
    limits = row.get("ci95")
    if not isinstance(limits, list) or len(limits) != 2:
        raise ConfigurationError(f"{where}.ci95 must be [low, high], got {limits!r}")
    if None not in limits and not (all(map(_is_number, limits)) and limits[0] <= limits[1]):
        raise ConfigurationError(f"{where}.ci95 must be [low, high], got {limits!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


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
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_results(path: str | os.PathLike[str]) -> Results:
    """Read and check a results file.

    Raises:
        ConfigurationError: if it is absent, no JSON, or does not fit the schema.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError("cannot read the results", path=path) from error
    except ValueError as error:
        raise ConfigurationError("results must be JSON", path=path) from error
    try:
        return validate_results(content)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path=path, value=error.value) from error
