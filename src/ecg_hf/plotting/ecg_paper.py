"""An ECG as a reader of paper strips knows it: 25 mm per second, 10 mm per millivolt, pink grid.

Everything is drawn in millimetres on one axes that fills the figure, so printed at its own size the grid
measures what it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ecg_hf.errors import ConfigurationError, LeadError
from ecg_hf.plotting.relevance import LEGEND_MM, Relevance, draw_relevance, relevance_legend
from ecg_hf.plotting.style import INK, MUTED, figure_in_mm
from ecg_hf.signal.leads import STANDARD_LEADS, normalize_lead_names
from ecg_hf.signal.record import EcgRecord

__all__ = ["PaperLayout", "plot_ecg"]

PaperLayout = Literal["3x4", "rows"]
Array = npt.NDArray[np.floating[Any]]

PAPER = "#fffdfc"
MINOR = "#f8e4e0"
MAJOR = "#efc3bb"
TRACE = "#1b1b1b"
RECONSTRUCTED = "#147ddb"  # a brighter blue than the palette's: it has to stand out from black
MASK_SHADE = RECONSTRUCTED

MARGIN_MM = 6.0
CALIBRATION_MM = 12.0  # room left of the traces for the calibration pulse
HEADER_MM = 9.0
FOOTER_MM = 9.0
LABEL_MM = 4.0
GRID_COLUMNS = 4
GRID = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
MIN_WIDTH_MM = 90.0  # room for the scale below the traces
MAX_WIDTH_MM = 10_000.0  # a picture of 59,055 pixels at 150 dpi; Agg draws 65,535


@dataclass(frozen=True, slots=True)
class _Strip:
    """One lead's stretch of one row."""

    lead: str
    row: int
    start: float  # seconds into the record
    stop: float
    left_mm: float  # from the left end of the row's traces


