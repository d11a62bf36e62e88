"""ROC curve of every class, one small panel each, chance as a dashed diagonal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.metrics import check_known, known_auroc
from ecg_hf.plotting.style import INK, MUTED, PALETTE, calm_axes, figure_in_mm

__all__ = ["plot_roc", "roc_points"]

COLUMNS = 4
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
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    several = len(scores) > 1
    head = (7.0 if title else 0.0) + (7.0 if several else 0.0)
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
            handles=handles, loc="upper left", bbox_to_anchor=(0.01, 1.0 - (head - 6.0) / height_mm), ncols=4,
            frameon=False, fontsize=8, labelcolor=INK, handlelength=1.4, borderaxespad=0.0,
        )  # fmt: skip
    if title:
        figure.text(0.02, 1.0 - 5.5 / height_mm, title, fontsize=10, color=INK)
    figure.tight_layout(rect=(0.0, 0.0, 1.0, 1.0 - head / height_mm), h_pad=0.8, w_pad=0.8)
    return figure
