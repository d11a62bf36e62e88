"""``ecg-hf list``: models, data sources, benchmarks and files that launch runs."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ecg_hf.cli.output import print_json, print_table

__all__ = ["list_command"]


class Kind(StrEnum):
    """What can be listed."""

    models = "models"
    datasets = "datasets"
    benchmarks = "benchmarks"
    launchers = "launchers"
    pretrained = "pretrained"


def _models() -> list[dict[str, Any]]:
    from ecg_hf.models.registry import METHODS

    return [
        {
            "name": spec.name,
            "title": spec.title,
            "paper": spec.paper_name,
            "official_code": spec.official_code,
            "status": spec.status,
            "multimodal": spec.multimodal,
            "pretrainable": spec.pretrainable,
            "leads": list(spec.leads),
            "sizes": list(spec.sizes),
            "variants": list(spec.load("config").variants),
        }
        for spec in METHODS.values()
    ]


def _datasets() -> list[dict[str, Any]]:
    from dataclasses import asdict

    from ecg_hf.data import list_sources

    return [asdict(info) for info in list_sources()]


def _benchmarks() -> list[dict[str, Any]]:
    from dataclasses import asdict

    from ecg_hf.evaluation.benchmark_data import BENCHMARKS

    return [asdict(benchmark) for benchmark in BENCHMARKS.values()]


def _launchers() -> list[dict[str, Any]]:
    from ecg_hf.training.distributed import list_launch_configs

    return [
        {"name": name, "start": _first_comment(path), "path": str(path)}
        for name, path in list_launch_configs().items()
    ]


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(line[2:] for line in lines if line.startswith("# "))


def _pretrained() -> list[dict[str, Any]]:
    from ecg_hf.hub.fetching import list_all_pretrained

    return list_all_pretrained()


_LISTS: dict[Kind, tuple[Callable[[], list[dict[str, Any]]], tuple[str, ...]]] = {
    Kind.models: (_models, ("name", "paper", "title")),
    Kind.datasets: (_datasets, ("name", "title")),
    Kind.benchmarks: (_benchmarks, ("name", "description")),
    Kind.launchers: (_launchers, ("name", "start", "path")),
    Kind.pretrained: (_pretrained, ("name", "origin", "task", "licence", "trained_on")),
}


def list_command(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print all details as a JSON array.")] = False,
) -> None:
    """List models, data sources, benchmarks, files that launch runs, or the pretrained models that ship."""
    collect, columns = _LISTS[kind]
    rows = collect()
    if as_json:
        print_json(rows)
    else:
        print_table(rows, columns)
