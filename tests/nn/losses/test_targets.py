"""Losses of known targets: their scale, what is unknown, half precision."""

import pytest
import torch

from ecg_hf.nn.losses.targets import regression_target_loss, term_entropy, term_loss


def test_predicting_frequencies_costs_one():
    generator = torch.Generator().manual_seed(0)
    prior = torch.rand(40, generator=generator) * 0.8 + 0.1
    terms = (torch.rand(20000, 40, generator=generator) < prior).float()
    loss = term_loss(torch.logit(prior).expand(len(terms), -1), terms, term_entropy(prior))
    assert float(loss) == pytest.approx(1.0, abs=0.01)
    assert float(term_loss(20.0 * (2 * terms - 1), terms, term_entropy(prior))) < 1e-6


def test_records_without_report_take_no_part():
    logits, terms = torch.randn(4, 5), torch.ones(4, 5)
    known = torch.tensor([True, False, True, False])
    entropy = term_entropy(torch.full((5,), 0.5))
    assert torch.equal(
        term_loss(logits, terms, entropy, known), term_loss(logits[known], terms[known], entropy)
    )


def test_unknown_values_have_neither_loss_nor_gradient():
    predicted = torch.randn(3, 4, requires_grad=True)
    target = torch.zeros(3, 4)
    target[:, 0] = torch.nan
    loss = regression_target_loss(predicted, target)
    expected = torch.nn.functional.smooth_l1_loss(predicted[:, 1:], target[:, 1:])
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert predicted.grad is not None
    assert (predicted.grad[:, 0] == 0).all()
    assert float(regression_target_loss(predicted.detach(), torch.full((3, 4), torch.nan))) == 0.0
    assert regression_target_loss(predicted.half(), target).dtype == torch.float32
