"""Annotated and predicted waves over one lead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.delineation.annotations import WAVES, WaveTimes, annotated_span
from ecg_hf.evaluation.plotting.style import INK, PALETTE, RULE, calm_axes, figure_in_mm

__all__ = ["plot_delineation"]

COLOURS = dict(zip(WAVES, (PALETTE[2], PALETTE[0], PALETTE[1]), strict=True))
UNJUDGED = "#f3f4f6"
BAND_HEIGHT = 0.7
MM_PER_SECOND = 24.0


def plot_delineation(
    signal: npt.ArrayLike,
    sampling_rate: float,
    annotated: Mapping[str, WaveTimes],
    predicted: Mapping[str, Mapping[str, WaveTimes]],
    *,
    title: str = "",
    start_s: float = 0.0,
    stop_s: float | None = None,
) -> Figure:
    """Draw one lead with its annotated waves shaded, and below it a lane of bars for each delineator.

    Bars are predicted waves; thin vertical lines carry the annotated boundaries down through the lanes, so that an
    early or late boundary is seen as a bar that does not end at its line. What lies outside the annotated span, and
    is not judged, is grey.

    Args:
        signal: ``(samples,)`` millivolts; NaN leaves a gap.
        sampling_rate: Hertz.
        annotated: Annotated waves of the lead.
        predicted: Who -> predicted waves of the lead, top lane first.
        title: Stands above.
        start_s: First second shown.
        stop_s: Last second shown; the end of the signal by default.

    Raises:
        ConfigurationError: if there is nothing to draw.
    """
    values = np.asarray(signal, dtype=np.float64)
    if values.ndim != 1 or not values.size or not sampling_rate > 0:
        raise ConfigurationError(f"one lead is wanted, got {values.shape}", value=values.shape)
    end = len(values) / sampling_rate
    stop = end if stop_s is None else min(stop_s, end)
    if not 0 <= start_s < stop:
        raise ConfigurationError(f"nothing lies between {start_s:g} and {stop:g} s", value=(start_s, stop))
    lanes = {"annotated": annotated, **predicted}
    lane_mm, trace_mm, left_mm, right_mm = 6.5, 44.0, 30.0, 5.0
    top_mm, bottom_mm = (17.0 if title else 10.0), 11.0
    below_mm = lane_mm * len(lanes)
    width = left_mm + max((stop - start_s) * MM_PER_SECOND, 80.0) + right_mm
    height = top_mm + trace_mm + below_mm + bottom_mm
    figure = figure_in_mm(width, height)
    inner = (width - left_mm - right_mm) / width
    lower = figure.add_axes((left_mm / width, bottom_mm / height, inner, below_mm / height))
    upper = figure.add_axes(
        (left_mm / width, (bottom_mm + below_mm) / height, inner, trace_mm / height), sharex=lower
    )
    calm_axes(upper)
    calm_axes(lower)
    _trace(upper, values, sampling_rate, annotated, start_s, stop)
    _lanes(lower, lanes, start_s, stop)
    for axes in (upper, lower):
        _boundaries(axes, annotated)
        _unjudged(axes, annotated, start_s, stop)
        axes.set_xlim(start_s, stop)
    handles = [Patch(facecolor=COLOURS[wave], label=wave) for wave in WAVES]
    handles.append(
        Patch(facecolor=UNJUDGED, edgecolor=RULE, linewidth=0.5, label="not annotated, not judged")
    )
    figure.legend(
        handles=handles, loc="upper right", bbox_to_anchor=(1.0 - right_mm / width, 1.0 - 1.5 / height), ncols=4,
        frameon=False, fontsize=8, labelcolor=INK, handlelength=1.1, handleheight=0.9, columnspacing=1.4,
        borderaxespad=0.0,
    )  # fmt: skip
    if title:
        figure.text(left_mm / width, 1.0 - 10.5 / height, title, fontsize=10, color=INK, va="center")
    return figure


def _trace(
    axes: Any,
    values: npt.NDArray[np.float64],
    rate: float,
    annotated: Mapping[str, WaveTimes],
    start: float,
    stop: float,
) -> None:
    shown = slice(int(start * rate), int(np.ceil(stop * rate)) + 1)
    part = values[shown]
    for wave, first, last in _runs(annotated):
        axes.axvspan(first, last, facecolor=COLOURS[wave], alpha=0.16, linewidth=0, zorder=1)
    axes.plot((np.arange(len(part)) + shown.start) / rate, part, color=INK, linewidth=0.85, zorder=4)
    known = part[np.isfinite(part)]
    if known.size:
        room = 0.08 * max(float(np.ptp(known)), 0.1)
        axes.set_ylim(float(known.min()) - room, float(known.max()) + room)
    axes.set_ylabel("mV")
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", bottom=False, labelbottom=False)


def _lanes(axes: Any, lanes: Mapping[str, Mapping[str, WaveTimes]], start: float, stop: float) -> None:
    for row, waves in enumerate(lanes.values()):
        for wave, first, last in _runs(waves):
            if last >= start and first <= stop:
                axes.barh(
                    row,
                    last - first,
                    left=first,
                    height=BAND_HEIGHT,
                    color=COLOURS[wave],
                    linewidth=0,
                    zorder=3,
                )
        if "QRS" in waves:
            # A detector knows beats alone: no bar, a tick at each.
            bare = np.isnan(waves["QRS"].onset) & np.isnan(waves["QRS"].offset)
            axes.vlines(
                waves["QRS"].peak[bare] / 1000.0, row - BAND_HEIGHT / 2, row + BAND_HEIGHT / 2,
                color=COLOURS["QRS"], linewidth=1.6, zorder=3,
            )  # fmt: skip
    axes.set_ylim(len(lanes) - 0.4, -0.75)
    axes.set_yticks(range(len(lanes)), list(lanes))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("seconds")


def _runs(waves: Mapping[str, WaveTimes]) -> list[tuple[str, float, float]]:
    """Wave, first and last second; a boundary that is not known is put at the peak."""
    runs = []
    for wave in WAVES:
        if wave in waves:
            found = waves[wave]
            for onset, peak, offset in zip(found.onset, found.peak, found.offset, strict=True):
                if np.isfinite(onset) or np.isfinite(offset):
                    first, last = (peak if np.isnan(end) else end for end in (onset, offset))
                    runs.append((wave, first / 1000.0, last / 1000.0))
    return runs


def _boundaries(axes: Any, annotated: Mapping[str, WaveTimes]) -> None:
    for wave in WAVES:
        if wave in annotated:
            for times in (annotated[wave].onset, annotated[wave].offset):
                for at in times[np.isfinite(times)] / 1000.0:
                    axes.axvline(at, color=COLOURS[wave], linewidth=0.45, alpha=0.75, zorder=2)


def _unjudged(axes: Any, annotated: Mapping[str, WaveTimes], start: float, stop: float) -> None:
    span = annotated_span(annotated)
    first, last = (stop, stop) if span is None else (span[0] / 1000.0, span[1] / 1000.0)
    for left, right in ((start, min(first, stop)), (max(last, start), stop)):
        if right > left:
            axes.axvspan(left, right, facecolor=UNJUDGED, linewidth=0, zorder=0)
