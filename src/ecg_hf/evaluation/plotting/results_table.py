"""The results table as a picture: the numbers, and beside them their intervals on one scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.results import Results
from ecg_hf.evaluation.tables import (
    UNDEFINED,
    evaluation_notes,
    format_difference,
    format_percent,
    interval_cell,
)
from ecg_hf.plotting.style import INK, MUTED, PALETTE, RULE, figure_in_mm

__all__ = ["plot_results"]

ROW_MM = 7.0
HEAD_MM = 15.0
# Column -> (right or left edge in mm, alignment)
COLUMNS: tuple[tuple[str, float, str], ...] = (
    ("Head", 4.0, "left"),
    ("Encoder", 29.0, "left"),
    ("Labels", 63.0, "right"),
    ("n train", 79.0, "right"),
    ("n test", 95.0, "right"),
    ("Classes", 114.0, "right"),
    ("Macro AUROC [95 % interval]", 163.0, "right"),
)
PLOT_MM = (172.0, 236.0)
WIDTH_MM = 242.0


def plot_results(results: Results, benchmark: str, *, title: str = "") -> Figure:
    """Draw one line per encoder, head and label fraction of a benchmark, with intervals as bars.

    Args:
        results: Of an evaluation, with a ``summary``.
        benchmark: Name of the benchmark.
        title: Stands above; the benchmark's name by default.

    Raises:
        ConfigurationError: if there is no row to draw.
    """
    rows = [row for row in results.get("summary", []) if row["benchmark"] == benchmark]
    lines = [
        (
            (
                row["head"],
                row["encoder"],
                format_percent(row["fraction"]),
                f"{row['n_train']:,}",
                f"{row['n_test']:,}",
                str(row["n_classes"]),
                interval_cell(row),
            ),
            row["macro_auroc"],
            row["ci95"],
            row["encoder"],
        )
        for row in sorted(rows, key=lambda row: row["fraction"])
    ]
    if not lines:
        raise ConfigurationError("there are no results to draw")
    notes = [*_differences(results, benchmark), *evaluation_notes(results)]
    wrapped = [part for note in notes for part in _wrap(note)]
    height = HEAD_MM + 8.0 + ROW_MM * len(lines) + 9.0 + 4.2 * len(wrapped) + 3.0
    figure = figure_in_mm(WIDTH_MM, height)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0.0, WIDTH_MM), ylim=(0.0, height))
    axes.set_axis_off()

    axes.text(4.0, height - 8.0, title or benchmark, fontsize=11, color=INK, va="baseline")
    header = height - HEAD_MM - 3.0
    for name, x, side in COLUMNS:
        axes.text(x, header, name, fontsize=8, color=MUTED, ha=side, va="baseline")
    axes.plot([4.0, WIDTH_MM - 4.0], [header - 2.5] * 2, color=INK, linewidth=0.8)

    known = [v for _, value, limits, _ in lines for v in (value, *limits) if v is not None]
    low, high = _scale(known)
    encoders = list(dict.fromkeys(encoder for *_, encoder in lines))
    colour = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(_pretrained_first(encoders))}
    bottom = header - 4.0 - ROW_MM * len(lines)
    _scale_marks(axes, low, high, bottom, header - 2.5)
    previous = ""
    for i, (cells, value, limits, encoder) in enumerate(lines):
        y = header - 4.0 - ROW_MM * (i + 0.5)
        if previous and cells[2] != previous:
            axes.plot([4.0, WIDTH_MM - 4.0], [y + ROW_MM / 2] * 2, color=RULE, linewidth=0.6, zorder=1)
        previous = cells[2]
        for (name, x, side), cell in zip(COLUMNS, cells, strict=True):
            faint = cell == UNDEFINED
            ink = colour[encoder] if name == "Encoder" else MUTED if faint else INK
            axes.text(x, y, cell, fontsize=8.5, color=ink, ha=side, va="center_baseline")
        _bar(axes, value, limits, y, low, high, colour[encoder])
    for i, note in enumerate(wrapped):
        axes.text(4.0, bottom - 11.0 - 4.2 * i, note, fontsize=7.5, color=MUTED, va="baseline")
    return figure


def _differences(results: Results, benchmark: str) -> list[str]:
    """One sentence per pair of rows: the paired difference at every fraction."""
    by_pair: dict[str, list[str]] = {}
    for pair in results.get("paired", []):
        if pair.get("benchmark", benchmark) == benchmark:
            heads = dict.fromkeys(pair[name] for name in ("head", "second_head") if name in pair)
            text = f"{format_difference(pair)} at {format_percent(pair['fraction'])}"
            title = f"{pair['first']} minus {pair['second']} ({' and '.join(heads)})"
            by_pair.setdefault(title, []).append(text)
    return [f"Paired difference, {title}: {', '.join(texts)}." for title, texts in by_pair.items()]


def _pretrained_first(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: (name != "pretrained", names.index(name)))


def _wrap(text: str, width: int = 150) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) or [""]


def _scale(values: list[float]) -> tuple[float, float]:
    """A range with 0.5 or a round number at its left end."""
    if not values:
        return 0.5, 1.0
    low = np.floor((min(values) - 0.01) * 20) / 20
    return float(max(0.0, min(low, 0.9))), 1.0


def _x(value: float, low: float, high: float) -> float:
    left, right = PLOT_MM
    return left + (right - left) * (value - low) / (high - low)


def _scale_marks(axes: Any, low: float, high: float, bottom: float, top: float) -> None:
    step = 0.1 if high - low > 0.3 else 0.05
    for value in np.arange(np.ceil(low / step - 1e-9) * step, high + 1e-9, step):
        chance = abs(value - 0.5) < 1e-9
        x = _x(float(value), low, high)
        style = (0, (3, 2)) if chance else "solid"
        axes.plot(
            [x, x], [bottom, top], color=MUTED if chance else RULE, linewidth=0.7, linestyle=style, zorder=1
        )
        axes.text(x, bottom - 3.8, f"{value:.1f}" if step == 0.1 else f"{value:.2f}", fontsize=7.5,
                  color=MUTED, ha="center", va="baseline")  # fmt: skip
        if chance:
            axes.text(x, bottom - 7.0, "chance", fontsize=7, color=MUTED, ha="center", va="baseline")


def _bar(
    axes: Any, value: float | None, limits: list[float | None], y: float, low: float, high: float, colour: str
) -> None:
    if value is None:
        return
    first, last = limits
    if first is not None and last is not None:
        axes.plot([_x(first, low, high), _x(last, low, high)], [y, y], color=colour, linewidth=2.0, alpha=0.55,
                  solid_capstyle="butt", zorder=3)  # fmt: skip
    axes.plot([_x(value, low, high)], [y], marker="o", markersize=4.5, color=colour, zorder=4)
