"""Robustness curve: macro AUROC with its interval over ever fewer leads or ever lower sampling rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.robustness import CurvePoint
from ecg_hf.plotting.style import INK, MUTED, PALETTE, calm_axes, figure_in_mm

__all__ = ["plot_robustness"]

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