def plot_ecg(
    signal: EcgRecord | Mapping[str, Any] | npt.ArrayLike,
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    *,
    layout: PaperLayout | None = None,
    rhythm_lead: str | None = "II",
    reconstruction: npt.ArrayLike | None = None,
    patch_mask: npt.ArrayLike | None = None,
    relevance: Relevance | None = None,
    title: str | None = None,
    start_s: float = 0.0,
    duration_s: float = 10.0,
    mm_per_second: float = 25.0,
    mm_per_unit: float = 10.0,
    unit: str = "mV",
) -> Figure:
    """Draw an ECG on millimetre paper, with what a model made of it: a reconstruction, or what a score is due to.

    Each lead is drawn around its median, so that an offset does not move it off its line. Rows are set as far
    apart as their amplitudes need.

    Args:
        signal: A record, the mapping an ``Ecg`` column decodes to, or an array ``(leads, samples)``; NaN leaves a
            gap.
        sampling_rate: Hz; of an array only, records know theirs.
        lead_names: Names of an array's rows.
        layout: ``"3x4"``: the usual print, a quarter of the duration per lead, and a rhythm strip below;
            ``"rows"``: every lead over the whole duration. By default the first, if it has a place for every lead
            and leads for half of its places.
        rhythm_lead: Lead of the rhythm strip of ``"3x4"``; ``None`` for no strip.
        reconstruction: ``(leads, samples)`` in the units of ``signal``; drawn at masked patches alone.
        patch_mask: Booleans ``(leads, patches)``, true where the patch was hidden from the model. Patches are
            equally long and the last one ends at or before the last sample.
        relevance: What a score owes to each lead and time; its leads are the rows of ``signal``.
        title: Stands above the traces; by default a record's identifier.
        start_s: Seconds into the recording at which the picture begins.
        duration_s: Seconds shown at most.
        mm_per_second: Paper speed.
        mm_per_unit: Amplitude scale: millimetres per ``unit``.
        unit: Unit of ``signal``, for the legend. Use another than mV, with a fitting scale, for normalised
            signals.

    Raises:
        ConfigurationError: if shapes do not fit, an option is unknown, an array comes without rate and names or a
            record with others than its own, the recording ends before ``start_s``, or the page would be wider than
            10 m.
        LeadError: if names do not fit the rows.
    """
    values, rate, names, identifier = _what_to_draw(signal, sampling_rate, lead_names)
    title = identifier if title is None else title
    numbers = (rate, mm_per_second, mm_per_unit, duration_s)
    if not all(np.isfinite(number) and number > 0 for number in numbers):
        raise ConfigurationError(
            f"sampling rate, paper speed, amplitude scale and duration must be positive, got {numbers}",
            value=numbers,
        )
    hidden, overlay = _overlay(values, reconstruction, patch_mask)
    if relevance is not None:
        relevance.check_leads(len(values))
    first = _first_sample(start_s, rate, values.shape[1])
    values = values[:, first:]
    offsets = _finite_median(values)[:, None]
    values = values - offsets
    if hidden is not None and overlay is not None:
        hidden, overlay = hidden[:, first:], overlay[:, first:] - offsets
    sampling_rate = rate
    shown = min(duration_s, values.shape[1] / sampling_rate)
    strips = _strips(
        names, _usual_layout(names) if layout is None else layout, rhythm_lead, shown, mm_per_second
    )
    width = max(2 * MARGIN_MM + CALIBRATION_MM + shown * mm_per_second, MIN_WIDTH_MM)
    if width > MAX_WIDTH_MM:
        raise ConfigurationError(
            f"{shown:g} s are {width / 1000:.1f} m of paper, more than {MAX_WIDTH_MM / 1000:g} m: show fewer seconds",
            value=shown,
        )

    extents = [_extent(values, overlay, names, strip, sampling_rate) * mm_per_unit for strip in strips]
    footer = FOOTER_MM + (LEGEND_MM if relevance is not None else 0.0)
    baselines, height = _stack_rows(strips, extents, footer)
    figure = figure_in_mm(width, height)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0.0, width), ylim=(0.0, height))
    axes.set_axis_off()
    top, bottom = height - HEADER_MM, footer
    _paper(axes, MARGIN_MM, width - MARGIN_MM, bottom, top)

    origin = MARGIN_MM + CALIBRATION_MM
    for row in sorted({strip.row for strip in strips}):
        _calibration(axes, MARGIN_MM + 3.0, baselines[row], mm_per_unit)
    for strip in strips:
        base = baselines[strip.row]
        if strip.left_mm > 0:
            x = origin + strip.left_mm
            axes.plot([x, x], [base - 3.0, base + 3.0], color=TRACE, linewidth=0.6)
        if strip.lead in names:
            index = names.index(strip.lead)
            half_height = _half_height(strip, strips, baselines, top, bottom)
            if relevance is not None:
                _relevance(
                    axes,
                    relevance,
                    index,
                    values[index],
                    strip,
                    sampling_rate,
                    first / sampling_rate,
                    origin,
                    base,
                    mm_per_second,
                    mm_per_unit,
                    half_height,
                )
            _trace(
                axes,
                values[index],
                None if overlay is None else overlay[index],
                None if hidden is None else hidden[index],
                strip,
                sampling_rate,
                origin,
                base,
                mm_per_second,
                mm_per_unit,
                half_height,
            )
        _label(
            axes,
            strip,
            origin,
            _label_height(strip, values, overlay, names, sampling_rate, base, mm_per_unit),
            names,
        )

    scale = f"{mm_per_second:g} mm/s   {mm_per_unit:g} mm/{unit}   {sampling_rate:g} Hz"
    if first:
        scale += f"   from {first / sampling_rate:g} s"
    axes.text(MARGIN_MM, footer - 5.8, scale, fontsize=7.5, color=MUTED, va="baseline")
    if relevance is not None:
        relevance_legend(axes, relevance, MARGIN_MM, 3.2)
    if title:
        axes.text(MARGIN_MM, height - 6.2, title, fontsize=9.5, color=INK, va="baseline")
    if hidden is not None:
        share = (
            f"{100 * hidden.mean():.0f} % of samples hidden from the model"
            if hidden.any()
            else "nothing hidden"
        )
        _legend(axes, width - MARGIN_MM, footer - 5.8, share)
    return figure


