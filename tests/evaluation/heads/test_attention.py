"""The attention probe: the published head, found answers, masks, windows, selection on validation alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.features.store import TokenFeatures
from ecg_hf.evaluation.heads.attention import AttentionProbe, QueryHead, pool_with_one_query
from ecg_hf.evaluation.heads.linear import LinearProbe
from ecg_hf.nn.heads import UnprojectedQueryPool

N, TOKENS, DIM = 360, 24, 8
TRAIN, VALIDATION, TEST = slice(0, 200), slice(200, 280), slice(280, N)


def needle(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two classes; each is one strong token at a random place, among tokens whose noise drowns it in the mean."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, TOKENS, DIM))
    y = rng.random((N, 2)) < 0.5
    for k in range(2):
        place = rng.integers(0, TOKENS, size=N)
        x[np.arange(N), place, k] += 9.0 * y[:, k]
    # Per record and feature the mean over tokens is replaced by noise: it says nothing about the class.
    x += rng.normal(size=(N, 1, DIM)) - x.mean(axis=1, keepdims=True)
    return x.astype(np.float32), y.astype(np.float32)


def fit(x: Any, y: np.ndarray, **settings: Any) -> AttentionProbe:
    tokens = x if isinstance(x, TokenFeatures) else TokenFeatures(x)
    probe = AttentionProbe(**{"epochs": 25, "learning_rate": 1e-2, "num_heads": 2, **settings})
    indices = np.arange(len(tokens))
    return probe.fit(
        tokens.select(indices[TRAIN]), y[TRAIN], tokens.select(indices[VALIDATION]), y[VALIDATION]
    )


def test_finds_what_the_mean_dilutes() -> None:
    x, y = needle()
    probe = fit(x, y)
    attention = roc_auc_score(y[TEST], probe.decision_function(x[TEST]))
    pooled = x.mean(axis=1)
    linear = LinearProbe().fit(pooled[TRAIN], y[TRAIN], pooled[VALIDATION], y[VALIDATION])
    mean = roc_auc_score(y[TEST], linear.decision_function(pooled[TEST]))
    assert attention > 0.9
    assert mean < 0.65
    assert len(probe.validation_auroc) == 25
    assert probe.validation_auroc[probe.epoch - 1] == max(probe.validation_auroc)


@pytest.mark.parametrize("masked", [False, True])
def test_folded_pooling_equals_the_layer(masked: bool) -> None:
    torch.manual_seed(0)
    pool = UnprojectedQueryPool(12, 3).double()
    torch.nn.init.normal_(pool.query)
    tokens = torch.randn(5, 7, 12, dtype=torch.float64)
    mask = None
    if masked:
        mask = torch.rand(5, 7) < 0.6
        mask[1] = False
    gradients, outputs = [], []
    for function in (pool.forward, lambda *given: pool_with_one_query(pool, *given)):
        pool.zero_grad()
        pooled = function(tokens, mask)
        pooled.square().sum().backward()
        outputs.append(pooled.detach())
        gradients.append([p.grad.clone() for p in pool.parameters()])
    torch.testing.assert_close(outputs[0], outputs[1])
    for one, two in zip(*gradients, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, two)


def test_head_divides_any_width_and_follows_its_seed() -> None:
    assert QueryHead(512, 16, 5, bias=False, seed=0).pool.num_heads == 16
    assert QueryHead(100, 16, 5, bias=False, seed=0).pool.num_heads == 10
    assert QueryHead(7, 16, 5, bias=False, seed=0).pool.num_heads == 7
    state = torch.random.get_rng_state()
    one, two, other = (QueryHead(8, 2, 3, bias=True, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state()), "the caller's generator is left alone"
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)
    assert 0.5 < QueryHead(512, 16, 5, bias=False, seed=0).pool.query.std() * 512**0.5 < 2


def test_deterministic_by_seed() -> None:
    x, y = needle()
    one, two, other = (fit(x, y, epochs=3, seed=seed).decision_function(x[TEST]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 1e-3


def test_stored_half_precision_changes_little() -> None:
    x, y = needle()
    half = x.astype(np.float16)
    one, two = (fit(v, y, epochs=4).decision_function(v[TEST]) for v in (x, half))
    np.testing.assert_allclose(one, two, atol=0.05)
    # From a file or an array, the same numbers give the same probe.
    three = fit(half.astype(np.float32), y, epochs=4).decision_function(half[TEST])
    np.testing.assert_array_equal(two, three)


def test_masked_tokens_have_no_influence() -> None:
    x, y = needle()
    mask = np.random.default_rng(1).random((N, TOKENS)) < 0.7
    mask[:, 0] = True
    zero = np.where(mask[..., None], x, 0.0)
    wild = np.where(mask[..., None], x, 1e3)
    one, two = (TokenFeatures(v, mask) for v in (zero, wild))
    first, second = (fit(v, y, epochs=3).decision_function(v) for v in (one, two))
    np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
    assert np.abs(fit(zero, y, epochs=3).decision_function(zero) - first).max() > 1e-3


def test_record_without_any_token_has_a_score() -> None:
    x, y = needle()
    mask = np.ones((N, TOKENS), bool)
    mask[[3, 290]] = False
    x[~mask] = 0.0
    assert np.isfinite(fit(TokenFeatures(x, mask), y, epochs=2).predict_proba(TokenFeatures(x, mask))).all()


def test_scale_is_learnt_on_training_records_alone() -> None:
    x, y = needle()
    mask = np.random.default_rng(1).random((N, TOKENS)) < 0.7
    x = 3.0 * x + 7.0
    x[..., 5] = 2.0
    probe = fit(TokenFeatures(x, mask), y, epochs=1)
    flat = x[TRAIN][mask[TRAIN]].astype(np.float64)
    np.testing.assert_allclose(probe._centre, flat.mean(axis=0), rtol=1e-5)
    scale = 1.0 / flat.std(axis=0)[:5]
    np.testing.assert_allclose(probe._scale[:5], scale, rtol=1e-5)
    assert probe._scale[5] == 0.0, "a constant feature stays constant"
    # Whatever the validation records hold, the training steps are the same.
    shifted = x.copy()
    shifted[VALIDATION] += 100.0
    other = fit(TokenFeatures(shifted, mask), y, epochs=1)
    np.testing.assert_array_equal(other.decision_function(x[TEST]), probe.decision_function(x[TEST]))


def test_published_form_has_no_scale_and_no_bias() -> None:
    x, y = needle()
    probe = fit(x, y, epochs=2, standardise=False)
    assert probe._centre is None
    assert probe.head is not None
    assert {name for name, _ in probe.head.named_parameters()} == {
        "pool.query", "pool.query_projection.weight", "pool.key_projection.weight",
        "pool.value_projection.weight", "classifier.weight",
    }  # fmt: skip


def test_defaults_are_the_published_ones() -> None:
    probe = AttentionProbe()
    assert (probe.epochs, probe.learning_rate, probe.weight_decay) == (100, 1e-3, 1e-3)
    assert (probe.batch_size, probe.num_heads) == (64, 16)


class TestSelection:
    def test_epoch_is_chosen_by_validation(self) -> None:
        x, y = needle()
        # Reversed validation labels: the best epoch is the one that learnt least.
        y[VALIDATION] = 1 - y[VALIDATION]
        probe = fit(x, y)
        assert probe.validation_auroc[-1] < 0.4
        assert probe.epoch < 10
        assert not probe.epoch_at_end
        same = roc_auc_score(y[VALIDATION], probe.decision_function(x[VALIDATION]))
        assert same == pytest.approx(max(probe.validation_auroc)), "the weights of that epoch are kept"

    def test_without_validation_the_last_epoch_is_kept(self) -> None:
        x, y = needle()
        settings: dict[str, Any] = {"epochs": 4, "learning_rate": 1e-2, "num_heads": 2}
        probe = AttentionProbe(**settings).fit(x[TRAIN], y[TRAIN])
        assert probe.epoch == 4
        assert probe.epoch_at_end
        assert probe.validation_auroc == ()

    def test_undefined_validation_is_an_error(self) -> None:
        x, y = needle()
        y[VALIDATION] = 0
        with pytest.raises(ConfigurationError, match="epoch cannot be chosen"):
            fit(x, y)


class TestLabels:
    def test_unknown_labels_have_no_influence(self) -> None:
        x, y = needle()
        unknown = np.random.default_rng(2).random(y.shape) < 0.3
        one = np.where(unknown, np.nan, y)
        probe = fit(x, one)
        assert roc_auc_score(y[TEST], probe.decision_function(x[TEST])) > 0.85
        known = ~unknown[VALIDATION]
        scores = probe.decision_function(x[VALIDATION])
        areas = [roc_auc_score(y[VALIDATION][known[:, k], k], scores[known[:, k], k]) for k in range(2)]
        assert np.mean(areas) == pytest.approx(max(probe.validation_auroc))

    def test_wholly_unknown_class_is_not_learnt(self) -> None:
        x, y = needle()
        y = np.column_stack([y, np.full(N, np.nan), np.zeros(N), np.ones(N)])
        probe = AttentionProbe(epochs=2, num_heads=2).fit(x[TRAIN], y[TRAIN], class_names=list("abcde"))
        assert probe.unfitted == {
            "c": "no positive record among 0 for training",
            "d": "no positive record among 200 for training",
            "e": "no negative record among 200 for training",
        }
        assert not probe.decision_function(x[TEST])[:, 2:].any()
        assert np.isnan(probe.predict_proba(x[TEST])[:, 2:]).all()
        # Classes that are not learnt do not take part in the loss either.
        alone = AttentionProbe(epochs=2, num_heads=2).fit(x[TRAIN], y[TRAIN][:, :2])
        assert alone.unfitted == {}

    @pytest.mark.parametrize(
        "labels", [np.zeros((200, 2)), np.full((200, 2), 2.0), np.zeros(200), np.zeros((199, 2))]
    )
    def test_bad_labels(self, labels: np.ndarray) -> None:
        with pytest.raises(ConfigurationError):
            AttentionProbe(epochs=1).fit(needle()[0][TRAIN], labels)


class TestWindows:
    def test_one_window_is_the_plain_path(self) -> None:
        x, y = needle()
        one = fit(TokenFeatures(x, windows=1), y, epochs=3)
        np.testing.assert_array_equal(
            one.decision_function(x[TEST]), fit(x, y, epochs=3).decision_function(x[TEST])
        )

    def test_score_is_the_mean_probability_of_the_windows(self) -> None:
        x, y = needle()
        windowed = TokenFeatures(x, windows=4)
        probe = fit(windowed, y, epochs=3)
        single = [probe.predict_proba(x[:, 6 * i : 6 * (i + 1)]) for i in range(4)]
        np.testing.assert_allclose(probe.predict_proba(windowed), np.mean(single, axis=0), rtol=1e-6)

    def test_windows_without_signal_do_not_count(self) -> None:
        x, y = needle()
        mask = np.ones((N, TOKENS), bool)
        mask[::2, 6:12] = False
        mask[0, 21:] = False
        windowed = TokenFeatures(np.where(mask[..., None], x, 50.0), mask, windows=4)
        probe = fit(windowed, y, epochs=3)
        single = np.stack([probe.predict_proba(x[:, 6 * i : 6 * (i + 1)]) for i in range(4)])
        scores = probe.predict_proba(windowed)
        np.testing.assert_allclose(scores[1::2], single.mean(axis=0)[1::2], rtol=1e-6)
        np.testing.assert_allclose(scores[2::2], single[[0, 2, 3]].mean(axis=0)[2::2], rtol=1e-6)
        half = probe.predict_proba(x[:1, 18:21])[0]
        np.testing.assert_allclose(scores[0], (single[0, 0] + single[2, 0] + 0.5 * half) / 2.5, rtol=1e-6)

    def test_training_draws_windows_that_hold_signal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        x, y = needle()
        mask = np.ones((N, TOKENS), bool)
        mask[:, 6:12] = False
        drawn: list[np.ndarray] = []
        take = TokenFeatures.take

        def spy(self: TokenFeatures, rows: np.ndarray, windows: np.ndarray | None = None) -> Any:
            if windows is not None:
                drawn.append(windows)
            return take(self, rows, windows)

        monkeypatch.setattr(TokenFeatures, "take", spy)
        AttentionProbe(epochs=20, num_heads=2).fit(
            TokenFeatures(x, mask, windows=4).select(np.arange(200)), y[TRAIN]
        )
        counts = np.bincount(np.concatenate(drawn), minlength=4) / (20 * 200)
        assert counts[1] == 0
        np.testing.assert_allclose(counts[[0, 2, 3]], 1 / 3, atol=0.03)

    def test_confident_windows_keep_their_order(self) -> None:
        x, y = needle()
        windowed = TokenFeatures(x, windows=2)
        probe = fit(windowed, y, epochs=2)
        assert probe.head is not None
        with torch.no_grad():
            probe.head.classifier.weight *= 1e4
        scores = probe.decision_function(windowed)
        assert np.isfinite(scores).all()
        assert len(np.unique(scores[:, 0])) == N


def test_bad_requests() -> None:
    x, y = needle()
    for name in ("epochs", "batch_size", "num_heads", "learning_rate", "clip_sd"):
        with pytest.raises(ConfigurationError, match=name):
            AttentionProbe(**{name: 0})
    with pytest.raises(ConfigurationError, match="not been fitted"):
        AttentionProbe().decision_function(x)
    with pytest.raises(ConfigurationError, match="both validation"):
        AttentionProbe().fit(x, y, x)
    with pytest.raises(ConfigurationError, match="tokens of 4"):
        AttentionProbe().fit(x, y, x[..., :4], y)
    with pytest.raises(ConfigurationError, match="names"):
        AttentionProbe().fit(x, y, class_names=["a"])
    probe = AttentionProbe(epochs=1, num_heads=2).fit(x, y)
    with pytest.raises(ConfigurationError, match="fitted to tokens of 8"):
        probe.decision_function(x[..., :4])
    x[5, 0, 0] = np.nan
    with pytest.raises(ConfigurationError, match="not finite in epoch 1"):
        AttentionProbe(epochs=1, num_heads=2).fit(x, y)
