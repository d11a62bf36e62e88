"""What a study leaves for readers: one table, one results file, one figure per benchmark."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, cast

from ecg_hf.evaluation.figures import plot_results
from ecg_hf.evaluation.results import Results, read_results
from ecg_hf.evaluation.summary import PRETRAINED, compare_results
from ecg_hf.evaluation.tables import (
    Table,
    evaluation_table,
    format_interval,
    format_percent,
    markdown_table,
)
from ecg_hf.files import write_whole
from ecg_hf.models.registry import get_method
from ecg_hf.plotting.style import save_figure
from ecg_hf.studies.study import Arm, Study

__all__ = ["CellResult", "write_report"]

_PARTS = ("evaluation", "zero_shot")


@dataclass(frozen=True)
class CellResult:
    """A finished cell: its arm and seed, its folder and its account."""

    arm: Arm
    seed: int
    folder: Path
    account: dict[str, Any]

    def label(self, seeds: int) -> str:
        """As the table calls it."""
        return self.arm.label if seeds == 1 else f"{self.arm.label}, seed {self.seed}"


def write_report(folder: Path, study: Study, cells: Sequence[CellResult]) -> dict[str, Any]:
    """Write ``results.json``, ``table.md`` and ``figures/BENCHMARK.png``.

    Args:
        folder: Of the study.
        study: What was asked.
        cells: Those that are done.

    Returns:
        The content of ``results.json``: ``rows`` are summary rows with ``label``, ``method``, ``variant`` and
        ``pretrain_seed``.
    """
    rows = [row for cell in cells for row in _rows(cell)]
    content = {
        "study": study.name,
        "title": study.title,
        "rows": rows,
        "paired": _paired(study, cells),
        "cells": [
            {
                "label": cell.arm.label,
                "pretrain_seed": cell.seed,
                **{k: v for k, v in cell.account.items() if k != "key"},
            }
            for cell in cells
        ],
    }
    write_whole(folder / "results.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    write_whole(folder / "table.md", _markdown(study, cells, content))
    for benchmark in study.benchmarks:
        shown = _results(study, cells, benchmark)
        if shown["summary"]:
            (folder / "figures").mkdir(exist_ok=True)
            figure = plot_results(shown, benchmark, title=f"{study.title}: {benchmark}")
            save_figure(figure, folder / "figures" / f"{benchmark}.png")
    return content


def _found(cell: CellResult) -> Iterable[Results]:
    """What the cell's evaluations found."""
    for part in _PARTS:
        path = cell.folder / part / "results.json"
        if path.is_file():
            yield read_results(path)


def _rows(cell: CellResult) -> Iterable[dict[str, Any]]:
    about = {
        "label": cell.arm.label,
        "method": cell.arm.method,
        "variant": cell.arm.variant,
        "pretrain_seed": cell.seed,
    }
    for found in _found(cell):
        for row in found.get("summary", []):
            yield {**row, **about}


def _results(study: Study, cells: Sequence[CellResult], benchmark: str) -> Results:
    """All cells' rows of a benchmark as one evaluation's, by family, so that its table and figure serve them too."""
    summary: list[dict[str, Any]] = []
    probe = [row for cell in cells for found in _found(cell) for row in found["probe"]]
    order = sorted(cells, key=lambda cell: (get_method(cell.arm.method).family, cell.arm.method, cell.seed))
    for cell in order:
        label = cell.label(len(study.seeds))
        names = {PRETRAINED: label, "untrained": f"{label}, untrained"}
        for row in _rows(cell):
            if row["benchmark"] == benchmark:
                summary.append({**row, "encoder": names.get(row["encoder"], row["encoder"])})
    return cast(Results, {"summary": summary, "probe": probe, "paired": [], "published": []})


def _paired(study: Study, cells: Sequence[CellResult]) -> list[dict[str, Any]]:
    """Each cell against the arm that the study compares with, of the same pretraining seed."""
    if study.compare_with is None:
        return []
    found = []
    reference = {cell.seed: cell for cell in cells if cell.arm.label == study.compare_with}
    for cell in cells:
        against = reference.get(cell.seed)
        if against is None or cell.arm.label == study.compare_with:
            continue
        first, second = (one.folder / "evaluation" / "results.json" for one in (against, cell))
        found += [
            {"first_label": study.compare_with, "second_label": cell.arm.label, "pretrain_seed": cell.seed,
             **comparison.as_dict()}
            for comparison in compare_results(first, second)
        ]  # fmt: skip
    return found


def _markdown(study: Study, cells: Sequence[CellResult], content: dict[str, Any]) -> str:
    parts = [f"# {study.title}", ""]
    lines = [
        (
            cell.label(len(study.seeds)), cell.arm.method, cell.arm.variant, f"{cell.account['parameters']:,}",
            f"{cell.account['steps']:,}", f"{cell.account['records']['train']:,}",
        )
        for cell in cells
    ]  # fmt: skip
    parts += [
        markdown_table(
            Table(
                ("Row", "Method", "Variant", "Parameters", "Steps", "Training records"),
                tuple(lines),
                (False, False, False, True, True, True),
            )
        ),
        "",
    ]
    for benchmark in study.benchmarks:
        shown = _results(study, cells, benchmark)
        if shown["summary"]:
            table = evaluation_table(shown, benchmark)
            kept = table.header[:-2]
            parts += [f"## {benchmark}", ""]
            parts += [
                markdown_table(Table(kept, tuple(row[:-2] for row in table.rows), table.numeric[:-2])),
                "",
            ]
    if len(study.seeds) > 1:
        parts += ["## Means over pretraining seeds", "", markdown_table(_means(content["rows"])), ""]
    if content["paired"]:
        parts += [
            f"## {study.compare_with} minus each",
            "",
            markdown_table(_differences(content["paired"])),
            "",
        ]
    parts += [
        "Text towers are trained from scratch on the reports of the training records, unless a recipe names one.",
        "",
    ]
    return "\n".join(parts)


def _means(rows: Sequence[dict[str, Any]]) -> Table:
    groups: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for row in rows:
        if row["encoder"] == PRETRAINED and row["macro_auroc"] is not None:
            groups[row["benchmark"], row["label"], row["head"], row["fraction"]].append(row["macro_auroc"])
    lines = [
        (
            *(str(part) for part in place[:3]),
            format_percent(place[3]),
            str(len(values)),
            f"{fmean(values):.3f}",
            f"{stdev(values):.3f}" if len(values) > 1 else "",
        )
        for place, values in sorted(groups.items())
    ]
    header = ("Benchmark", "Row", "Head", "Labels", "Seeds", "Macro AUROC", "SD")
    return Table(header, tuple(lines), (False, False, False, True, True, True, True))


def _differences(paired: Sequence[dict[str, Any]]) -> Table:
    lines = [
        (
            one["benchmark"], one["second_label"], one["heads"][1], format_percent(one["fraction"]),
            str(one["pretrain_seed"]), format_interval(one["difference"], one["ci95"]),
            "" if one["p_delong"] is None else f"{one['p_delong']:.3f}",
        )
        for one in paired
    ]  # fmt: skip
    header = ("Benchmark", "Row", "Head", "Labels", "Seed", "Difference [95 % interval]", "p (DeLong)")
    return Table(header, tuple(lines), (False, False, False, True, True, True, True))
