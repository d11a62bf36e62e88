"""Facts of a training run for the card: its data, settings, device and time."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from ecg_hf.data.report import BuildReport
from ecg_hf.data.sources import SOURCES
from ecg_hf.documents import Count, Range, check, read_json
from ecg_hf.errors import DatasetBuildError, ModelFolderError
from ecg_hf.escaping import markdown_code
from ecg_hf.training.settings import REPORT_FILE

__all__ = ["RunFacts", "facts_of", "run_facts"]

ARGUMENTS_FILE = "training_args.json"
EMISSIONS_FILE = "emissions.csv"
"""Written by codecarbon if it is installed."""

_SETTINGS = {
    "learning_rate": "peak learning rate",
    "lr_scheduler_type": "learning-rate schedule",
    "weight_decay": "weight decay",
    "optim": "optimiser",
    "seed": "seed",
}


class Part(TypedDict):
    """One dataset in the report of a run."""

    source: str
    path: NotRequired[str | None]
    train: NotRequired[Count | None]
    validation: NotRequired[Count | None]
    left_out: NotRequired[dict[str, Count] | None]


class Account(TypedDict):
    """The fields of ``pretrain_report.json`` that a card shows."""

    steps: NotRequired[Count]
    seconds: NotRequired[Annotated[float, Range(0)]]
    resumed_from: NotRequired[Count | None]
    device: NotRequired[str]
    processes: NotRequired[Count | None]
    versions: NotRequired[dict[str, str] | None]
    records: NotRequired[dict[str, Count] | None]
    datasets: NotRequired[list[Part] | None]
    evaluation: NotRequired[dict[str, Any] | None]


class Arguments(TypedDict):
    """The fields of ``training_args.json`` that a card shows."""

    per_device_train_batch_size: NotRequired[Count | None]
    gradient_accumulation_steps: NotRequired[Count | None]
    learning_rate: NotRequired[float | None]
    lr_scheduler_type: NotRequired[str | None]
    weight_decay: NotRequired[float | None]
    optim: NotRequired[str | None]
    seed: NotRequired[int | None]
    bf16: NotRequired[bool | None]
    fp16: NotRequired[bool | None]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Facts of a run, ready for a card; fields as in :class:`~ecg_hf.hub.card_context.CardContext`."""

    dataset: str
    data_licence: str
    data: dict[str, str]
    training: dict[str, str]
    emissions_g: float | None
    synthetic: bool


def run_facts(folder: Path) -> RunFacts | None:
    """Facts of the finished run in a folder; None if it has no report of one.

    Raises:
        ModelFolderError: if the report can't be read.
    """
    report, arguments = folder / REPORT_FILE, folder / ARGUMENTS_FILE
    if not report.is_file():
        return None
    account = read_json(report, Account, error=ModelFolderError)
    given = read_json(arguments, dict[str, Any], error=ModelFolderError) if arguments.is_file() else {}
    return facts_of(account, given, folder)


def facts_of(account: Mapping[str, Any], arguments: Mapping[str, Any], folder: Path) -> RunFacts:
    """Facts of a run.

    Args:
        account: As ``pretrain_report.json``: ``steps``, ``seconds``, ``resumed_from``, ``device``, ``processes``,
            ``versions``, ``records``, ``datasets``, ``evaluation``; missing fields are left out.
        arguments: Training arguments, as plain data.
        folder: The run's folder, for measured emissions.

    Raises:
        ModelFolderError: if a field of either is not what it should be.
    """
    account = check(account, Account, error=ModelFolderError, path=folder / REPORT_FILE)
    arguments = check(
        {name: arguments[name] for name in Arguments.__annotations__ if name in arguments},
        Arguments,
        error=ModelFolderError,
        path=folder / ARGUMENTS_FILE,
    )
    parts = list(account.get("datasets") or [])
    sources = [
        SOURCES[name].info for name in dict.fromkeys(part["source"] for part in parts) if name in SOURCES
    ]
    grams = _emissions(folder / EMISSIONS_FILE)
    return RunFacts(
        dataset=", ".join(dict.fromkeys(part["source"] for part in parts)) or "not stated",
        data_licence="; ".join(f"{info.name}: {info.licence}" for info in sources)
        if len(sources) > 1
        else (sources[0].licence if sources else "not stated"),
        data=_data_lines(parts),
        training=_training_lines(account, arguments, grams),
        emissions_g=grams,
        synthetic=bool(parts) and all(part["source"] == "synthetic" for part in parts),
    )


