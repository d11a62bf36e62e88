"""Figures: right proportions, nothing drawn outside or over something else, no pyplot state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

import ecg_hf
from ecg_hf.errors import ConfigurationError, LeadError
from ecg_hf.plotting import (
    Relevance,
    categories_of,
    embed_in_plane,
    loss_series,
    plot_ecg,
    plot_embedding_map,
    plot_losses,
    plot_over_time,
    png_bytes,
    save_figure,
)
from ecg_hf.plotting.ecg_paper import RECONSTRUCTED, TRACE
from ecg_hf.plotting.relevance import AGAINST, FOR, SHADE_ALPHA
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.record import EcgRecord

PNG = b"\x89PNG\r\n\x1a\n"


def ecg(leads: int = 12, rate: int = 100, seconds: float = 10.0) -> np.ndarray:
    """Spikes of 1 mV once per second on a slow wave."""
    t = np.arange(int(rate * seconds)) / rate
    beat = np.exp(-((((t % 1.0) - 0.5) / 0.02) ** 2)) + 0.1 * np.sin(t)
    return np.stack([beat * (1 + 0.1 * i) for i in range(leads)])


def overlaps(figure: Any) -> list[tuple[str, str]]:
    """Pairs of visible texts whose boxes intersect."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if not axes.axison or not low <= tick.get_loc() <= high:
                    hidden |= {tick.label1, tick.label2}
    texts = [t for t in figure.findobj(lambda a: a.__class__.__name__ == "Text") if t.get_text().strip()]
    texts = [t for t in texts if t.get_visible() and t not in hidden]
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in texts]
    return [
        (a, b)
        for i, (a, first) in enumerate(boxes)
        for b, second in boxes[i + 1 :]
        if a != b
        and first.x0 < second.x1
        and second.x0 < first.x1
        and first.y0 < second.y1
        and second.y0 < first.y1
    ]


def lines_of(figure: Any, colour: str) -> list[np.ndarray]:
    return [line.get_xydata() for line in figure.axes[0].lines if line.get_color() == colour]


@pytest.mark.parametrize("layout", ["3x4", "rows"])
def test_paper_is_in_millimetres(layout: Any) -> None:
    figure = plot_ecg(ecg(), 100, STANDARD_LEADS, layout=layout)
    axes = figure.axes[0]
    width, height = figure.get_size_inches() * 25.4
    assert axes.get_xlim() == pytest.approx((0, width))
    assert axes.get_ylim() == pytest.approx((0, height))
    assert axes.get_position().bounds == (0, 0, 1, 1)
    assert png_bytes(figure, dpi=40).startswith(PNG)


def test_speed_and_gain() -> None:
    figure = plot_ecg(ecg(2), 100, ["I", "II"], layout="rows")
    traces = [xy for xy in lines_of(figure, TRACE) if len(xy) > 100]
    assert len(traces) == 2
    x, y = traces[0].T
    peaks = np.flatnonzero((y[1:-1] > y[:-2]) & (y[1:-1] >= y[2:]) & (y[1:-1] > np.median(y) + 5)) + 1
    np.testing.assert_allclose(np.diff(x[peaks]), 25.0, atol=0.3)
    assert y.max() - np.median(y) == pytest.approx(10.0, abs=2.0)
    pulses = [xy for xy in lines_of(figure, TRACE) if len(xy) == 6]
    assert len(pulses) == 2
    for pulse in pulses:
        assert np.ptp(pulse[:, 1]) == pytest.approx(10.0)
        assert pulse[3, 0] - pulse[2, 0] == pytest.approx(5.0)


def test_grid_of_leads_shows_each_in_its_quarter() -> None:
    figure = plot_ecg(ecg(), 100, STANDARD_LEADS)
    labels = [t.get_text() for t in figure.axes[0].texts]
    for name in STANDARD_LEADS:
        assert labels.count(name) == (2 if name == "II" else 1)
    widths = sorted(float(np.ptp(xy[:, 0])) for xy in lines_of(figure, TRACE) if len(xy) > 100)
    np.testing.assert_allclose(widths, [62.5] * 12 + [250.0], atol=0.3)
    assert overlaps(figure) == []


def test_missing_lead_is_said() -> None:
    figure = plot_ecg(ecg(2), 100, ["I", "II"], layout="3x4")
    labels = [t.get_text() for t in figure.axes[0].texts]
    assert "V1 not recorded" in labels
    assert overlaps(figure) == []


