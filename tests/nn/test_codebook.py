"""Codes on the unit sphere: nearest, straight through, and how they move."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ecg_hf.nn.codebook import Codebook, moved_codes, spread_codes


def book(size: int = 4, decay: float = 0.9) -> Codebook:
    return Codebook(size, 3, decay)


def vectors(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(1))


def test_the_nearest_code_is_that_of_least_distance() -> None:
    made, values = book(), vectors(2, 5)
    distance = torch.cdist(F.normalize(values, dim=-1), made.codes)
    assert torch.equal(made.nearest(values), distance.argmin(-1))
    quantized = made(values)
    assert torch.equal(quantized.codes, distance.argmin(-1))
    torch.testing.assert_close(quantized.values, made.codes[quantized.codes])
    expected = (distance.min(-1).values.square() / 3).mean()
    torch.testing.assert_close(quantized.commitment, expected)


def test_gradients_pass_straight_through() -> None:
    values = vectors(5).requires_grad_()
    weights = vectors(5).flip(0)
    (book()(values).values * weights).sum().backward()
    other = values.detach().clone().requires_grad_()
    (F.normalize(other, dim=-1) * weights).sum().backward()
    torch.testing.assert_close(values.grad, other.grad)


def test_codes_move_towards_their_vectors_alone() -> None:
    codes = torch.eye(3)
    sums = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 5.0]])
    moved = moved_codes(codes, sums, torch.tensor([2.0, 0.0, 5.0]), 0.75)
    torch.testing.assert_close(moved[0], F.normalize(torch.tensor([0.75, 0.25, 0.0]), dim=0))
    assert torch.equal(moved[1:], codes[1:])


def test_first_codes_point_in_all_directions() -> None:
    codes = spread_codes(2000, 16)
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(2000))
    assert float(codes.mean(0).norm()) < 0.02
    # As for random directions: of 2000 in 16 dimensions.
    cosines = codes @ codes.T - 2.0 * torch.eye(2000)
    assert 0.7 < float(cosines.amax(1).mean()) < 0.8
    assert float(cosines.max()) < 0.95


def test_evaluation_moves_nothing() -> None:
    made = book().eval()
    before = made.codes.clone()
    made(vectors(7))
    made.step()
    assert torch.equal(made.codes, before)
    made.train()(vectors(7))
    made.step()
    assert not torch.equal(made.codes, before)


@pytest.mark.parametrize("count", [2, 40])
def test_codes_are_fitted_to_many_vectors_or_few(count: int) -> None:
    made = book(8)
    assert not made.fitted
    made.fit(vectors(count))
    assert made.fitted
    torch.testing.assert_close(made.codes.norm(dim=1), torch.ones(8))
    if count == 2:
        nearest = made(vectors(2))
        assert float(nearest.commitment) < 1e-10
