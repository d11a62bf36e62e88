"""Signs of collapse on embeddings whose geometry is known."""

import pytest
import torch

from ecg_hf.nn.collapse import effective_rank, embedding_spread, mean_cosine


def test_uniform_directions_are_healthy():
    rows = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    assert embedding_spread(rows) == pytest.approx(1.0, abs=0.01)
    assert mean_cosine(rows) == pytest.approx(0.0, abs=0.01)
    assert 60 < effective_rank(rows) <= 64


def test_one_direction_is_a_collapse():
    rows = torch.rand(100, 1, generator=torch.Generator().manual_seed(0)) @ torch.ones(1, 8)
    assert embedding_spread(rows) == pytest.approx(0.0, abs=1e-6)
    assert mean_cosine(rows) == pytest.approx(1.0, abs=1e-5)
    assert effective_rank(rows) == pytest.approx(1.0, abs=1e-4)


def test_a_single_row_is_no_nan():
    for function in (embedding_spread, mean_cosine, effective_rank):
        assert torch.isfinite(function(torch.ones(1, 4)))
