"""The results table as a picture: the numbers, and beside them their intervals on one scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ecg_hf.errors import ConfigurationError
from ecg_hf.escaping import printable
from ecg_hf.evaluation.results import Results
from ecg_hf.evaluation.robustness import CurvePoint
from ecg_hf.evaluation.tables import (
    UNDEFINED,
    evaluation_notes,
    format_difference,
    format_percent,
    interval_cell,
    positives_cell,
)
from ecg_hf.metrics.calibration import Reliability
from ecg_hf.metrics.ranking import check_known, known_auroc
from ecg_hf.plotting.style import INK, MUTED, PALETTE, RULE, calm_axes, figure_in_mm

__all__ = ["plot_reliability", "plot_results", "plot_robustness", "plot_roc", "roc_points"]

ROW_MM = 7.0
HEAD_MM = 15.0
# Column -> (right or left edge in mm, alignment)
TABLE_COLUMNS: tuple[tuple[str, float, str], ...] = (
    ("Head", 4.0, "left"),
    ("Encoder", 29.0, "left"),
    ("Labels", 63.0, "right"),
    ("n train", 79.0, "right"),
    ("n test", 95.0, "right"),
    ("Classes", 114.0, "right"),
    ("Positives", 135.0, "right"),
    ("Macro AUROC [95 % interval]", 184.0, "right"),
)
PLOT_MM = (193.0, 257.0)
WIDTH_MM = 263.0
ENCODER_X = 29.0
ENCODER_MM = 20.0
"""Room for the names of encoders; longer ones move everything to the right of them."""

UNTRAINED_SUFFIX = ", untrained"


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
                positives_cell(row),
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
    shift = max(0.0, _widest_mm([encoder for *_, encoder in lines]) - ENCODER_MM)
    width = WIDTH_MM + shift
    columns = [(name, x + shift * (x > ENCODER_X), side) for name, x, side in TABLE_COLUMNS]
    figure = figure_in_mm(width, height)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0.0, width), ylim=(0.0, height))
    axes.set_axis_off()

    axes.text(4.0, height - 8.0, title or benchmark, fontsize=11, color=INK, va="baseline")
    header = height - HEAD_MM - 3.0
    for name, x, side in columns:
        axes.text(x, header, name, fontsize=8, color=MUTED, ha=side, va="baseline")
    axes.plot([4.0, width - 4.0], [header - 2.5] * 2, color=INK, linewidth=0.8)

    known = [v for _, value, limits, _ in lines for v in (value, *limits) if v is not None]
    scale = _Scale(*_range(known), left=PLOT_MM[0] + shift, right=PLOT_MM[1] + shift)
    # A model's untrained row has its model's colour, where there are several models.
    own = {name: name.removesuffix(UNTRAINED_SUFFIX) for *_, name in lines}
    order = _pretrained_first(list(dict.fromkeys(own.values())))
    colour = {name: PALETTE[order.index(base) % len(PALETTE)] for name, base in own.items()}
    bottom = header - 4.0 - ROW_MM * len(lines)
    _scale_marks(axes, scale, bottom, header - 2.5)
    previous = ""
    for i, (cells, value, limits, encoder) in enumerate(lines):
        y = header - 4.0 - ROW_MM * (i + 0.5)
        if previous and cells[2] != previous:
            axes.plot([4.0, width - 4.0], [y + ROW_MM / 2] * 2, color=RULE, linewidth=0.6, zorder=1)
        previous = cells[2]
        for (name, x, side), cell in zip(columns, cells, strict=True):
            faint = cell == UNDEFINED
            ink = colour[encoder] if name == "Encoder" else MUTED if faint else INK
            axes.text(x, y, cell, fontsize=8.5, color=ink, ha=side, va="center_baseline")
        _bar(axes, value, limits, y, scale, colour[encoder], hollow=own[encoder] != encoder)
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


def _widest_mm(names: Sequence[str]) -> float:
    """Width of the widest of some names of encoders as they are drawn."""
    scratch = figure_in_mm(10.0, 10.0)
    texts = [scratch.text(0, 0, printable(name), fontsize=8.5, parse_math=False) for name in names]
    renderer = scratch.canvas.get_renderer()  # type: ignore[attr-defined]
    return max(25.4 * text.get_window_extent(renderer).width / scratch.dpi for text in texts)


def _range(values: list[float]) -> tuple[float, float]:
    """A range with 0.5 or a round number at its left end."""
    if not values:
        return 0.5, 1.0
    low = np.floor((min(values) - 0.01) * 20) / 20
    return float(max(0.0, min(low, 0.9))), 1.0


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where scores lie: ``low`` at ``left`` millimetres, ``high`` at ``right``."""

    low: float
    high: float
    left: float
    right: float

    def x(self, value: float) -> float:
        return self.left + (self.right - self.left) * (value - self.low) / (self.high - self.low)