def _data_lines(parts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    lines: dict[str, str] = {}
    for part in parts:
        source = part["source"]
        title = SOURCES[source].info.title if source in SOURCES else source
        counts = [
            f"{part[split]:,} records for {split}" for split in ("train", "validation") if part.get(split)
        ]
        left_out = [f"{count:,} {reason}" for reason, count in (part.get("left_out") or {}).items() if count]
        left_out += _dropped_when_built(part.get("path"))
        text = f"{title}; {', '.join(counts)}" if counts else title
        lines[markdown_code(source)] = text + (f"; left out: {', '.join(left_out)}" if left_out else "")
    return lines


def _dropped_when_built(path: str | None) -> list[str]:
    """Recordings the builder left out, by reason; their names stay private."""
    if path is None:
        return []
    try:
        report = BuildReport.load(path)
    except DatasetBuildError:
        return []
    return [f"{count:,} {reason} of {report.seen:,}" for reason, count in report.dropped.items()]


def _training_lines(
    account: Mapping[str, Any], arguments: Mapping[str, Any], grams: float | None
) -> dict[str, str]:
    lines: dict[str, str] = {}
    counts = account.get("records") or {}
    used = [f"{counts[split]:,} for {split}" for split in ("train", "validation") if counts.get(split)]
    if used:
        lines["records"] = ", ".join(used)
    if "steps" in account:
        lines["optimiser steps"] = f"{account['steps']:,}"
    batch = arguments.get("per_device_train_batch_size")
    processes = int(account.get("processes") or 1)
    if batch:
        micro = int(arguments.get("gradient_accumulation_steps") or 1)
        lines["records per step"] = f"{batch * micro * processes:,} ({processes} x {micro} x {batch})"
    for name, title in _SETTINGS.items():
        if arguments.get(name) is not None:
            value = arguments[name]
            lines[title] = f"{value:g}" if isinstance(value, float) else str(value)
    if arguments:
        half = [name for name in ("bf16", "fp16") if arguments.get(name)]
        lines["precision"] = f"{half[0]} mixed" if half else "float32"
    for name, value in (account.get("evaluation") or {}).items():
        if name == "eval_loss" and isinstance(value, float):
            lines["loss on validation records"] = f"{value:.4g}"
    if "seconds" in account:
        lines["time"] = _time(float(account["seconds"]), int(account.get("resumed_from") or 0))
    if "device" in account:
        lines["device"] = f"{processes} x {account['device']}"
    lines["emissions"] = "not measured" if grams is None else f"{grams:.3g} g CO2 equivalent (codecarbon)"
    if account.get("versions"):
        lines["versions"] = ", ".join(f"{name} {number}" for name, number in account["versions"].items())
    return lines


def _time(seconds: float, resumed_from: int) -> str:
    if seconds >= 3600:
        text = f"{seconds / 3600:.1f} hours"
    elif seconds >= 120:
        text = f"{seconds / 60:.0f} minutes"
    else:
        text = f"{seconds:.0f} s"
    return f"{text} since step {resumed_from:,}; what came before was not counted" if resumed_from else text


def _emissions(path: Path) -> float | None:
    """Grams in a file of codecarbon; None if it is missing or can't be read."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return 1000 * sum(float(row["emissions"]) for row in csv.DictReader(file))
    except (OSError, ValueError, KeyError, TypeError):
        return None