def _what_to_draw(
    signal: EcgRecord | Mapping[str, Any] | npt.ArrayLike,
    sampling_rate: float | None,
    lead_names: Sequence[str] | None,
) -> tuple[Array, float, tuple[str, ...], str]:
    """Signal ``(leads, samples)``, rate, names and identifier of what was given."""
    if isinstance(signal, Mapping):
        missing = sorted({"signal", "sampling_rate", "lead_names"} - signal.keys())
        if missing:
            raise ConfigurationError(
                f"a decoded ECG has {missing[0]!r}, this mapping does not", value=missing[0]
            )
        signal = EcgRecord(signal["signal"], signal["sampling_rate"], signal["lead_names"])
    if isinstance(signal, EcgRecord):
        own, given = (signal.sampling_rate, signal.lead_names), (sampling_rate, lead_names)
        names = None if lead_names is None else normalize_lead_names(lead_names)
        if sampling_rate not in (None, own[0]) or names not in (None, own[1]):
            raise ConfigurationError(
                f"the record says {own[0]:g} Hz and {', '.join(own[1])} itself, which {given} contradicts",
                value=given,
            )
        return signal.signal.astype(np.float64), own[0], own[1], signal.record_id or ""
    if sampling_rate is None or lead_names is None:
        raise ConfigurationError("an array needs its sampling_rate and lead_names; a record knows both")
    try:
        values = np.asarray(signal, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"draw an EcgRecord or an array (leads, samples), got {type(signal).__name__}",
            value=type(signal).__name__,
        ) from None
    names = normalize_lead_names(lead_names)
    if values.ndim != 2 or 0 in values.shape:
        raise ConfigurationError(f"signal must be (leads, samples), got {values.shape}", value=values.shape)
    if len(names) != len(values):
        raise LeadError(f"{len(names)} lead names for {len(values)} rows", value=names)
    return values, float(sampling_rate), names, ""


def _first_sample(start_s: float, sampling_rate: float, samples: int) -> int:
    """Sample at which a picture begins."""
    if not (np.isfinite(start_s) and start_s >= 0 and round(start_s * sampling_rate) < samples):
        raise ConfigurationError(
            f"the picture can't begin at {start_s:g} s: the recording has {samples / sampling_rate:g} s",
            value=start_s,
        )
    return round(start_s * sampling_rate)


def _usual_layout(names: tuple[str, ...]) -> PaperLayout:
    """The print a reader expects of these leads."""
    places = {name for line in GRID for name in line}
    return "3x4" if set(names) <= places and 2 * len(names) >= len(places) else "rows"


def _overlay(
    values: Array, reconstruction: npt.ArrayLike | None, patch_mask: npt.ArrayLike | None
) -> tuple[npt.NDArray[np.bool_] | None, Array | None]:
    """Hidden samples ``(leads, samples)``, and the reconstruction there, NaN elsewhere."""
    if (reconstruction is None) != (patch_mask is None):
        raise ConfigurationError("a reconstruction needs the patch mask it belongs to, and the reverse")
    if reconstruction is None or patch_mask is None:
        return None, None
    rebuilt = np.asarray(reconstruction, dtype=np.float64)
    mask = np.asarray(patch_mask, dtype=bool)
    leads, samples = values.shape
    if rebuilt.shape != values.shape:
        raise ConfigurationError(
            f"reconstruction {rebuilt.shape} must have the shape of the signal {values.shape}",
            value=rebuilt.shape,
        )
    if mask.ndim != 2 or len(mask) != leads or not 0 < mask.shape[1] <= samples:
        raise ConfigurationError(f"patch mask must be ({leads}, patches), got {mask.shape}", value=mask.shape)
    hidden = np.zeros(values.shape, dtype=bool)
    patch = samples // mask.shape[1]
    covered = np.repeat(mask, patch, axis=1)
    hidden[:, : covered.shape[1]] = covered
    return hidden, np.where(hidden, rebuilt, np.nan)


def _finite_median(values: Array) -> Array:
    there = np.isfinite(values)
    return np.array([np.median(row[ok]) if ok.any() else 0.0 for row, ok in zip(values, there, strict=True)])


