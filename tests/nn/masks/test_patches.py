import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_hf.nn.masks.patches import mask_patches, mask_text_tokens


@given(
    leads=st.integers(1, 12),
    patches=st.integers(1, 40),
    ratio=st.floats(0.0, 0.95),
    strategy=st.sampled_from(["per_lead", "joint", "tube"]),
)
@settings(max_examples=60, deadline=None)
def test_every_token_is_visible_or_masked_once(leads, patches, ratio, strategy):
    noise = torch.rand(3, leads, patches, generator=torch.Generator().manual_seed(0))
    mask = mask_patches(noise, ratio, strategy)
    together = torch.cat([mask.visible, mask.masked], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(leads * patches).expand(3, -1))
    assert mask.visible.shape[1] >= 1
    assert torch.equal(mask.visible, mask.visible.sort(dim=1).values)


def test_paper_numbers():
    """12 leads of 100 patches at 0.75: 300 visible, 900 masked, 25 visible in each lead."""
    mask = mask_patches(torch.rand(2, 12, 100), 0.75)
    assert mask.visible.shape == (2, 300)
    assert torch.equal(torch.bincount(mask.visible[0] // 100), torch.full((12,), 25))


def test_leads_are_masked_independently_and_tubes_are_not():
    noise = torch.rand(1, 12, 40)
    per_lead = mask_patches(noise, 0.5).visible.view(12, -1) % 40
    tube = mask_patches(noise, 0.5, "tube").visible.view(12, -1) % 40
    assert not all(torch.equal(per_lead[0], row) for row in per_lead)
    assert all(torch.equal(tube[0], row) for row in tube)


def test_positions_are_hidden_uniformly():
    noise = torch.rand(4000, 2, 10, generator=torch.Generator().manual_seed(1))
    counts = torch.bincount(mask_patches(noise, 0.7).masked.flatten(), minlength=20) / 4000
    assert (counts - 0.7).abs().max() < 0.03


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_impossible_ratio(ratio):
    with pytest.raises(ValueError, match="mask ratio"):
        mask_patches(torch.rand(1, 2, 3), ratio)


@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=6), probability=st.floats(0.01, 0.9))
@settings(max_examples=60, deadline=None)
def test_masked_words_are_words_and_their_number_is_right(lengths, probability):
    maskable = torch.arange(30)[None, :] < torch.tensor(lengths)[:, None]
    noise = torch.rand(len(lengths), 30, generator=torch.Generator().manual_seed(2))
    mask = mask_text_tokens(noise, maskable, probability)
    for row, length in enumerate(lengths):
        chosen = mask.positions[row][mask.weights[row].bool()]
        assert len(chosen.unique()) == len(chosen)
        assert maskable[row][chosen].all()
        expected = min(length, max(1, int(length * probability + 0.5)))
        assert abs(len(chosen) - expected) <= (1 if length * probability % 1 == 0.5 else 0)


def test_padding_does_not_change_the_choice():
    noise = torch.rand(2, 64)
    maskable = torch.zeros(2, 64, dtype=torch.bool)
    maskable[:, 1:15] = True
    short, long = (
        mask_text_tokens(noise[:, :20], maskable[:, :20], 0.3),
        mask_text_tokens(noise, maskable, 0.3),
    )
    for row in range(2):
        a, b = (m.positions[row][m.weights[row].bool()] for m in (short, long))
        assert torch.equal(a, b)