def _scale_marks(axes: Any, scale: _Scale, bottom: float, top: float) -> None:
    step = 0.1 if scale.high - scale.low > 0.3 else 0.05
    for value in np.arange(np.ceil(scale.low / step - 1e-9) * step, scale.high + 1e-9, step):
        chance = abs(value - 0.5) < 1e-9
        x = scale.x(float(value))
        style = (0, (3, 2)) if chance else "solid"
        axes.plot(
            [x, x], [bottom, top], color=MUTED if chance else RULE, linewidth=0.7, linestyle=style, zorder=1
        )
        axes.text(x, bottom - 3.8, f"{value:.1f}" if step == 0.1 else f"{value:.2f}", fontsize=7.5,
                  color=MUTED, ha="center", va="baseline")  # fmt: skip
        if chance:
            axes.text(x, bottom - 7.0, "chance", fontsize=7, color=MUTED, ha="center", va="baseline")


def _bar(
    axes: Any,
    value: float | None,
    limits: list[float | None],
    y: float,
    scale: _Scale,
    colour: str,
    *,
    hollow: bool,
) -> None:
    if value is None:
        return
    first, last = limits
    if first is not None and last is not None:
        axes.plot([scale.x(first), scale.x(last)], [y, y], color=colour, linewidth=2.0, alpha=0.55,
                  solid_capstyle="butt", zorder=3)  # fmt: skip
    axes.plot([scale.x(value)], [y], marker="o", markersize=4.5, color=colour, zorder=4,
              markerfacecolor="white" if hollow else colour)  # fmt: skip


PANELS_A_ROW = 4
LEGEND_COLUMNS = 4


PANEL_MM = 44.0