def test_reconstruction_is_drawn_at_masked_patches_alone() -> None:
    signal = ecg(2)
    mask = np.zeros((2, 20), bool)
    mask[0, [2, 3, 10]] = True
    figure = plot_ecg(signal, 100, ["I", "II"], layout="rows", reconstruction=signal + 0.2, patch_mask=mask)
    drawn = lines_of(figure, RECONSTRUCTED)
    finite = [xy[np.isfinite(xy[:, 1])] for xy in drawn]
    first = next(xy for xy in finite if len(xy))
    assert len(first) == 150
    seconds = (first[:, 0] - 18.0) / 25.0
    assert seconds.min() == pytest.approx(1.0)
    assert ((seconds < 2.0) | (seconds >= 5.0)).all()
    trace = next(xy for xy in lines_of(figure, TRACE) if len(xy) > 100)
    shift = first[:, 1] - trace[np.isin(trace[:, 0], first[:, 0]), 1]
    np.testing.assert_allclose(shift, 2.0)
    shades = [p for p in figure.axes[0].patches if isinstance(p, Rectangle) and p.get_alpha()]
    assert sorted(round(p.get_width(), 3) for p in shades) == [12.5, 25.0]
    assert any("8 %" in t.get_text() for t in figure.axes[0].texts)


def test_gaps_offsets_and_wild_leads_stay_on_the_page() -> None:
    signal = ecg() + 5.0
    signal[3, 100:300] = np.nan
    signal[4] = np.nan
    signal[5] *= 40
    figure = plot_ecg(signal, 100, STANDARD_LEADS)
    assert figure.get_size_inches()[1] * 25.4 < 300
    assert png_bytes(figure, dpi=40).startswith(PNG)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"lead_names": ["I"]}, LeadError),
        ({"layout": "circle"}, ConfigurationError),
        ({"reconstruction": ecg(2)}, ConfigurationError),
        ({"reconstruction": ecg(2)[:, :50], "patch_mask": np.ones((2, 5))}, ConfigurationError),
        ({"reconstruction": ecg(2), "patch_mask": np.ones((3, 5))}, ConfigurationError),
        ({"sampling_rate": 0.0}, ConfigurationError),
        ({"signal": np.zeros(5)}, ConfigurationError),
        ({"signal": "record.hea"}, ConfigurationError),
        ({"signal": {"signal": ecg(2)}}, ConfigurationError),
        ({"signal": EcgRecord(ecg(2), 100.0, ("II", "V1"))}, ConfigurationError),
        ({"signal": EcgRecord(ecg(2), 250.0, ("I", "II"))}, ConfigurationError),
        ({"sampling_rate": None}, ConfigurationError),
        ({"lead_names": None}, ConfigurationError),
        ({"start_s": 10.0}, ConfigurationError),
        ({"start_s": -1.0}, ConfigurationError),
        ({"start_s": float("nan")}, ConfigurationError),
        ({"duration_s": 0.0}, ConfigurationError),
        ({"mm_per_second": float("inf")}, ConfigurationError),
        ({"signal": np.zeros((2, 100_000)), "duration_s": 1000.0}, ConfigurationError),
    ],
)
def test_bad_ecg_requests(changes: dict[str, Any], error: type[Exception]) -> None:
    options: dict[str, Any] = {"signal": ecg(2), "sampling_rate": 100.0, "lead_names": ["I", "II"], **changes}
    with pytest.raises(error):
        plot_ecg(**options)


def test_a_record_is_drawn_as_its_array_and_has_its_title() -> None:
    values = ecg().astype(np.float32)
    record = EcgRecord(values, 100.0, STANDARD_LEADS, record_id="00001")
    by_hand = png_bytes(plot_ecg(values, 100, STANDARD_LEADS, title="00001"), dpi=40)
    assert png_bytes(ecg_hf.plot_ecg(record), dpi=40) == by_hand
    decoded = {"signal": values, "sampling_rate": 100.0, "lead_names": STANDARD_LEADS}
    assert png_bytes(plot_ecg(decoded, title="00001"), dpi=40) == by_hand
    assert png_bytes(plot_ecg(record, 100, STANDARD_LEADS), dpi=40) == by_hand


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (STANDARD_LEADS, 4),
        (("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"), 4),
        (("I", "II"), 2),
        ((*STANDARD_LEADS, "V7"), 13),
        (("MLII", "V5"), 2),
    ],
)
def test_the_usual_print_or_a_row_for_every_lead(names: tuple[str, ...], rows: int) -> None:
    figure = plot_ecg(EcgRecord(ecg(len(names)), 100.0, names))
    assert sum(len(xy) == 6 for xy in lines_of(figure, TRACE)) == rows  # a calibration pulse for each


