"""Loss curves of a run, one small panel per logged quantity."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ecg_hf.errors import ConfigurationError
from ecg_hf.plotting.style import INK, MUTED, PALETTE, calm_axes, figure_in_mm

__all__ = ["loss_series", "plot_losses"]

Series = dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]

# Logged beside the losses, but about the run and not about what it learns.
NOT_CURVES = re.compile(
    r"^(step|kind|epoch|total_flos|num_input_tokens_seen|.*_(runtime|per_second|loss_runtime)|model_preparation_time)$"
)
PROBES = {"probe_knn_auroc": "kNN probe, AUROC", "probe_linear_auroc": "linear probe, AUROC"}
TRAIN, EVALUATION = PALETTE[0], PALETTE[1]
COLUMNS = 3
PANEL_MM = (62.0, 42.0)


def loss_series(records: Iterable[Mapping[str, Any]]) -> dict[str, Series]:
    """Curves of ``training_log.jsonl`` rows.

    Args:
        records: Rows with ``step`` and logged numbers; evaluation values begin with ``eval_``. Values that are
            null or not finite are left out.

    Returns:
        Quantity -> ``{"train": (steps, values), "evaluation": (steps, values)}``, ``loss`` first, each part
        there if it was logged. A step logged twice counts with its last value.
    """
    collected: dict[str, dict[str, dict[float, float]]] = {}
    for record in records:
        step = record.get("step")
        # A run's closing summary repeats means over the whole run.
        if not isinstance(step, int | float) or record.get("kind") == "summary" or "train_runtime" in record:
            continue
        for key, value in record.items():
            if NOT_CURVES.match(key) or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if not math.isfinite(value):
                continue
            name, part = (key[5:], "evaluation") if key.startswith("eval_") else (key, "train")
            if not NOT_CURVES.match(name):
                collected.setdefault(name, {}).setdefault(part, {})[float(step)] = float(value)
    ordered = sorted(collected, key=_rank)
    return {
        name: {
            part: (np.array(sorted(points)), np.array([points[step] for step in sorted(points)]))
            for part, points in collected[name].items()
        }
        for name in ordered
    }


def _rank(name: str) -> tuple[int, str]:
    """The loss, probes, the loss's terms, other metrics, the optimiser's state."""
    if name == "loss":
        return (0, name)
    if name in PROBES:
        return (1, name)
    if name.startswith("loss_"):
        return (2, name)
    return (4, name) if name in ("grad_norm", "learning_rate") else (3, name)


def plot_losses(
    records: Iterable[Mapping[str, Any]], *, names: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """Draw every logged quantity over steps: training as a line, evaluation as marked points.

    Args:
        records: See :func:`loss_series`.
        names: Quantities to draw, in order; all by default.
        title: Stands above the panels.

    Raises:
        ConfigurationError: if there is nothing to draw, or a name was never logged.
    """
    series = loss_series(records)
    chosen = list(series) if names is None else list(names)
    missing = [name for name in chosen if name not in series]
    if missing:
        raise ConfigurationError(f"never logged: {', '.join(missing)}", value=tuple(missing))
    if not chosen:
        raise ConfigurationError("the log holds no curve")
    columns = min(COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    figure = figure_in_mm(
        max(PANEL_MM[0] * columns, 90.0), PANEL_MM[1] * rows + 12.0 + (7.0 if title else 0.0)
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for position, axes in enumerate(grid.flat):
        if position >= len(chosen):
            axes.set_axis_off()
            continue
        _panel(axes, chosen[position], series[chosen[position]])
        if position + columns >= len(chosen):
            axes.set_xlabel("step")
    height_mm = figure.get_figheight() * 25.4
    first = figure.axes[0]
    handles = [
        first.plot([], [], color=TRAIN, linewidth=1.4, label="training")[0],
        first.plot([], [], color=EVALUATION, linewidth=1.0, marker="o", markersize=3.5, label="evaluation")[
            0
        ],
    ]
    figure.legend(
        handles=handles, loc="upper right", bbox_to_anchor=(0.995, 1.0 - 1.0 / height_mm), ncols=2, frameon=False,
        fontsize=8, labelcolor=INK, handlelength=1.6,
    )  # fmt: skip
    if title:
        figure.text(
            3.0 / (figure.get_figwidth() * 25.4), 1.0 - 5.5 / height_mm, title, fontsize=10, color=INK
        )
    figure.tight_layout(rect=(0.0, 0.0, 1.0, 1.0 - 9.0 / height_mm), h_pad=1.2, w_pad=1.2)
    return figure


def _panel(axes: Any, name: str, parts: Series | dict[str, Any]) -> None:
    calm_axes(axes)
    axes.set_title(PROBES.get(name) or name.replace("_", " "), fontsize=9, color=INK, loc="left")
    drawn = []
    if "train" in parts:
        steps, values = parts["train"]
        few = len(values) == 1 or name in PROBES
        smooth = _smooth(values)
        if len(values) > 1 and not np.array_equal(smooth, values):
            axes.plot(steps, values, color=TRAIN, linewidth=0.6, alpha=0.3)
        axes.plot(steps, smooth, color=TRAIN, linewidth=1.4, marker="o" if few else None, markersize=3)
        drawn.append(values)
    if "evaluation" in parts:
        steps, values = parts["evaluation"]
        axes.plot(steps, values, color=EVALUATION, linewidth=1.0, marker="o", markersize=3.0)
        drawn.append(values)
    if name == "masked_error_vs_zero":
        # At 1 the model does no better than predicting zero everywhere.
        axes.axhline(1.0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    if name in PROBES and "train" in parts and parts["train"][0][0] == 0:
        # What the untrained encoder gives: a run that stays there learns nothing of use.
        axes.axhline(parts["train"][1][0], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    _limits(axes, np.concatenate(drawn))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if name == "learning_rate":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:.1e}" if rate else "0"))


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Centred running mean over a fiftieth of the run; short runs stay as they are."""
    width = 2 * (len(values) // 100) + 1
    if width < 3:
        return values
    padded = np.pad(values, width // 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)
    return np.asarray(windows.mean(axis=1))


def _limits(axes: Any, values: npt.NDArray[np.float64]) -> None:
    """Leave the first steps' spike outside when it would flatten all the rest."""
    low, high = float(values.min()), float(values.max())
    if len(values) >= 20:
        usual = float(np.quantile(values, 0.98))
        if high - low > 4 * (usual - low) > 0:
            high = usual + 0.25 * (usual - low)
    margin = 0.06 * (high - low) or max(abs(high), 1e-9) * 0.05
    axes.set_ylim(low - margin, high + margin)
