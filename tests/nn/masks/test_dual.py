"""Spatio-Temporal Dual Masking: whole columns, whole leads, equal counts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_hf.nn.masks.dual import draw_dual_counts, dual_mask, present_leads_first, random_order

SETTINGS = {"time_ratio": 0.5, "lead_probability": 0.2, "min_leads": 2}


@given(leads=st.integers(1, 12), times=st.integers(1, 30), data=st.data())
@settings(max_examples=50, deadline=None)
def test_visible_tokens_are_the_product_of_leads_and_times(leads, times, data):
    kept = data.draw(st.integers(1, leads)), data.draw(st.integers(1, times))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    a = random_order(3, leads, generator=generator, device=torch.device("cpu"))[:, : kept[0]]
    b = random_order(3, times, generator=generator, device=torch.device("cpu"))[:, : kept[1]]
    mask = dual_mask(a, b, leads, times)
    for row in range(3):
        grid = np.zeros((leads, times), bool)
        grid[np.ix_(a[row].numpy(), b[row].numpy())] = True
        assert mask.visible[row].tolist() == np.flatnonzero(grid).tolist()
        assert mask.masked[row].tolist() == np.flatnonzero(~grid).tolist()


def test_masked_columns_are_equal_across_the_kept_leads():
    generator = torch.Generator().manual_seed(0)
    leads, times = (random_order(50, n, generator=generator, device=torch.device("cpu")) for n in (8, 50))
    mask = dual_mask(leads[:, :6], times[:, :25], 8, 50)
    columns = mask.visible.view(50, 6, 25) % 50
    assert torch.equal(columns, columns[:, :1].expand_as(columns))
    assert mask.visible.shape[1] == 150
    # Drawn for each record anew.
    assert len({tuple(row) for row in columns[:, 0].tolist()}) == 50


def test_share_of_masked_tokens():
    counts = [draw_dual_counts(seed, 8, 50, **SETTINGS) for seed in range(4000)]
    visible = np.array([c.leads * c.times / 400 for c in counts])
    assert 1 - visible.mean() == pytest.approx(0.60, abs=0.005)
    leads = np.array([c.leads for c in counts])
    assert {c.times for c in counts} == {25}
    assert leads.min() >= 2
    assert (leads == 8).mean() == pytest.approx(0.8**8, abs=0.02)
    binomial = 8 - np.random.default_rng(0).binomial(8, 0.2, 4000)
    assert leads.var() == pytest.approx(binomial.var(), rel=0.1)


def test_some_leads_are_always_kept():
    kept = {
        draw_dual_counts(s, 8, 10, time_ratio=0.5, lead_probability=0.9, min_leads=3).leads
        for s in range(200)
    }
    assert min(kept) == 3


def test_alternating_hides_columns_or_leads():
    counts = [draw_dual_counts(s, 8, 50, **SETTINGS, mode="alternate") for s in range(1000)]
    assert all((c.leads == 8 and c.times == 25) or (c.leads < 8 and c.times == 50) for c in counts)
    assert np.mean([c.times == 25 for c in counts]) == pytest.approx(0.5, abs=0.05)


def test_positions_are_hidden_uniformly():
    order = random_order(8000, 10, generator=torch.Generator().manual_seed(1), device=torch.device("cpu"))
    shares = torch.bincount(order[:, :4].flatten(), minlength=10) / 8000
    assert (shares - 0.4).abs().max() < 0.03


def test_missing_leads_are_dropped_first():
    order = random_order(64, 2, 8, generator=torch.Generator().manual_seed(2), device=torch.device("cpu"))
    lead_mask = torch.ones(64, 8, dtype=torch.long)
    lead_mask[:32, 3:6] = 0
    lead_mask[32:, 1:] = 0
    kept = present_leads_first(order[..., :5], order[..., 5:], lead_mask)
    assert not torch.isin(kept[:32], torch.tensor([3, 4, 5])).any()
    assert (kept[32:] == 0).any(-1).all()
    assert all(len(set(row)) == 5 for row in kept.flatten(0, 1).tolist())
    # With all leads there, the draw stands.
    full = torch.ones(64, 8)
    assert torch.equal(present_leads_first(order[..., :5], order[..., 5:], full), order[..., :5])