def test_a_picture_may_begin_later() -> None:
    values = ecg(2, seconds=30.0)
    part = plot_ecg(values, 100, ["I", "II"], start_s=12.0, duration_s=5.0)
    whole = plot_ecg(values[:, 1200:], 100, ["I", "II"], duration_s=5.0)
    for drawn, expected in zip(lines_of(part, TRACE), lines_of(whole, TRACE), strict=True):
        np.testing.assert_array_equal(drawn, expected)
    assert any("from 12 s" in text.get_text() for text in part.axes[0].texts)
    mask = np.zeros((2, 30), bool)
    mask[0, [2, 14]] = True
    shifted = plot_ecg(values, 100, ["I", "II"], start_s=12.0, reconstruction=values + 0.2, patch_mask=mask)
    shades = [p for p in shifted.axes[0].patches if isinstance(p, Rectangle) and p.get_alpha()]
    assert [round(p.get_x(), 3) for p in shades] == [18.0 + 2 * 25.0]


def relevance(patches: np.ndarray, samples: int = 1000) -> Relevance:
    return Relevance(patches, 0.5, np.zeros((2, samples)), 100.0, "a finding")


def shades_of(figure: Any) -> list[tuple[float, float, tuple[float, ...]]]:
    """Left and right end of every shade and its colour."""
    found = []
    for collection in figure.axes[0].collections:
        if isinstance(collection, PolyCollection):
            for path, colour in zip(collection.get_paths(), collection.get_facecolors(), strict=True):
                found.append((*path.get_extents().intervalx, tuple(colour)))
    return found


def test_relevance_shades_its_stretch_of_its_lead() -> None:
    patches = np.zeros((2, 20))
    patches[0, 4], patches[1, 10] = 2.0, -1.0
    figure = plot_ecg(ecg(2), 100, ["I", "II"], layout="rows", relevance=relevance(patches))
    (left, right, speaks_for), (other, _, against) = shades_of(figure)
    assert (left, right) == pytest.approx((18.0 + 2.0 * 25, 18.0 + 2.5 * 25))
    assert other == pytest.approx(18.0 + 5.0 * 25)
    assert speaks_for == pytest.approx((*to_rgb(FOR), SHADE_ALPHA))
    assert against == pytest.approx((*to_rgb(AGAINST), SHADE_ALPHA / 2))
    assert any("a finding" in text.get_text() for text in figure.axes[0].texts)
    assert overlaps(figure) == []
    later = plot_ecg(ecg(2), 100, ["I", "II"], layout="rows", relevance=relevance(patches), start_s=2.25)
    assert shades_of(later)[0][:2] == pytest.approx((18.0, 18.0 + 0.25 * 25))
    short = plot_ecg(ecg(2), 100, ["I", "II"], relevance=relevance(patches), duration_s=3.0)
    assert overlaps(short) == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: plot_ecg(ecg(3), 100, ["I", "II", "V1"], relevance=relevance(np.zeros((2, 20)))),
        lambda: relevance(np.full((2, 20), np.nan)),
        lambda: relevance(np.zeros(20)),
        lambda: Relevance(np.zeros((2, 20)), 0.0, np.zeros((2, 20)), 100.0, "a finding"),
    ],
)
def test_a_relevance_that_cannot_be_drawn(wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        wrong()


def log(steps: int = 60) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        rows.append(
            {"step": step, "kind": "training", "epoch": step / 10, "loss": 3 / step, "loss_text": 1 / step,
             "masked_error_vs_zero": 0.9, "grad_norm": None, "learning_rate": 1e-3}
        )  # fmt: skip
        if step % 20 == 0:
            rows.append({"step": step, "kind": "evaluation", "eval_loss": 3.5 / step, "eval_runtime": 2.0})
    rows.append({"step": steps, "kind": "summary", "train_runtime": 9.0, "loss": 77.0})
    return rows


def test_every_term_has_a_curve() -> None:
    series = loss_series(log())
    assert list(series) == ["loss", "loss_text", "masked_error_vs_zero", "learning_rate"]
    steps, values = series["loss"]["train"]
    assert len(steps) == 60
    assert values.max() == 3.0, "the summary's mean is no point of the curve"
    np.testing.assert_array_equal(series["loss"]["evaluation"][0], [20, 40, 60])
    figure = plot_losses(log(), title="A run")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:4] == ["loss", "loss text", "masked error vs zero", "learning rate"]
    assert overlaps(figure) == []


def test_short_logs_and_bad_names() -> None:
    assert png_bytes(plot_losses([{"step": 1, "loss": 2.0}]), dpi=40).startswith(PNG)
    with pytest.raises(ConfigurationError, match="never logged: other"):
        plot_losses(log(), names=["other"])
    with pytest.raises(ConfigurationError, match="no curve"):
        plot_losses([])


def test_categories() -> None:
    assert categories_of([[1, 0], [0, 1], [1, 1], [0, 0]], ["a", "b"]) == ["a", "b", "several", "none"]
    labels = [[1, 0], [1, 0], [1, 1], [0, 0]]
    assert categories_of(labels, ["a", "b"], several=False) == ["a", "a", "b", "none"]  # the rarer of two


