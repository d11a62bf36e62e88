"""Conduction-view masks against the rules, one row at a time."""

from __future__ import annotations

import pytest
import torch

from ecg_hf.nn.masks.beats import (
    beat_mask_indices,
    conduction_decoder_mask,
    official_encoder_bias,
    restrict_keys,
    view_encoder_mask,
)

LEADS, BEATS = 4, 3


@pytest.fixture
def masked() -> torch.Tensor:
    """Different masks for three records."""
    return torch.rand(3, LEADS * BEATS, generator=torch.Generator().manual_seed(0)) < 0.6


def test_decoder_mask_row_by_row(masked: torch.Tensor) -> None:
    allowed = conduction_decoder_mask(masked, LEADS)
    total = LEADS + LEADS * BEATS
    assert allowed.shape == (3, 1, total, total)
    for record in range(3):
        for row in range(total):
            for column in range(total):
                if row < LEADS and column < LEADS:
                    expected = row == column
                elif row < LEADS:
                    expected = (column - LEADS) // BEATS == row
                elif column < LEADS:
                    expected = (row - LEADS) // BEATS == column
                else:
                    query, key = row - LEADS, column - LEADS
                    same = query % BEATS == key % BEATS
                    expected = same if masked[record, query] else not masked[record, key]
                assert bool(allowed[record, 0, row, column]) == expected


def test_view_mask_row_by_row() -> None:
    leads_of_tokens = torch.tensor([[0, 2, 2, 3], [1, 1, 0, 3]])
    allowed = view_encoder_mask(leads_of_tokens, LEADS)
    assert allowed.shape == (2, 1, 8, 8)
    for record in range(2):
        owner = [*range(LEADS), *leads_of_tokens[record].tolist()]
        for row in range(8):
            for column in range(8):
                both_beats = row >= LEADS and column >= LEADS
                expected = both_beats or owner[row] == owner[column]
                if row < LEADS and column < LEADS:
                    expected = row == column
                assert bool(allowed[record, 0, row, column]) == expected


def test_official_bias_is_one_outside_a_window_without_offset() -> None:
    bias = official_encoder_bias(torch.tensor([[3, 0, 0, 2]]), LEADS)[0, 0]
    assert bias[LEADS:].abs().sum() == 0
    # Leads 0 to 3 have 2, 0, 1 and 1 tokens: windows 0-1, none, 2, 3 - where lead tokens stand, not beats.
    assert (bias[:LEADS] == 0).nonzero().tolist() == [[0, 0], [0, 1], [2, 2], [3, 3]]


def test_masked_share_keeps_the_official_truncation() -> None:
    visible, masked = beat_mask_indices(torch.rand(2, 180), 0.8)
    assert visible.shape == (2, 35)
    assert masked.shape == (2, 145)
    assert torch.equal(torch.cat([visible, masked], 1).sort(1).values, torch.arange(180).expand(2, -1))
    everything, nothing = beat_mask_indices(torch.rand(1, 180), 0.0)
    assert everything.shape == (1, 180)
    assert nothing.shape == (1, 0)
    with pytest.raises(ValueError, match="mask ratio"):
        beat_mask_indices(torch.rand(1, 180), 1.0)


def test_hidden_keys_are_seen_by_nobody_but_themselves(masked: torch.Tensor) -> None:
    keys = torch.ones(3, LEADS + LEADS * BEATS, dtype=torch.bool)
    keys[1, [2, 9]] = False
    boolean = conduction_decoder_mask(masked, LEADS)
    bias = official_encoder_bias(torch.arange(12)[None] // BEATS, LEADS)
    for mask in (None, boolean, bias):
        result = restrict_keys(mask, keys)
        seen = result if result.dtype == torch.bool else result > -1e9
        for hidden in (2, 9):
            assert not seen[1, 0, :hidden, hidden].any()
            assert not seen[1, 0, hidden + 1 :, hidden].any()
        assert seen.diagonal(dim1=-2, dim2=-1).all()
    assert torch.equal(restrict_keys(boolean, keys)[0], boolean[0])
    assert restrict_keys(None, None) is None
    assert restrict_keys(boolean, None) is boolean