def _strips(
    names: tuple[str, ...], layout: str, rhythm_lead: str | None, shown: float, mm_per_second: float
) -> list[_Strip]:
    if layout == "rows":
        standard = [name for name in STANDARD_LEADS if name in names]
        ordered = [*standard, *(name for name in names if name not in standard)]
        return [_Strip(name, row, 0.0, shown, 0.0) for row, name in enumerate(ordered)]
    if layout != "3x4":
        raise ConfigurationError(f"layout must be '3x4' or 'rows', got {layout!r}", value=layout)
    part = shown / GRID_COLUMNS
    strips = [
        _Strip(name, row, column * part, (column + 1) * part, column * part * mm_per_second)
        for row, line in enumerate(GRID)
        for column, name in enumerate(line)
    ]
    if rhythm_lead is not None:
        (rhythm,) = normalize_lead_names([rhythm_lead])
        strips.append(_Strip(rhythm, len(GRID), 0.0, shown, 0.0))
    return strips


def _samples(strip: _Strip, sampling_rate: float, n: int) -> slice:
    return slice(round(strip.start * sampling_rate), min(n, round(strip.stop * sampling_rate) + 1))


def _extent(
    values: Array, overlay: Array | None, names: tuple[str, ...], strip: _Strip, sampling_rate: float
) -> Array:
    """Lowest and highest value drawn in a strip."""
    if strip.lead not in names:
        return np.zeros(2)
    index = names.index(strip.lead)
    part = _samples(strip, sampling_rate, values.shape[1])
    drawn = [values[index, part], *([] if overlay is None else [overlay[index, part]])]
    together = np.concatenate(drawn)
    together = together[np.isfinite(together)]
    if together.size == 0:
        return np.zeros(2)
    return np.array([together.min(), together.max()])


def _stack_rows(strips: list[_Strip], extents: list[Array], footer: float) -> tuple[dict[int, float], float]:
    """Baselines (mm from the bottom) and the figure's height."""
    rows = sorted({strip.row for strip in strips})
    # One wild lead must not blow the page up: beyond 30 mm it may run into its neighbour.
    low = {r: max(-30.0, min(e[0] for s, e in zip(strips, extents, strict=True) if s.row == r)) for r in rows}
    high = {r: min(30.0, max(e[1] for s, e in zip(strips, extents, strict=True) if s.row == r)) for r in rows}
    # Down from the top: room for the calibration pulse and the lead label above the highest deflection.
    depth = max(high[rows[0]], 10.0) + LABEL_MM + 3.0
    depths = {rows[0]: depth}
    for above, row in pairwise(rows):
        needed = -low[above] + max(high[row], 0.0) + LABEL_MM + 1.0
        depths[row] = depths[above] + max(needed, 15.0 if len(rows) > len(GRID) + 1 else 22.0)
    total = depths[rows[-1]] - min(low[rows[-1]], -5.0) + 3.0
    total = 5.0 * np.ceil(total / 5.0)
    height = HEADER_MM + footer + total
    # Baselines sit on major grid lines, as a technician would set them.
    top = height - HEADER_MM
    return {row: top - 5.0 * np.ceil(depths[row] / 5.0) for row in rows}, float(height + 5.0)


def _half_height(
    strip: _Strip, strips: list[_Strip], baselines: dict[int, float], top: float, bottom: float
) -> tuple[float, float]:
    """How far shading reaches below and above a row's baseline: to the middle between rows."""
    base = baselines[strip.row]
    above = [b for b in baselines.values() if b > base]
    below = [b for b in baselines.values() if b < base]
    up = (min(above) - base) / 2 if above else min(top - base, 30.0)
    down = (base - max(below)) / 2 if below else min(base - bottom, 30.0)
    return down - 0.5, up - 0.5


def _paper(axes: Any, left: float, right: float, bottom: float, top: float) -> None:
    axes.add_patch(
        Rectangle((left, bottom), right - left, top - bottom, facecolor=PAPER, edgecolor="none", zorder=0)
    )
    for step, colour, width, zorder in ((1.0, MINOR, 0.35, 1), (5.0, MAJOR, 0.55, 2)):
        xs = np.arange(left, right + 1e-6, step)
        ys = np.arange(top, bottom - 1e-6, -step)
        lines = [[(x, bottom), (x, top)] for x in xs] + [[(left, y), (right, y)] for y in ys]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, zorder=zorder))


