"""Region contrast against loops, and what may never be a negative."""

import math

import numpy as np
import pytest
import torch

from ecg_hf.nn.losses import nt_xent_loss
from ecg_hf.nn.losses.regions import region_contrast_loss, region_pair_losses

ROWS, REGIONS, DIM, TAU = 6, 4, 16, 0.1


def embeddings(rows: int = ROWS, dim: int = DIM, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, rows, REGIONS, dim, generator=generator, dtype=torch.float64)
    return first.requires_grad_(), second.requires_grad_()


def naive_pair(first: np.ndarray, second: np.ndarray, d: int, e: int, present: np.ndarray) -> float:
    """One ordered pair of regions, anchor by anchor."""

    def unit(vector: np.ndarray) -> np.ndarray:
        return vector / np.linalg.norm(vector)

    rows = len(first)
    pool = [(unit(first[j, d]), j, present[j, d]) for j in range(rows)]
    pool += [(unit(second[j, e]), j, present[j, e]) for j in range(rows)]
    losses = []
    for a, (anchor, record, _) in enumerate(pool):
        if not (present[record, d] and present[record, e]):
            continue
        partner = (a + rows) % (2 * rows)
        total = sum(
            math.exp(anchor @ other / TAU) for k, (other, _, there) in enumerate(pool) if k != a and there
        )
        losses.append(-math.log(math.exp(anchor @ pool[partner][0] / TAU) / total))
    return float(np.mean(losses)) if losses else 0.0


@pytest.mark.parametrize("missing", [False, True])
def test_equals_loops(missing: bool):
    first, second = embeddings()
    present = np.ones((ROWS, REGIONS), dtype=bool)
    if missing:
        present[0, 1] = present[2, :3] = present[3] = False
        present[:, 3] = False
    pairs = [
        [naive_pair(first.detach().numpy(), second.detach().numpy(), d, e, present) for e in range(REGIONS)]
        for d in range(REGIONS)
    ]
    mask = torch.from_numpy(present) if missing else None
    losses = region_pair_losses(first, second, temperature=TAU, present=mask)
    np.testing.assert_allclose(losses.detach().numpy(), pairs, rtol=1e-10)
    intra = sum(pairs[d][d] for d in range(REGIONS))
    inter = sum(pairs[d][e] for d in range(REGIONS) for e in range(REGIONS) if d != e) / (REGIONS - 1)
    for reduction, factor in (("sum", 1), ("mean", REGIONS)):
        terms = region_contrast_loss(first, second, temperature=TAU, present=mask, reduction=reduction)
        assert terms.intra.item() == pytest.approx(intra / factor)
        assert terms.inter.item() == pytest.approx(inter / factor)
    (losses.sum()).backward()
    assert first.grad.isfinite().all()
    if missing:
        assert (first.grad[~mask] == 0).all()
        assert (second.grad[~mask] == 0).all()


def test_a_mask_of_ones_masks_nothing():
    first, second = embeddings()
    masked = region_pair_losses(first, second, temperature=TAU, present=torch.ones(ROWS, REGIONS))
    torch.testing.assert_close(masked, region_pair_losses(first, second, temperature=TAU))


def test_every_pair_is_nt_xent():
    first, second = embeddings()
    losses = region_pair_losses(first, second, temperature=TAU)
    for d in range(REGIONS):
        for e in range(REGIONS):
            torch.testing.assert_close(losses[d, e], nt_xent_loss(first[:, d], second[:, e], temperature=TAU))


@pytest.mark.parametrize(("d", "e"), [(0, 0), (0, 2), (3, 1)])
def test_gradient_is_zero_outside_the_pair(d: int, e: int):
    """Other regions of the same record are no negatives: they do not enter at all."""
    first, second = embeddings()
    region_pair_losses(first, second, temperature=TAU)[d, e].backward()
    for values, region in ((first, d), (second, e)):
        assert (values.grad[:, region].abs().sum(-1) > 0).all()
        others = [r for r in range(REGIONS) if r != region]
        assert (values.grad[:, others] == 0).all()


def test_one_record_alone_has_nothing_to_be_told_from():
    """All other vectors are its own: were any of them a negative, the loss would not be zero."""
    first, second = embeddings(rows=1)
    losses = region_pair_losses(first, second, temperature=TAU)
    torch.testing.assert_close(losses, torch.zeros_like(losses))
    losses.sum().backward()
    torch.testing.assert_close(first.grad, torch.zeros_like(first))


def test_regions_of_one_record_are_pulled_together():
    """A step against the inter-region gradient brings other regions of the same record nearer."""
    first, second = embeddings()

    def cosine() -> torch.Tensor:
        pairs = torch.cosine_similarity(first.unsqueeze(2), second.unsqueeze(1), dim=-1).mean(0)
        return (pairs.sum() - pairs.trace()) / (REGIONS * (REGIONS - 1))

    before = cosine()
    region_contrast_loss(first, second, temperature=TAU).inter.backward()
    with torch.no_grad():
        first -= 0.5 * first.grad
        second -= 0.5 * second.grad
    assert cosine() > before


def test_unrelated_vectors_start_near_the_theoretical_value():
    rows = 64
    first, second = embeddings(rows, dim=4096)
    for reduction, factor in (("sum", REGIONS), ("mean", 1)):
        terms = region_contrast_loss(first, second, temperature=TAU, reduction=reduction)
        for term in terms:
            assert term.item() == pytest.approx(factor * math.log(2 * rows - 1), rel=0.01)


def test_identical_views_lose_less_than_unrelated_ones():
    first, second = embeddings()
    same = region_contrast_loss(first, first, temperature=TAU).intra
    assert same < 0.2 * region_contrast_loss(first, second, temperature=TAU).intra


def test_half_precision_is_computed_in_full():
    first, second = (x.detach().float() for x in embeddings())
    expected = region_pair_losses(first, second, temperature=TAU)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = region_pair_losses(first, second, temperature=TAU)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, expected)