def test_map_groups_what_is_grouped_and_says_how_many() -> None:
    rng = np.random.default_rng(0)
    kind = np.arange(120) % 3
    x = rng.normal(size=(3, 8))[kind] * 6 + rng.normal(size=(120, 8))
    plane = embed_in_plane(x)
    np.testing.assert_array_equal(plane, embed_in_plane(x))
    centres = np.stack([plane[kind == k].mean(axis=0) for k in range(3)])
    nearest = np.linalg.norm(plane[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == kind).mean() > 0.95
    figure = plot_embedding_map(x, [f"class {k}" for k in kind], max_points=60, title="Map")
    texts = [t.get_text() for t in figure.findobj(lambda a: a.__class__.__name__ == "Text")]
    assert any("60 of 120 records" in t for t in texts)
    assert overlaps(figure) == []


def test_map_of_many_categories_keeps_the_rest_grey() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    figure = plot_embedding_map(x, [f"c{i % 12}" for i in range(200)], coordinates=x[:, :2])
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert len(labels) == 9
    assert labels[-1].startswith("other")
    assert overlaps(figure) == []


@pytest.mark.parametrize("x", [np.zeros((3, 4)), np.full((10, 4), np.nan), np.zeros(5)])
def test_map_of_nothing(x: np.ndarray) -> None:
    with pytest.raises(ConfigurationError):
        embed_in_plane(x)


def test_same_figure_same_bytes(tmp_path: Path) -> None:
    paths = [save_figure(plot_losses(log()), tmp_path / f"{i}.png", dpi=50) for i in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.png", "1.png"]


def test_drawing_imports_neither_pyplot_nor_evaluation() -> None:
    heavy = ("matplotlib.pyplot", "ecg_hf.evaluation", "torch")
    code = f"import sys, ecg_hf.plotting; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


NASTY = "a $\\frac{$ b\x1b[2J \ud800 $5"


def test_names_are_words_not_formulas(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    figures = {
        "ecg": plot_ecg(np.zeros((12, 500), np.float32), 100, STANDARD_LEADS, title=NASTY),
        "map": plot_embedding_map(rng.normal(size=(60, 4)), [NASTY, "n"] * 30, title=NASTY),
        "losses": plot_losses(
            [{"step": s, "kind": "training", f"loss_{NASTY}": 1.0, "loss": 1.0} for s in (1, 2, 3)],
            title=NASTY,
        ),
    }
    for name, figure in figures.items():
        for ending in ("png", "svg"):
            save_figure(figure, tmp_path / f"{name}.{ending}")
        figure.savefig(tmp_path / "by-hand.png")
        assert "\x1b" not in (tmp_path / f"{name}.svg").read_text()


def test_scores_over_time() -> None:
    starts = np.arange(0.0, 3600.0, 10.0)
    rng = np.random.default_rng(0)
    scores = {f"finding {i} $x$": rng.uniform(0, 0.1 * i, 360) for i in range(1, 11)}
    scores["finding 10 $x$"][100:200] = np.nan
    scores["nothing"] = np.full(360, np.nan)
    figure = plot_over_time(
        starts, scores, window_s=10, heart_rate=60 + 10 * np.sin(starts), title="a recording"
    )
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == "heart rate, per minute"
    assert titles[1:] == [f"finding {i} $x$" for i in range(10, 2, -1)]
    assert figure.axes[-1].get_xlabel() == "time into the recording, min"
    assert figure.axes[-1].get_xlim() == pytest.approx((0.0, 60.0))
    assert figure.axes[1].get_ylim() == figure.axes[-1].get_ylim()
    drawn = figure.axes[1].lines[0].get_xydata()
    np.testing.assert_allclose(drawn[0], [5.0 / 60.0, scores["finding 10 $x$"][0]])
    assert np.isnan(drawn[100:200, 1]).all()
    assert overlaps(figure) == []
    assert png_bytes(figure, dpi=40).startswith(PNG)


def test_scores_over_a_day_a_window_and_no_window() -> None:
    day = plot_over_time([0.0, 80_000.0], {"a": [-0.2, 0.4], "b": [0.0, 0.1]}, window_s=10, limits=None)
    assert day.axes[-1].get_xlabel().endswith(", h")
    assert day.axes[0].get_ylim() == day.axes[1].get_ylim() == pytest.approx((-0.248, 0.448))
    one = plot_over_time([0.0], {"a": [0.5]}, window_s=10, heart_rate=[np.nan])
    assert len(one.axes) == 1
    assert one.axes[0].get_xlabel().endswith(", s")
    for wrong in ({}, {"a": [np.nan]}, {"a": [0.1, 0.2]}):
        with pytest.raises(ConfigurationError):
            plot_over_time([0.0], wrong, window_s=10)
    with pytest.raises(ConfigurationError):
        plot_over_time([], {"a": []}, window_s=10)
