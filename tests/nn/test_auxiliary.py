"""Auxiliary targets: which terms are chosen, what is standardised, and that each record counts by itself."""

import pytest
import torch

from ecg_hf.errors import ConfigurationError
from ecg_hf.nn.auxiliary import MIN_REPORTS, AuxiliaryTargets


def corpus() -> dict[str, torch.Tensor]:
    """100 reports: 7 in all, 5 in half, 5 6 together in a fifth, 9 in fewer than count; the rest is padding."""
    ids = torch.zeros(100, 5, dtype=torch.long)
    ids[:, 0] = 7
    ids[::2, 1] = 5
    ids[::5, 2:4] = torch.tensor([5, 6])
    ids[: MIN_REPORTS - 1, 4] = 9
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "measures": torch.randn(100, 3) * 4 + 2}


def fitted(**sizes: int) -> AuxiliaryTargets:
    torch.manual_seed(0)
    targets = AuxiliaryTargets(8, **sizes)
    batch = corpus()
    targets.fit([{k: v[:60] for k, v in batch.items()}, {k: v[60:] for k, v in batch.items()}])
    return targets


def test_terms_are_those_of_enough_reports_and_not_of_all():
    targets = fitted(num_terms=6)
    found = {
        tuple(words): float(p) for words, p in zip(targets.terms.words.tolist(), targets.prior, strict=True)
    }
    batch = corpus()["input_ids"]
    five = float((batch == 5).any(1).float().mean())
    assert found.pop((5, -1)) == pytest.approx(five)
    assert found.pop((6, -1)) == pytest.approx(0.2)
    assert found.pop((5, 6)) == pytest.approx(0.2)
    # 7 stands in every report and 9 in too few; what is left over matches nothing and is never expected.
    assert not any(words[0] == 7 and words[1] == -1 for words in found)
    assert not any(9 in words for words in found)
    left = targets.prior == 0
    assert not targets.terms(batch)[:, left].any()


def test_terms_do_not_depend_on_how_reports_are_batched():
    batch = corpus()
    one = AuxiliaryTargets(8, num_terms=6)
    one.fit([batch])
    assert torch.equal(one.terms.words, fitted(num_terms=6).terms.words)


def test_untrained_targets_lose_what_frequencies_lose():
    targets = fitted(num_terms=6, num_measures=3)
    for head in (targets.term_head, targets.measure_head):
        torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(targets.measure_head.bias)
    losses = targets(torch.randn(100, 8), **corpus())
    assert float(losses["auxiliary_terms"]) == pytest.approx(1.0, abs=1e-4)
    assert 0.5 < float(losses["auxiliary_measures"]) < 1.0


def test_a_batch_is_the_mean_of_its_records():
    targets, batch = fitted(num_terms=6, num_measures=3), corpus()
    batch["measures"][3, 1] = torch.nan
    embedding = torch.randn(100, 8)
    whole = targets(embedding, **batch)
    parts = [targets(embedding[i : i + 50], **{k: v[i : i + 50] for k, v in batch.items()}) for i in (0, 50)]
    for name, value in whole.items():
        torch.testing.assert_close(value, (parts[0][name] + parts[1][name]) / 2)


def test_what_is_missing_is_named():
    targets = fitted(num_terms=6, num_measures=3)
    with pytest.raises(ConfigurationError, match="measures are missing"):
        targets(torch.randn(2, 8), input_ids=torch.ones(2, 3, dtype=torch.long))
    with pytest.raises(ConfigurationError, match="input_ids are missing"):
        targets(torch.randn(2, 8), measures=torch.zeros(2, 3))
    few = {"input_ids": torch.arange(12).reshape(4, 3)}
    with pytest.raises(ConfigurationError, match="no term of the 4 training reports"):
        AuxiliaryTargets(8, num_terms=6).fit([few])
