"""What a score owes to each part of an ECG: shades behind the traces, colour on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb

from ecg_hf.errors import ConfigurationError
from ecg_hf.plotting.style import MUTED, PALETTE

__all__ = ["LEGEND_MM", "Relevance", "draw_relevance", "relevance_legend"]

AGAINST, FOR = PALETTE[0], PALETTE[1]
LEGEND_MM = 8.0
"""Height of the legend's two lines."""

SHADE_ALPHA = 0.5
LINE_WIDTH = 2.4
SMOOTHED_S = 0.04
"""Gradients change their sign from sample to sample; what is drawn is their mean over so many seconds."""

Array = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Relevance:
    """What a score owes to stretches and samples of a recording, from its first sample on.

    Attributes:
        patches: ``(leads, stretches)``: what the score loses without the stretch; positive speaks for it.
        patch_s: Seconds of a stretch.
        samples: ``(leads, samples)``: the same to first order, sample by sample.
        sampling_rate: Of ``samples``, in hertz.
        name: What the score is of, for the legend.
        scale: What is lost or won: a logit, a similarity.

    Raises:
        ConfigurationError: if a shape or length can't be.
    """

    patches: npt.ArrayLike
    patch_s: float
    samples: npt.ArrayLike
    sampling_rate: float
    name: str
    scale: str = "score"

    def __post_init__(self) -> None:
        for name in ("patches", "samples"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            if values.ndim != 2 or 0 in values.shape or not np.isfinite(values).all():
                raise ConfigurationError(
                    f"{name} of a relevance are finite (leads, length), got {values.shape}",
                    value=values.shape,
                )
            object.__setattr__(self, name, values)
        if not (self.patch_s > 0 and self.sampling_rate > 0):
            raise ConfigurationError("stretches and samples of a relevance have a positive length")

    def check_leads(self, leads: int) -> None:
        """Raise a ``ConfigurationError`` unless both maps have so many leads."""
        found = (len(np.asarray(self.patches)), len(np.asarray(self.samples)))
        if found != (leads, leads):
            raise ConfigurationError(f"a relevance of {found} leads for {leads} of the signal", value=found)


def draw_relevance(
    axes: Any,
    relevance: Relevance,
    row: int,
    *,
    start_s: float,
    stop_s: float,
    x: Array,
    y: Array,
    bottom: float,
    top: float,
    mm_per_second: float,
) -> None:
    """Shade one lead's strip and colour its trace.

    Args:
        axes: In millimetres.
        relevance: Of the whole recording.
        row: The lead.
        start_s: Seconds into the recording at which the strip begins.
        stop_s: And ends.
        x: Millimetres of the trace's samples, the first of which is at ``start_s``.
        y: Their heights, NaN for gaps.
        bottom: Where shades begin.
        top: And end.
        mm_per_second: Paper speed.
    """
    patches = np.asarray(relevance.patches)
    edges = np.arange(patches.shape[1] + 1) * relevance.patch_s
    strength = patches[row] / (np.abs(patches).max() or 1.0)
    seen = (edges[1:] > start_s) & (edges[:-1] < stop_s) & (np.abs(strength) > 0.02)
    left, right = (
        x[0] + (np.clip(edge, start_s, stop_s) - start_s) * mm_per_second for edge in (edges[:-1], edges[1:])
    )
    boxes = [
        [(a, bottom), (b, bottom), (b, top), (a, top)] for a, b in zip(left[seen], right[seen], strict=True)
    ]
    axes.add_collection(
        PolyCollection(boxes, facecolors=_colours(strength[seen], SHADE_ALPHA), edgecolors="none", zorder=3)
    )
    samples = _smoothed(np.asarray(relevance.samples), relevance.sampling_rate)
    limit = (
        float(np.quantile(np.abs(samples[np.abs(samples).max(axis=1) > 0]), 0.99)) if samples.any() else 1.0
    )
    seconds = start_s + (x - x[0]) / mm_per_second
    times = (np.arange(samples.shape[1]) + 0.5) / relevance.sampling_rate
    along = np.interp(seconds, times, samples[row], right=0.0)
    strength = np.clip(along / (limit or 1.0), -1.0, 1.0)
    points = np.column_stack([x, y])
    axes.add_collection(
        LineCollection(
            list(np.stack([points[:-1], points[1:]], axis=1)),
            colors=_colours((strength[:-1] + strength[1:]) / 2, 1.0),
            linewidths=LINE_WIDTH,
            zorder=4.5,
        )
    )


def relevance_legend(axes: Any, relevance: Relevance, left: float, bottom: float) -> None:
    """Two lines that say what the colours mean."""
    largest = float(np.abs(np.asarray(relevance.patches)).max())
    lines = (
        f"orange speaks for {relevance.name}, blue against it",
        f"shade: {relevance.scale} lost without the stretch, at most {largest:.3g}; line: gradient x input",
    )
    for number, text in enumerate(reversed(lines)):
        axes.text(left, bottom + 4.0 * number, text, fontsize=7.5, color=MUTED, va="baseline")


def _colours(strength: Array, alpha: float) -> Array:
    """RGBA of signed strengths in -1..1."""
    colours = np.empty((len(strength), 4))
    colours[:, :3] = np.where((strength > 0)[:, None], to_rgb(FOR), to_rgb(AGAINST))
    colours[:, 3] = alpha * np.abs(strength)
    return colours


def _smoothed(samples: Array, sampling_rate: float) -> Array:
    width = min(max(1, round(SMOOTHED_S * sampling_rate)), samples.shape[1])
    window = np.ones(width) / width
    return np.stack([np.convolve(row, window, mode="same") for row in samples])
