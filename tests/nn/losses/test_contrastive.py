"""Matching of pairs beyond the reference values of CG-DMER: retrieval, and diagonals that do not match."""

import pytest
import torch

from ecg_hf.nn.collapse import pair_accuracy
from ecg_hf.nn.losses import masked_token_loss, siglip_loss


def test_pair_accuracy_counts_partners_among_the_nearest_of_both_directions() -> None:
    first = torch.eye(4)
    second = torch.eye(4)[[1, 0, 2, 3]]
    assert pair_accuracy(first, second, top=1) == 0.5
    assert pair_accuracy(first, first, top=1) == 1.0
    assert pair_accuracy(first, second, top=4) == pair_accuracy(first, second, top=9) == 1.0


def test_a_diagonal_pair_that_does_not_match_is_a_negative() -> None:
    ecg, text = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    matching = torch.tensor([True, False, True, True, False])
    options = {"scale": 1.0, "bias": 0.0, "reduction": "mean_pairs", "normalize": False}
    signs = torch.where(torch.eye(5, dtype=torch.bool) & matching, 1.0, -1.0)
    expected = -torch.nn.functional.logsigmoid(signs * (ecg @ text.T)).mean()
    torch.testing.assert_close(siglip_loss(ecg, text, matching=matching, **options), expected)
    everything = torch.ones(5, dtype=torch.bool)
    assert torch.equal(
        siglip_loss(ecg, text, matching=everything, **options), siglip_loss(ecg, text, **options)
    )


def test_words_count_per_text_or_all_alike() -> None:
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 2, 3], [4, 0, 0]])
    weights = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    words = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    by_token = masked_token_loss(logits, labels, weights, reduction="tokens")
    assert by_token.item() == pytest.approx((words[0].sum() + words[1, 0]).item() / 4)
    by_text = masked_token_loss(logits, labels, weights)
    assert by_text.item() == pytest.approx((words[0].mean() + words[1, 0]).item() / 2)
