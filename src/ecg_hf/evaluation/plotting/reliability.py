"""Reliability diagram: observed against predicted frequency, with how many predictions stand behind each point."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.calibration import Reliability
from ecg_hf.plotting.style import INK, MUTED, PALETTE, calm_axes, figure_in_mm

__all__ = ["plot_reliability"]


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
    figure = figure_in_mm(86.0, 112.0 + (6.0 if title else 0.0))
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
    above.legend(loc="upper left", frameon=False, fontsize=8, labelcolor=INK, handlelength=1.6)
    below.set_ylabel("predictions (%)")
    below.set_xlabel("predicted probability")
    below.set_ylim(bottom=0)
    below.yaxis.set_major_locator(MaxNLocator(3))
    if title:
        above.set_title(title, fontsize=10, color=INK, loc="left")
    figure.align_ylabels([above, below])
    figure.tight_layout(h_pad=0.8)
    return figure
