"""Masks of spans and the choice of negatives against their definitions."""

import torch

from ecg_hf.nn.masks.spans import mask_spans, pick_other_masked


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_spans_begin_where_the_noise_is_smallest() -> None:
    order = torch.tensor([[0.9, 0.1, 0.8, 0.7, 0.6, 0.5, 0.2, 0.0, 0.0, 0.0]])
    # Spans of 3 begin at tokens 0 to 6; 0.6 * 10 / 3 = 2.
    masked = mask_spans(torch.tensor([0.5]), order, probability=0.6, length=3)
    assert masked.tolist() == [[False, True, True, True, False, False, True, True, True, False]]


def test_the_number_of_spans_is_right_on_average_and_never_below_the_least() -> None:
    rows = 4000
    masked = mask_spans(rand(rows), rand(rows, 156), probability=0.05, length=1, min_spans=2)
    counts = masked.sum(1)
    assert set(counts.tolist()) == {7, 8}
    assert abs(float(counts.float().mean()) - 7.8) < 0.03
    few = mask_spans(rand(rows), rand(rows, 156), probability=0.001, length=1, min_spans=2)
    assert set(few.sum(1).tolist()) == {2}


def test_no_span_reaches_the_last_token_and_overlaps_are_allowed() -> None:
    masked = mask_spans(rand(500), rand(500, 156), probability=0.65, length=10)
    assert not masked[:, -1].any()
    assert 0.4 < float(masked.float().mean()) < 0.6  # 0.65 without overlaps
    assert (
        mask_spans(rand(3), rand(3, 5), probability=0.9, length=4, min_spans=9).tolist()
        == [[True, True, True, True, False]] * 3
    )


def test_others_are_masked_tokens_of_the_record_but_the_own() -> None:
    masked = rand(20, 30) < 0.4
    picked = pick_other_masked(masked, rand(20, 30, 200))
    for row in range(20):
        places = set(masked[row].nonzero()[:, 0].tolist())
        for token in places:
            assert set(picked[row, token].tolist()) == places - {token}


def test_records_without_others_give_positions_all_the_same() -> None:
    masked = torch.zeros(2, 4, dtype=torch.bool)
    masked[1, 3] = True
    picked = pick_other_masked(masked, torch.full((2, 4, 3), 1.0))
    assert picked.shape == (2, 4, 3)
    assert int(picked.min()) >= 0
    assert int(picked.max()) <= 3
