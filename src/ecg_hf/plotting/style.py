"""Look shared by all figures, and how a figure becomes a PNG. No state of ``pyplot`` is touched."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from ecg_hf.escaping import printable
from ecg_hf.files import write_whole

__all__ = ["INK", "MUTED", "PALETTE", "calm_axes", "figure_in_mm", "png_bytes", "save_figure"]

INK = "#1f2328"
MUTED = "#6a727c"
RULE = "#d5d9de"

# Okabe and Ito's colours, told apart with any common form of colour blindness; yellow is left out because thin
# lines of it vanish on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F4F24", "#000000")

MM_PER_INCH = 25.4


class PlainTextFigure(Figure):
    """A figure whose texts are words, never formulas.

    Names of classes, leads and records are strangers'. Matplotlib takes what stands between two ``$`` for TeX and
    stops at what is none, and fonts have no glyphs for control characters or halves of surrogate pairs.
    """

    @contextmanager
    def _plain_texts(self) -> Iterator[None]:
        for text in self.findobj(Text):
            text.set_parse_math(False)
            text.set_text(printable(text.get_text(), keep="\n"))
        # Labels of ticks are made while drawing.
        with rc_context({"text.parse_math": False}):
            yield

    def draw(self, renderer: Any) -> None:
        """Draw."""
        with self._plain_texts():
            super().draw(renderer)

    def tight_layout(self, **kwargs: Any) -> None:
        """Fit the axes into the figure, for which texts are measured."""
        with self._plain_texts():
            super().tight_layout(**kwargs)


def figure_in_mm(width: float, height: float) -> Figure:
    """An empty white figure of a size in millimetres, drawn by Agg."""
    figure = PlainTextFigure(figsize=(width / MM_PER_INCH, height / MM_PER_INCH), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def calm_axes(axes: Any) -> None:
    """Thin grey axes, no box, small ink-coloured labels."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)
    axes.tick_params(colors=MUTED, labelsize=8, length=3, color=RULE)
    axes.xaxis.label.set(color=MUTED, size=8.5)
    axes.yaxis.label.set(color=MUTED, size=8.5)


def png_bytes(figure: Figure, dpi: float = 150) -> bytes:
    """The figure as PNG. The same figure gives the same bytes."""
    buffer = io.BytesIO()
    # Without the library's version in the metadata, files only differ if the picture does.
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def svg_bytes(figure: Figure) -> bytes:
    """The figure as SVG. The same figure gives the same bytes."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "ecg-hf"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: float = 150) -> Path:
    """Write the figure as a PNG file or, to a path that ends so, as SVG, atomically. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, svg_bytes(figure) if path.suffix.lower() == ".svg" else png_bytes(figure, dpi))
    return path
