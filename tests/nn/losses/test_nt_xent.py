"""NT-Xent against its definition, written out anchor by anchor."""

import math

import pytest
import torch

from ecg_hf.nn.losses import nt_xent_loss


def naive(first, second, temperature, groups=None):
    rows = len(first)
    vectors = [v / v.norm() for v in torch.cat([first, second])]
    total = 0.0
    for i, anchor in enumerate(vectors):
        partner = (i + rows) % (2 * rows)
        denominator = 0.0
        for k, other in enumerate(vectors):
            same = groups is not None and groups[i % rows] >= 0 and groups[i % rows] == groups[k % rows]
            if k == i or (same and k % rows != i % rows):
                continue
            denominator += math.exp(float(anchor @ other) / temperature)
        total -= math.log(math.exp(float(anchor @ vectors[partner]) / temperature) / denominator)
    return total / (2 * rows)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 5, 8, generator=generator, dtype=torch.float64).unbind()


@pytest.mark.parametrize("groups", [None, [0, 1, 0, 2, 1], [3, 3, 3, 3, 3], [-1, -1, 4, 4, 5]])
def test_equals_the_definition(pair, groups):
    loss = nt_xent_loss(*pair, temperature=0.1, groups=None if groups is None else torch.tensor(groups))
    assert loss.item() == pytest.approx(naive(*pair, 0.1, groups), rel=1e-12)


def test_leading_dimensions_are_pools_of_their_own(pair):
    first, second = pair
    together = nt_xent_loss(torch.stack([first, second]), torch.stack([second, second]), temperature=0.2)
    expected = [nt_xent_loss(first, second, temperature=0.2), nt_xent_loss(second, second, temperature=0.2)]
    torch.testing.assert_close(together, torch.stack(expected))


def test_unrelated_vectors_start_at_the_logarithm_of_the_pool():
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 64, 4096, generator=generator)
    assert nt_xent_loss(first, second, temperature=1.0).item() == pytest.approx(math.log(127), abs=0.01)
    assert nt_xent_loss(first, first, temperature=0.1) < nt_xent_loss(first, second, temperature=0.1) - 4.0


def test_half_precision_is_computed_in_full(pair):
    first, second = (v.bfloat16() for v in pair)
    loss = nt_xent_loss(first, second, temperature=0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nt_xent_loss(first.float(), second.float(), temperature=0.1))


def test_same_patient_neither_pulls_nor_pushes(pair):
    first, second = (v.clone().requires_grad_() for v in pair)
    groups = torch.tensor([7, 7, 1, 2, 3])
    # With nobody left to tell apart, the partner is all of the denominator.
    loss = nt_xent_loss(first[:2], second[:2], temperature=0.1, groups=groups[:2])
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert second.grad.abs().max() == 0
    assert nt_xent_loss(*pair, temperature=0.1, groups=groups) < nt_xent_loss(*pair, temperature=0.1)
