"""The results table as a picture: the numbers, and beside them their intervals on one scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.results import Results
from ecg_hf.evaluation.tables import (
    UNDEFINED,
    format_difference,
    format_percent,
    interval_cell,
    results_table,
)
from ecg_hf.plotting.style import INK, MUTED, PALETTE, RULE, figure_in_mm

__all__ = ["plot_results"]

ROW_MM = 7.0
HEAD_MM = 15.0
# Column -> (right or left edge in mm, alignment)
COLUMNS: tuple[tuple[str, float, str], ...] = (
    ("Protocol", 4.0, "left"),
    ("Encoder", 29.0, "left"),
    ("Labels", 63.0, "right"),
    ("n train", 79.0, "right"),
    ("n test", 95.0, "right"),
    ("Classes", 114.0, "right"),
    ("Macro AUROC [95 % interval]", 163.0, "right"),
)
PLOT_MM = (172.0, 236.0)
WIDTH_MM = 242.0


def plot_results(results: Results, *, title: str = "") -> Figure:
    """Draw one line per encoder and label fraction, and zero-shot, with intervals as bars.

    Args:
        results: A checked results object.
        title: Stands above; the dataset's name by default.

    Raises:
        ConfigurationError: if there is no row to draw.
    """
    lines: list[tuple[tuple[str, ...], float | None, list[float | None], str]] = [
        (
            (
                _probe_title(row),
                row["encoder"],
                format_percent(row["fraction"]),
                f"{row['n_train']:,}",
                f"{row['n_test']:,}",
                _classes(row),
                interval_cell(row),
            ),
            row["macro_auroc"],
            row["ci95"],
            row["encoder"],
        )
        for row in sorted(results["probe"], key=lambda row: row["fraction"])
    ]
    zero_shot = results.get("zero_shot")
    if zero_shot is not None:
        n_test = zero_shot.get("n_test")
        zero_shot_cells = (
            "zero-shot", "pretrained", "0 %", "0", "" if n_test is None else f"{n_test:,}", _classes(zero_shot),
            interval_cell(zero_shot),
        )  # fmt: skip
        lines.insert(0, (zero_shot_cells, zero_shot["macro_auroc"], zero_shot["ci95"], "pretrained"))
    if not lines:
        raise ConfigurationError("there are no results to draw")
    notes = [*_differences(results), *results_table(results).notes]
    wrapped = [part for note in notes for part in _wrap(note)]
    height = HEAD_MM + 8.0 + ROW_MM * len(lines) + 9.0 + 4.2 * len(wrapped) + 3.0
    figure = figure_in_mm(WIDTH_MM, height)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0.0, WIDTH_MM), ylim=(0.0, height))
    axes.set_axis_off()

    axes.text(4.0, height - 8.0, title or results["dataset"], fontsize=11, color=INK, va="baseline")
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


def _differences(results: Results) -> list[str]:
    """One sentence per pair of encoders: the paired difference at every fraction."""
    by_pair: dict[tuple[str, str], list[str]] = {}
    for pair in results.get("paired", []):
        text = f"{format_difference(pair)} at {format_percent(pair['fraction'])}"
        by_pair.setdefault((pair["first"], pair["second"]), []).append(text)
    return [f"Paired difference, {a} minus {b}: {', '.join(texts)}." for (a, b), texts in by_pair.items()]


def _probe_title(row: Any) -> str:
    head = row.get("head", "linear")
    return head if head in ("supervised", "finetune", "zero-shot") else f"{head} probe"


def _classes(row: Any) -> str:
    counts = row.get("positives")
    if not counts:
        return ""
    return f"{len(counts) - len(row.get('undefined', []))} of {len(counts)}"


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