def roc_points(
    truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """False and true positive rate at every distinct score, from (0, 0) to (1, 1); equal scores are one point.

    Args:
        truth: bool ``(records,)`` with both values.
        scores: float64 ``(records,)``.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true = hits[last] / hits[-1]
    false = (last + 1 - hits[last]) / (len(scores) - hits[-1])
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])


def plot_roc(
    labels: npt.ArrayLike,
    scores: Mapping[str, npt.ArrayLike],
    class_names: Sequence[str],
    *,
    title: str = "",
) -> Figure:
    """Draw the ROC curves of one model or several, a panel per class that is defined.

    Args:
        labels: 0, 1 or NaN ``(records, classes)``.
        scores: Model -> scores of the same shape; at most eight.
        class_names: Names of the classes, in column order.
        title: Stands above the panels.

    Raises:
        ConfigurationError: for arrays or names that do not fit, or if no class is defined.
    """
    if not 1 <= len(scores) <= len(PALETTE):
        raise ConfigurationError(f"1 to {len(PALETTE)} models can be drawn, got {len(scores)}")
    checked = {name: check_known(labels, values) for name, values in scores.items()}
    areas = {name: known_auroc(labels, values) for name, values in scores.items()}
    truth, known, _ = next(iter(checked.values()))
    if len(class_names) != truth.shape[1]:
        raise ConfigurationError(
            f"{len(class_names)} names for {truth.shape[1]} classes", value=tuple(class_names)
        )
    shown = np.flatnonzero(np.isfinite(next(iter(areas.values()))))
    if not len(shown):
        raise ConfigurationError("no class has both positive and negative records")
    columns = min(PANELS_A_ROW, len(shown))
    rows = math.ceil(len(shown) / columns)
    several = len(scores) > 1
    title_mm = 7.0 + 5.0 * title.count("\n") if title else 0.0
    head = title_mm + (2.5 + 4.5 * math.ceil(len(scores) / LEGEND_COLUMNS) if several else 0.0)
    figure = figure_in_mm(max(PANEL_MM * columns, 80.0), (PANEL_MM + 5.0) * rows + head + 4.0)
    grid = figure.subplots(rows, columns, squeeze=False)
    for position, axes in enumerate(grid.flat):
        if position >= len(shown):
            axes.set_axis_off()
            continue
        k = int(shown[position])
        calm_axes(axes)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.7, linestyle=(0, (4, 3)))
        for number, (name, (_, _, values)) in enumerate(checked.items()):
            kept = known[:, k]
            axes.plot(*roc_points(truth[kept, k], values[kept, k]), color=PALETTE[number], linewidth=1.2)
            axes.text(
                0.98, 0.04 + 0.11 * (len(scores) - 1 - number), f"{areas[name][k]:.3f}", transform=axes.transAxes,
                ha="right", va="bottom", fontsize=8, color=PALETTE[number],
            )  # fmt: skip
        positives = int((truth & known)[:, k].sum())
        axes.set_title(f"{class_names[k]} ({positives})", fontsize=8.5, color=INK, loc="left")
        axes.set(
            xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), aspect="equal"
        )
        if position + columns < len(shown):
            axes.set_xticklabels([])
        else:
            axes.set_xlabel("1 - specificity")
        if position % columns:
            axes.set_yticklabels([])
        else:
            axes.set_ylabel("sensitivity")
    height_mm = figure.get_figheight() * 25.4
    if several:
        handles = [
            grid.flat[0].plot([], [], color=PALETTE[i], linewidth=1.4, label=name)[0]
            for i, name in enumerate(scores)
        ]
        figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(0.01, 1.0 - (title_mm + 1.0) / height_mm),
            ncols=LEGEND_COLUMNS,
            frameon=False, fontsize=8, labelcolor=INK, handlelength=1.4, borderaxespad=0.0,
        )  # fmt: skip
    if title:
        figure.text(0.02, 1.0 - 2.0 / height_mm, title, fontsize=10, color=INK, va="top")
    figure.tight_layout(rect=(0.0, 0.0, 1.0, 1.0 - head / height_mm), h_pad=0.8, w_pad=0.8)
    return figure


FEW_CURVES = 3


def plot_reliability(curves: Mapping[str, Reliability], *, title: str = "") -> Figure:
    """Draw reliability curves over the diagonal, and below them the share of predictions in every bin.

    Args:
        curves: Name -> reliability, e.g. ``{"as trained": ..., "temperature": ...}``; at most eight.
        title: Stands above the diagram.

    Raises:
        ConfigurationError: for no curve, more than eight, or one without predictions.
    """
    if not 1 <= len(curves) <= len(PALETTE):
        raise ConfigurationError(f"1 to {len(PALETTE)} curves can be drawn, got {len(curves)}")
    empty = [name for name, curve in curves.items() if not curve.count.any()]
    if empty:
        raise ConfigurationError(f"no predictions behind {', '.join(empty)}", value=tuple(empty))
    crowded = len(curves) > FEW_CURVES
    title_mm = 6.0 * (1 + title.count("\n")) if title else 0.0
    figure = figure_in_mm(86.0, 112.0 + title_mm + (5.0 * len(curves) if crowded else 0.0))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1.0))
    above.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    for (name, curve), colour in zip(curves.items(), PALETTE, strict=False):
        filled = curve.count > 0
        above.plot(
            curve.predicted[filled], curve.observed[filled], color=colour, linewidth=1.3, marker="o", markersize=3.5,
            label=f"{name} (ECE {curve.error:.3f})",
        )  # fmt: skip
        below.stairs(100.0 * curve.count / curve.count.sum(), curve.edges, color=colour, linewidth=1.1)
    for axes in (above, below):
        calm_axes(axes)
    above.set_xlim(-0.02, 1.02)
    above.set_ylim(-0.02, 1.02)
    above.set_ylabel("observed frequency")
    above.set_xticks(np.linspace(0, 1, 6))
    # Many names would lie over the curves.
    place: dict[str, Any] = (
        {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0)} if crowded else {"loc": "upper left"}
    )
    above.legend(frameon=False, fontsize=8, labelcolor=INK, handlelength=1.6, **place)
    below.set_ylabel("predictions (%)")
    below.set_xlabel("predicted probability")
    below.set_ylim(bottom=0)
    below.yaxis.set_major_locator(MaxNLocator(3))
    if title and crowded:
        figure.suptitle(title, fontsize=10, color=INK, x=0.02, ha="left")
    elif title:
        above.set_title(title, fontsize=10, color=INK, loc="left")
    figure.align_ylabels([above, below])
    figure.tight_layout(h_pad=0.8)
    return figure


AXIS_LABELS = {"leads": "leads", "rate": "sampling rate"}


def plot_robustness(curves: Mapping[str, Sequence[CurvePoint]], *, title: str = "") -> Figure:
    """Draw the curves of several encoders over the same conditions.

    Args:
        curves: Encoder -> points of :func:`ecg_hf.evaluation.robustness.robustness_curve`; at most eight.
        title: Stands above the curve.

    Raises:
        ConfigurationError: for no curve, more than eight, or curves over different conditions.
    """
    if not 1 <= len(curves) <= len(PALETTE):
        raise ConfigurationError(f"1 to {len(PALETTE)} curves can be drawn, got {len(curves)}")
    conditions = {tuple((p.condition.axis, p.condition.name) for p in points) for points in curves.values()}
    if len(conditions) > 1 or () in conditions:
        raise ConfigurationError("curves must be over the same conditions, and at least one")
    (names,) = conditions
    figure = figure_in_mm(max(86.0, 16.0 * len(names)), 68.0 + 5.0 * len(curves) + (6.0 if title else 0.0))
    axes = figure.subplots()
    calm_axes(axes)
    # Side by side, so that intervals of several encoders can be told apart.
    offsets = (np.arange(len(curves)) - (len(curves) - 1) / 2) * min(0.08, 0.5 / len(curves))
    for (name, points), colour, offset in zip(curves.items(), PALETTE, offsets, strict=False):
        place = np.arange(len(points)) + offset
        estimate, low, high = np.array([[p.interval.estimate, *p.interval.limits] for p in points]).T
        axes.plot(place, estimate, color=colour, linewidth=1.3, marker="o", markersize=4, label=name)
        axes.vlines(place, low, high, color=colour, linewidth=1.0)
    axes.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xticks(range(len(names)), [condition for _, condition in names])
    axes.set_xlim(-0.5, len(names) - 0.5)
    lowest = min(p.interval.low for points in curves.values() for p in points)
    axes.set_ylim(min(0.48, lowest - 0.02), 1.0)
    axes.set_ylabel("macro AUROC")
    axes.set_xlabel(AXIS_LABELS[names[0][0]])
    axes.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False, fontsize=8, labelcolor=INK, handlelength=1.6,
        borderaxespad=0.2,
    )  # fmt: skip
    if title:
        figure.suptitle(title, fontsize=10, color=INK, x=0.02, ha="left")
    figure.tight_layout()
    return figure
