"""Answers to the windows of a recording: their time for a reader, and the picture of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Course", "clock"]


def clock(seconds: float) -> str:
    """``1:02:03.5``."""
    minutes, rest = divmod(seconds, 60.0)
    return f"{minutes // 60:.0f}:{minutes % 60:02.0f}:{rest:04.1f}"


class Course:
    """Scores and heart rates of a recording's windows; the windows themselves are not kept.

    Args:
        window_s: Seconds of a window.
        limits: Of the scale of scores, see :func:`ecg_hf.plotting.plot_over_time`.
    """

    def __init__(self, window_s: float, *, limits: tuple[float, float] | None = (0.0, 1.0)) -> None:
        self._window_s, self._limits = window_s, limits
        self._starts: list[float] = []
        self._scores: dict[str, list[float]] = {}
        self._rates: list[float] = []

    def add(self, start_s: float, scores: Mapping[str, float], heart_rate: float | None = None) -> None:
        """One more window; it may have no scores and no rate."""
        for name in scores:
            self._scores.setdefault(name, [math.nan] * len(self._starts))
        for name, values in self._scores.items():
            values.append(scores.get(name, math.nan))
        self._starts.append(start_s)
        self._rates.append(math.nan if heart_rate is None else heart_rate)

    def draw(self, path: Path, title: str) -> None:
        """Write the picture, unless no window was given anything."""
        if not self._scores and all(map(math.isnan, self._rates)):
            return
        from ecg_hf.plotting import plot_over_time, save_figure

        path.parent.mkdir(parents=True, exist_ok=True)
        figure = plot_over_time(
            self._starts,
            self._scores,
            window_s=self._window_s,
            heart_rate=self._rates,
            limits=self._limits,
            title=title,
        )
        save_figure(figure, path)