def _calibration(axes: Any, left: float, base: float, mm_per_unit: float) -> None:
    """The pulse of one unit and 5 mm that tells the scale."""
    xs = [left, left + 1.5, left + 1.5, left + 6.5, left + 6.5, left + 8.0]
    ys = [base, base, base + mm_per_unit, base + mm_per_unit, base, base]
    axes.plot(xs, ys, color=TRACE, linewidth=0.8, solid_joinstyle="miter", zorder=4)


def _trace(
    axes: Any,
    values: Array,
    overlay: Array | None,
    hidden: npt.NDArray[np.bool_] | None,
    strip: _Strip,
    sampling_rate: float,
    origin: float,
    base: float,
    mm_per_second: float,
    mm_per_unit: float,
    half_height: tuple[float, float],
) -> None:
    part = _samples(strip, sampling_rate, len(values))
    x = _places(strip, part, sampling_rate, origin, mm_per_second)
    axes.plot(
        x, base + values[part] * mm_per_unit, color=TRACE, linewidth=0.75, solid_joinstyle="round", zorder=5
    )
    if overlay is None or hidden is None:
        return
    down, up = half_height
    end = origin + strip.left_mm + (strip.stop - strip.start) * mm_per_second
    per_sample = mm_per_second / sampling_rate
    for first, last in _runs(hidden[part]):
        left, right = x[first], min(x[last] + per_sample, end)
        axes.add_patch(
            Rectangle(
                (left, base - down),
                right - left,
                down + up,
                facecolor=MASK_SHADE,
                alpha=0.09,
                linewidth=0,
                zorder=3,
            )
        )
    axes.plot(
        x, base + overlay[part] * mm_per_unit, color=RECONSTRUCTED, linewidth=1.15, alpha=0.95, zorder=6
    )


def _places(strip: _Strip, part: slice, sampling_rate: float, origin: float, mm_per_second: float) -> Array:
    """Millimetres from the left at which a strip's samples are."""
    seconds = np.arange(part.start, part.stop) / sampling_rate - strip.start
    return origin + strip.left_mm + seconds * mm_per_second


def _relevance(
    axes: Any,
    relevance: Relevance,
    row: int,
    values: Array,
    strip: _Strip,
    sampling_rate: float,
    first_s: float,
    origin: float,
    base: float,
    mm_per_second: float,
    mm_per_unit: float,
    half_height: tuple[float, float],
) -> None:
    part = _samples(strip, sampling_rate, len(values))
    down, up = half_height
    draw_relevance(
        axes,
        relevance,
        row,
        start_s=first_s + strip.start,
        stop_s=first_s + strip.stop,
        x=_places(strip, part, sampling_rate, origin, mm_per_second),
        y=base + values[part] * mm_per_unit,
        bottom=base - down,
        top=base + up,
        mm_per_second=mm_per_second,
    )


def _runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _label_height(
    strip: _Strip,
    values: Array,
    overlay: Array | None,
    names: tuple[str, ...],
    sampling_rate: float,
    base: float,
    mm_per_unit: float,
) -> float:
    """Just above what is drawn where the label stands (its first 8 mm)."""
    near = _Strip(strip.lead, strip.row, strip.start, min(strip.stop, strip.start + 0.35), strip.left_mm)
    highest = float(_extent(values, overlay, names, near, sampling_rate)[1]) * mm_per_unit
    return base + min(max(highest, 1.5), 30.0) + 1.2


def _label(axes: Any, strip: _Strip, origin: float, height: float, names: tuple[str, ...]) -> None:
    recorded = strip.lead in names
    text = strip.lead if recorded else f"{strip.lead} not recorded"
    axes.text(
        origin + strip.left_mm + 1.0,
        height,
        text,
        fontsize=8,
        fontweight="bold" if recorded else "normal",
        color=INK if recorded else MUTED,
        va="baseline",
        path_effects=[withStroke(linewidth=2.0, foreground=PAPER)],
        zorder=7,
    )


def _legend(axes: Any, right: float, y: float, share: str) -> None:
    axes.text(
        right, y, f"reconstruction ({share})", fontsize=7.5, color=RECONSTRUCTED, ha="right", va="baseline"
    )
