"""Scores over the length of a recording: one narrow strip each, above a common axis of time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ecg_hf.errors import ConfigurationError
from ecg_hf.plotting.style import INK, MM_PER_INCH, MUTED, PALETTE, calm_axes, figure_in_mm

__all__ = ["plot_over_time"]

Values = npt.NDArray[np.float64]

WIDTH_MM = 180.0
STRIP_MM = 16.0
TITLE_MM, AXIS_MM = 10.0, 12.0
UNITS = (("h", 3600.0, 3 * 3600.0), ("min", 60.0, 180.0), ("s", 1.0, 0.0))
"""Unit of the time axis, its seconds, and how long a recording has to be for it."""


def plot_over_time(
    start_s: npt.ArrayLike,
    scores: Mapping[str, npt.ArrayLike],
    *,
    window_s: float,
    heart_rate: npt.ArrayLike | None = None,
    limits: tuple[float, float] | None = (0.0, 1.0),
    max_strips: int = 8,
    title: str = "",
) -> Figure:
    """Draw what the windows of a recording were given, each window at its middle.

    Args:
        start_s: Seconds at which the windows begin, ``(windows,)``, ascending.
        scores: Name of a finding or label -> its score in each window, ``(windows,)``; NaN leaves a gap. Those with
            the highest scores are drawn, the highest first.
        window_s: Seconds of a window.
        heart_rate: Beats per minute in each window, drawn first.
        limits: Lowest and highest score of the scale; None for those that occur.
        max_strips: Scores drawn at most.
        title: Stands above the strips.

    Raises:
        ConfigurationError: if there is no window or nothing to draw, or a length differs.
    """
    middle = np.asarray(start_s, dtype=np.float64) + window_s / 2
    strips = {name: _values(name, values, middle) for name, values in scores.items()}
    strips = {name: values for name, values in strips.items() if np.isfinite(values).any()}
    chosen = sorted(strips, key=lambda name: -np.nanmax(strips[name]))[:max_strips]
    rate = None if heart_rate is None else _values("heart rate", heart_rate, middle)
    has_rate = rate is not None and bool(np.isfinite(rate).any())
    count = len(chosen) + has_rate
    if not count:
        raise ConfigurationError("there are no scores to draw over time")
    if limits is None and chosen:
        drawn = np.concatenate([strips[name] for name in chosen])
        limits = (float(np.nanmin(drawn)), float(np.nanmax(drawn)))

    unit, seconds = next((unit, per) for unit, per, least in UNITS if middle[-1] + window_s / 2 >= least)
    height = TITLE_MM + STRIP_MM * count + AXIS_MM
    figure = figure_in_mm(WIDTH_MM, height)
    grid = figure.subplots(count, 1, squeeze=False, sharex=True)[:, 0]
    if has_rate:
        _strip(grid[0], middle / seconds, rate, "heart rate, per minute", PALETTE[1], None)
    for axes, name in zip(grid[has_rate:], chosen, strict=True):
        _strip(axes, middle / seconds, strips[name], name, PALETTE[0], limits)
    grid[-1].set_xlabel(f"time into the recording, {unit}")
    grid[-1].set_xlim(max(0.0, middle[0] - window_s / 2) / seconds, (middle[-1] + window_s / 2) / seconds)
    figure.subplots_adjust(
        left=14.0 / WIDTH_MM,
        right=1.0 - 5.0 / WIDTH_MM,
        bottom=AXIS_MM / height,
        top=1.0 - TITLE_MM / height,
        hspace=0.75,
    )
    if title:
        x, y = 5.0 / (figure.get_figwidth() * MM_PER_INCH), 1.0 - 5.0 / height
        figure.text(x, y, title, fontsize=9.5, color=INK)
    return figure


def _values(name: str, values: npt.ArrayLike, middle: Values) -> Values:
    found = np.asarray(values, dtype=np.float64)
    if middle.ndim != 1 or found.shape != middle.shape:
        raise ConfigurationError(f"{found.shape} values of {name!r} for {middle.shape} windows", value=name)
    return found


def _strip(
    axes: Any,
    time: Values,
    values: Values | None,
    name: str,
    colour: str,
    limits: tuple[float, float] | None,
) -> None:
    assert values is not None
    calm_axes(axes)
    # A single window, and one between two gaps, would be a line of no length.
    few = len(time) <= 60
    axes.plot(time, values, color=colour, linewidth=0.9, marker="o" if few else None, markersize=2.5)
    if limits is None:
        limits = (float(np.nanmin(values)), float(np.nanmax(values)))
    margin = 0.08 * (limits[1] - limits[0]) or 1.0
    axes.set_ylim(limits[0] - margin, limits[1] + margin)
    if limits == (0.0, 1.0):
        axes.fill_between(time, values, color=colour, alpha=0.15, linewidth=0)
        axes.set_yticks([0.0, 0.5, 1.0])
    else:
        axes.yaxis.set_major_locator(MaxNLocator(2))
    axes.tick_params(labelsize=7)
    axes.set_title(name, fontsize=8, color=INK, loc="left", pad=2.5)
    lowest, highest = np.nanmin(values), np.nanmax(values)
    digits = 2 if highest - lowest < 10 else 0
    spread = f"{lowest:.{digits}f} to {highest:.{digits}f}"
    axes.set_title(spread, fontsize=7, color=MUTED, loc="right", pad=2.5)
