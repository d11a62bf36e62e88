"""Terms in token ids, and the targets made of them."""

import numpy as np
import torch

from ecg_hf.nn.losses.targets import regression_target_loss, term_entropy, term_loss
from ecg_hf.nn.targets import PrincipalComponents, Standardizer
from ecg_hf.nn.terms import TermBag, TermHead


def make_bag() -> TermBag:
    bag = TermBag(4)
    bag.words.copy_(torch.tensor([[2, -1], [2, 3], [3, 2], [5, -1]]))
    bag.idf.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    return bag


def test_words_and_neighbouring_pairs_are_found():
    ids = torch.tensor([[2, 3, 4, 0], [3, 4, 2, 5], [4, 4, 4, 4]])
    found = make_bag()(ids)
    assert found.tolist() == [[1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]]


def test_padding_is_no_word_and_breaks_pairs():
    ids, mask = torch.tensor([[2, 3, 5]]), torch.tensor([[1, 0, 1]])
    assert make_bag()(ids, mask).tolist() == [[1, 0, 0, 1]]


def test_a_term_counts_once():
    assert make_bag()(torch.tensor([[2, 2, 2]])).tolist() == [[1, 0, 0, 0]]


def test_weighted_bags_have_length_one_and_unknown_texts_are_zero():
    weighted = make_bag().weighted(torch.tensor([[2, 3], [4, 4]]))
    torch.testing.assert_close(weighted[0], torch.tensor([1.0, 2.0, 0.0, 0.0]) / 5**0.5)
    assert not weighted[1].any()


def test_an_untrained_head_loses_exactly_the_entropy():
    head = TermHead(8, 4).eval()
    frequency = torch.tensor([0.5, 0.1, 0.02, 0.9])
    head.set_vocabulary(make_bag().words, make_bag().idf, frequency)
    torch.nn.init.zeros_(head.predict[1].weight)
    logits = head(torch.randn(100_000, 8))
    terms = (torch.rand(100_000, 4) < frequency).float()
    assert abs(float(term_loss(logits, terms, term_entropy(frequency))) - 1.0) < 0.01


def test_records_without_a_report_take_no_part():
    logits, terms = torch.randn(3, 4), torch.ones(3, 4)
    one = term_loss(logits[:1], terms[:1], torch.tensor(1.0))
    known = torch.tensor([True, False, False])
    torch.testing.assert_close(term_loss(logits, terms, torch.tensor(1.0), known), one)


def test_unknown_values_take_no_part_and_give_no_gradient():
    predicted = torch.randn(2, 3, requires_grad=True)
    target = torch.tensor([[0.0, torch.nan, 1.0], [torch.nan, torch.nan, 2.0]])
    loss = regression_target_loss(predicted, target)
    loss.backward()
    known = torch.isfinite(target)
    expected = torch.nn.functional.smooth_l1_loss(predicted[known], target[known])
    torch.testing.assert_close(loss, expected)
    assert not predicted.grad[~known].any()


def test_standardizer_leaves_outliers_and_nan_out():
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(3.0, 2.0, (5000, 2)))
    values[0, 0], values[1, 0] = 1e4, torch.nan
    one = Standardizer(2, limit=6.0)
    one.fit(values)
    assert abs(float(one.mean[0]) - 3.0) < 0.4
    assert abs(float(one.scale[1]) - 2.0) < 0.1
    found = one(values.float())
    assert found[0, 0] == 6.0
    assert found[1, 0].isnan()


def test_principal_components_have_unit_variance_and_no_correlation():
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(size=(4000, 3)) @ rng.normal(size=(3, 12)) * 0.2).float()
    components = PrincipalComponents(12, 3)
    components.fit(values)
    found = components(values)
    torch.testing.assert_close(torch.cov(found.T), torch.eye(3), atol=0.05, rtol=0)
