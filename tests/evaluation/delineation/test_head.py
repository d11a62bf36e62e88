"""The linear head against scikit-learn, and on both layouts of tokens."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.delineation.head import DelineationHead
from ecg_hf.evaluation.delineation.tokens import TokenLayout

RNG = np.random.default_rng(0)


def problem(
    layout: TokenLayout, leads: int, dim: int = 6, records: int = 30
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, and classes that a linear map of them makes likely."""
    tokens = RNG.normal(2.0, 3.0, (records, layout.count, dim)).astype(np.float32)
    body = tokens[:, layout.before :]
    patch = layout.samples_per_token
    outputs = patch * (1 if layout.leads else leads)
    scores = body @ RNG.normal(0, 0.5, (dim, outputs * 4)) + RNG.gumbel(size=(*body.shape[:2], outputs * 4))
    classes = scores.reshape(*body.shape[:2], -1, 4).argmax(-1)
    if layout.leads:
        return tokens, classes.reshape(records, leads, -1)
    return tokens, classes.reshape(records, layout.steps, leads, patch).swapaxes(1, 2).reshape(
        records, leads, -1
    )


def test_optimum_is_scikit_learns() -> None:
    layout = TokenLayout(5, 1, leads=3)
    tokens, classes = problem(layout, 3)
    head = DelineationHead(l2=1e-2).fit(tokens, classes, layout)
    assert head.converged
    x = tokens.reshape(-1, 6).astype(float)
    x = (x - x.mean(0)) / x.std(0)
    reference = LogisticRegression(C=1 / (1e-2 * len(x)), tol=1e-8, max_iter=2000).fit(x, classes.reshape(-1))
    found = head.probabilities(tokens).reshape(-1, 4)
    np.testing.assert_allclose(found, reference.predict_proba(x), atol=2e-3)


@pytest.mark.parametrize(
    "layout", [TokenLayout(8, 3, leads=2, before=1), TokenLayout(8, 3)], ids=["lead-major", "time"]
)
def test_every_sample_gets_its_own_class(layout: TokenLayout) -> None:
    tokens, classes = problem(layout, 2, records=60)
    head = DelineationHead().fit(tokens[:40], classes[:40], layout)
    chances = head.probabilities(tokens[40:])
    assert chances.shape == (20, 2, 24, 4)
    np.testing.assert_allclose(chances.sum(-1), 1.0, rtol=1e-5)
    right = (chances.argmax(-1) == classes[40:]).mean()
    shuffled = (chances.argmax(-1) == np.roll(classes[40:], 1, axis=2)).mean()
    assert right > 0.7
    assert right > shuffled + 0.25


def test_unknown_samples_have_no_influence() -> None:
    layout = TokenLayout(4, 2, leads=2)
    tokens, classes = problem(layout, 2)
    hidden = classes.copy()
    hidden[:, :, ::3] = -1
    hidden[0] = -1
    first = DelineationHead().fit(tokens, hidden, layout)
    garbage = tokens.copy()
    garbage[0] = 100.0
    second = DelineationHead().fit(garbage, hidden, layout)
    np.testing.assert_array_equal(first.probabilities(tokens), second.probabilities(tokens))


def test_samples_behind_the_last_token_and_tokens_behind_the_last_sample_are_left_out() -> None:
    layout = TokenLayout(4, 2)
    tokens, classes = problem(layout, 3)
    more_tokens = np.concatenate([tokens, np.full((30, 1, 6), 50.0, np.float32)], axis=1)
    more_classes = np.concatenate([classes, np.full((30, 3, 1), 2)], axis=2)
    first = DelineationHead().fit(tokens, classes, layout)
    second = DelineationHead().fit(more_tokens, more_classes, layout)
    np.testing.assert_array_equal(first.probabilities(tokens), second.probabilities(more_tokens))


def test_context_reads_neighbours_of_the_same_lead() -> None:
    layout = TokenLayout(10, 1, leads=2)
    tokens = RNG.normal(size=(40, 20, 3)).astype(np.float32)
    value = tokens[:, :, 0].reshape(40, 2, 10)
    # The class follows from the next token, which without context nobody knows.
    classes = np.zeros((40, 2, 10), int)
    classes[:, :, :-1] = (value[:, :, 1:] > 0).astype(int)
    blind = DelineationHead().fit(tokens, classes, layout).probabilities(tokens).argmax(-1)
    seeing = DelineationHead(context=1).fit(tokens, classes, layout).probabilities(tokens).argmax(-1)
    assert (blind == classes).mean() < 0.7
    assert (seeing[:, :, :-1] == classes[:, :, :-1]).mean() > 0.95


def test_constant_feature_is_ignored() -> None:
    layout = TokenLayout(4, 1, leads=2)
    tokens, classes = problem(layout, 2)
    tokens[:, :, 2] = 7.0
    head = DelineationHead().fit(tokens, classes, layout)
    moved = tokens.copy()
    moved[:, :, 2] = 9.0
    np.testing.assert_array_equal(head.probabilities(tokens), head.probabilities(moved))


def test_bad_requests() -> None:
    layout = TokenLayout(4, 1, leads=2)
    tokens, classes = problem(layout, 2)
    with pytest.raises(ConfigurationError, match="do not fit"):
        DelineationHead().fit(tokens, classes[:, :1], layout)
    with pytest.raises(ConfigurationError, match="do not fit"):
        DelineationHead().fit(tokens[:, :7], classes, layout)
    with pytest.raises(ConfigurationError, match="known class"):
        DelineationHead().fit(tokens, np.full_like(classes, -1), layout)
    with pytest.raises(ConfigurationError, match="not fitted"):
        DelineationHead().probabilities(tokens)
    with pytest.raises(ConfigurationError, match="l2"):
        DelineationHead(l2=-1.0)
