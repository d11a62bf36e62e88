"""Curves: leads go missing by name, rates go down, the head stays."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ecg_hf.errors import ConfigurationError, LeadError
from ecg_hf.evaluation.cache import fingerprint_dataset
from ecg_hf.evaluation.features.pooled import embed_dataset
from ecg_hf.evaluation.figures import plot_robustness
from ecg_hf.evaluation.heads.linear import LinearProbe
from ecg_hf.evaluation.robustness import (
    LEAD_SETS,
    Condition,
    degraded,
    plan_leads,
    plan_rates,
    robustness_curve,
)
from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.signal.leads import STANDARD_LEADS
from tests.evaluation.built import built_rows


def test_lead_sets_are_intersected_with_the_models() -> None:
    assert [len(c.leads or ()) for c in plan_leads(STANDARD_LEADS)] == [12, 6, 3, 2, 1]
    eight = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
    assert [c.leads for c in plan_leads(eight)] == [
        eight,
        ("I", "II"),
        ("I", "II", "V2"),
        ("I", "II"),
        ("I",),
    ]
    assert [c.name for c in plan_leads(eight)] == list(LEAD_SETS)
    with pytest.raises(LeadError, match="'1'"):
        plan_leads(("II",))


def test_rates_go_down_from_what_is_stored() -> None:
    rows = built_rows([np.ones((12, 1000))] * 3, rates=[500.0, 500.0, 250.0])
    assert [c.sampling_rate for c in plan_rates(rows.select([0, 1]))] == [500.0, 250.0, 125.0, 100.0]
    mixed = plan_rates(rows)
    assert (mixed[0].name, mixed[0].sampling_rate) == ("250 and 500 Hz", None)
    assert [c.sampling_rate for c in mixed[1:]] == [125.0, 100.0]
    assert len(plan_rates(built_rows([np.ones((12, 100))]))) == 1
    with pytest.raises(ConfigurationError):
        plan_rates(rows, (0.0,))


class Power(nn.Module):
    """Spread of every lead; remembers the masks it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[torch.Tensor] = []

    def forward(self, input_values: torch.Tensor, lead_mask: torch.Tensor) -> Any:
        self.masks.append(lead_mask)
        return SimpleNamespace(pooler_output=input_values.std(-1))


def labelled(n: int = 120, rate: float = 200.0) -> tuple[Any, np.ndarray]:
    """One class shows in the size of lead I, one in V6, one as a fast wave in lead I."""
    rng = np.random.default_rng(0)
    y = rng.random((n, 3)) < 0.4
    t = np.arange(int(2 * rate)) / rate
    signals = rng.normal(size=(n, 12, len(t))) * 0.1 + np.sin(2 * np.pi * 5 * t)
    signals[:, 0] += (y[:, 0] * 1.0)[:, None] * np.sin(2 * np.pi * 5 * t)
    signals[:, 11] += (y[:, 1] * 1.0)[:, None] * np.sin(2 * np.pi * 5 * t)
    signals[:, 6] = 0.3 * signals[:, 6] + (y[:, 2] * 1.0)[:, None] * np.sin(2 * np.pi * 70 * t)
    return built_rows(list(signals), rates=rate), y


def test_curve() -> None:
    rows, y = labelled()
    model, extractor = Power(), EcgFeatureExtractor(sampling_rate=200, duration_s=2.0, derive_leads=False)

    def embed(view: Any) -> np.ndarray:
        return embed_dataset(model, extractor, view, progress=False)

    head = LinearProbe(c_grid=(1.0,)).fit(embed(rows), y)
    model.masks.clear()
    points = robustness_curve(
        embed, rows, plan_leads(extractor.lead_names), head, y, ["size I", "size V6", "fast"], n_resamples=50
    )
    masks = torch.cat(model.masks).reshape(5, 120, 12)
    assert masks.sum(dim=(1, 2)).tolist() == [120 * k for k in (12, 6, 3, 2, 1)]
    assert torch.equal(masks[3, 0], torch.tensor([1, 1, *[0] * 10]))
    assert points[0].loss.limits == [0.0, 0.0]
    by_class = [[c.auroc for c in p.score.classes] for p in points]
    assert by_class[0][1] > 0.99
    assert by_class[1][1] < 0.7  # V6 is gone
    assert by_class[4][0] > 0.95  # lead I is not
    assert points[1].loss.low > 0
    assert points[1].as_dict()["leads"] == list(STANDARD_LEADS[:6])
    slow = robustness_curve(
        embed, rows, plan_rates(rows, (100.0,)), head, y, ["size I", "size V6", "fast"], n_resamples=20
    )
    assert [p.condition.name for p in slow] == ["200 Hz", "100 Hz"]
    assert slow[0].score.macro_auroc == points[0].score.macro_auroc
    after = [c.auroc for c in slow[1].score.classes]
    assert after[0] > 0.95
    assert after[2] < 0.8  # 70 Hz cannot be stored at 100 Hz

    figure = plot_robustness({"model": points, "other": points}, title="leads")
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["12", "6", "3", "2", "1"]
    with pytest.raises(ConfigurationError, match="same conditions"):
        plot_robustness({"model": points, "other": slow})
    with pytest.raises(ConfigurationError):
        plot_robustness({})


def test_views_have_their_own_fingerprint_and_equal_real_recorders() -> None:
    rows, _ = labelled(4)
    view = degraded(rows, Condition("leads", "2", leads=("I", "II")))
    assert fingerprint_dataset(view) != fingerprint_dataset(rows)
    assert view[0]["ecg"]["lead_names"] == ("I", "II")
    np.testing.assert_array_equal(view[1]["ecg"]["signal"], rows[1]["ecg"]["signal"][:2])
    assert degraded(rows, Condition("rate", "100", sampling_rate=100.0))[0]["ecg"]["signal"].shape == (
        12,
        200,
    )
    with pytest.raises(ConfigurationError):
        degraded(rows, Condition("rate", "100", sampling_rate=100.0), column="age")
    with pytest.raises(ConfigurationError):
        robustness_curve(lambda v: v, rows, (), LinearProbe(), np.zeros((4, 1)), ["a"])
