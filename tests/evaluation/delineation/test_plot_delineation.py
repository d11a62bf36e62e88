"""The picture of a delineation: what is drawn stands where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.delineation.annotations import WaveTimes
from ecg_hf.evaluation.plotting import plot_delineation, png_bytes
from ecg_hf.evaluation.plotting.delineation import COLOURS, UNJUDGED

NAN = np.array([np.nan, np.nan])
MARKS = {
    "P": WaveTimes(np.array([2000.0]), np.array([2050.0]), np.array([2100.0])),
    "QRS": WaveTimes(np.array([1000.0, 2160.0]), np.array([1040.0, 2200.0]), np.array([1090.0, 2250.0])),
    "T": WaveTimes(np.array([1300.0]), np.array([1400.0]), np.array([1480.0])),
}
SHIFTED = {wave: WaveTimes(w.onset + 20, w.peak + 20, w.offset + 20) for wave, w in MARKS.items()}
BEATS = {"QRS": WaveTimes(NAN, np.array([1040.0, 2200.0]), NAN)}
SIGNAL = np.sin(np.arange(2000) / 30)


def boxes(axes: object, colour: str) -> list[tuple[float, float]]:
    found = [
        p for p in axes.patches if isinstance(p, Rectangle) and to_hex(p.get_facecolor()) == colour.lower()
    ]
    return sorted((round(p.get_x(), 3), round(p.get_x() + p.get_width(), 3)) for p in found)


def test_waves_stand_where_they_were_marked() -> None:
    figure = plot_delineation(SIGNAL, 500.0, MARKS, {"head": SHIFTED, "XQRS": BEATS}, title="lead II")
    lower, upper = figure.axes
    assert [label.get_text() for label in lower.get_yticklabels()] == ["annotated", "head", "XQRS"]
    for wave, colour in COLOURS.items():
        marked = list(zip(MARKS[wave].onset / 1000, MARKS[wave].offset / 1000, strict=True))
        moved = [(round(a + 0.02, 3), round(b + 0.02, 3)) for a, b in marked]
        assert boxes(lower, colour) == sorted(marked + moved)
        assert boxes(upper, colour) == marked
    assert boxes(upper, UNJUDGED) == [(0.0, 1.0), (2.25, 4.0)]
    ticks = [segment[0][0] for c in lower.collections for segment in c.get_segments()]
    assert ticks == [1.04, 2.2]
    assert upper.get_xlim() == (0.0, 4.0)
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_part_of_a_recording() -> None:
    figure = plot_delineation(SIGNAL, 500.0, MARKS, {}, start_s=1.5, stop_s=3.0)
    assert figure.axes[1].get_xlim() == (1.5, 3.0)
    assert boxes(figure.axes[1], UNJUDGED) == [(2.25, 3.0)]
    empty = plot_delineation(np.full(500, np.nan), 500.0, {}, {"head": {}})
    assert boxes(empty.axes[1], UNJUDGED) == [(0.0, 1.0)]


def test_nothing_to_draw() -> None:
    with pytest.raises(ConfigurationError, match="one lead"):
        plot_delineation(np.zeros((2, 5)), 500.0, {}, {})
    with pytest.raises(ConfigurationError, match="between 9 and 4 s"):
        plot_delineation(SIGNAL, 500.0, MARKS, {}, start_s=9.0)
