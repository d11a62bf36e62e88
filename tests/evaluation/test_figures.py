"""Results, ROC curves and reliability diagrams: right points, nothing over something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_curve

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.figures import plot_reliability, plot_results, plot_roc, roc_points
from ecg_hf.metrics.calibration import reliability
from ecg_hf.plotting import save_figure
from tests.metrics.test_ranking import scored_set

from ..plotting.test_plotting import NASTY, overlaps
from .test_results import example


def test_roc_points_equal_sklearn() -> None:
    labels, scores = scored_set(200)
    for k in (3, 4):
        ours = roc_points(labels[:, k], scores[:, k])
        theirs = roc_curve(labels[:, k], scores[:, k], drop_intermediate=False)[:2]
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_a_panel_for_every_defined_class() -> None:
    labels, scores = scored_set(150)
    labels[:, 2] = False
    names = [f"class {k}" for k in range(9)]
    figure = plot_roc(labels, {"one": scores, "other": -scores}, names, title="test set")
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    assert len(titles) == 8
    assert titles[2].startswith("class 3 (")
    assert overlaps(figure) == []
    assert overlaps(plot_roc(labels[:, :1], {"one": scores[:, :1]}, ["AF"])) == []
    with pytest.raises(ConfigurationError):
        plot_roc(labels[:, 2:3], {"one": scores[:, 2:3]}, ["none"])
    with pytest.raises(ConfigurationError):
        plot_roc(labels, {}, names)
    with pytest.raises(ConfigurationError):
        plot_roc(labels, {"one": scores}, names[:2])


def test_reliability_shows_filled_bins() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=2000)
    labels = rng.random(2000) < expit(logits)
    curves = {
        "as trained": reliability(labels, expit(3 * logits)),
        "scaled": reliability(labels, expit(logits), binning="mass"),
    }
    figure = plot_reliability(curves, title="calibration")
    drawn = figure.axes[0].lines[2].get_xydata()
    np.testing.assert_allclose(drawn[:, 1], curves["scaled"].observed)
    assert overlaps(figure) == []
    with pytest.raises(ConfigurationError):
        plot_reliability({})
    with pytest.raises(ConfigurationError, match="empty"):
        plot_reliability({"empty": reliability(np.full(3, np.nan), np.zeros(3))})


def test_many_curves_keep_their_names_apart() -> None:
    labels, scores = scored_set(150)
    names = [f"a model with a rather long name {k}" for k in range(8)]
    title = "own-labels, 100% of labels\n8 of 11 encoders"
    figure = plot_roc(labels, dict.fromkeys(names, scores), [f"class {k}" for k in range(9)], title=title)
    assert overlaps(figure) == []
    curve = reliability(labels[:, 3:5], expit(scores[:, 3:5]))
    figure = plot_reliability(dict.fromkeys(names, curve), title=title)
    assert overlaps(figure) == []
    legend = figure.axes[0].get_legend().get_window_extent()
    assert legend.y0 >= figure.axes[0].get_window_extent().y1


def test_results_figure() -> None:
    figure = plot_results(example(), "synthetic-findings")  # type: ignore[arg-type]
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert "0.800 [0.700, 0.900]" in texts
    assert "n/a" in texts
    assert overlaps(figure) == []
    with pytest.raises(ConfigurationError):
        plot_results({"dataset": "x", "probe": [], "timings": {}}, "x")


def test_names_are_words_not_formulas(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random((60, 3)) < 0.4, rng.random((60, 3))
    figures = {
        "roc": plot_roc(truth, {NASTY: scores}, [NASTY, "B", "C"], title=NASTY),
        "reliability": plot_reliability({NASTY: reliability(truth, scores)}, title=NASTY),
    }
    for name, figure in figures.items():
        for ending in ("png", "svg"):
            save_figure(figure, tmp_path / f"{name}.{ending}")
        assert "\x1b" not in (tmp_path / f"{name}.svg").read_text()
