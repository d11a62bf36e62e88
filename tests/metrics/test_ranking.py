"""Metrics against scikit-learn, and undefined classes said rather than guessed."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ecg_hf.errors import ConfigurationError
from ecg_hf.metrics.ranking import auprc, auroc, macro_auroc, score_classes


def scored_set(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Nine classes from rare to common; every third has heavily tied scores."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 9)) < np.geomspace(0.01, 0.8, 9)
    labels[0], labels[1] = True, False
    scores = rng.normal(size=(n, 9)) + labels
    scores[:, ::3] = scores[:, ::3].round()
    return labels, scores


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_sklearn_with_ties(seed: int) -> None:
    labels, scores = scored_set(seed=seed)
    roc = [roc_auc_score(y, s) for y, s in zip(labels.T, scores.T, strict=True)]
    pr = [average_precision_score(y, s) for y, s in zip(labels.T, scores.T, strict=True)]
    np.testing.assert_allclose(auroc(labels, scores), roc, rtol=0, atol=1e-9)
    np.testing.assert_allclose(auprc(labels, scores), pr, rtol=0, atol=1e-9)


def test_constant_scores_are_chance() -> None:
    labels = np.array([[1], [0], [0], [0]])
    assert auroc(labels, np.zeros((4, 1))) == 0.5
    assert auprc(labels, np.zeros((4, 1))) == 0.25


def test_one_dimensional_and_float32() -> None:
    labels, scores = scored_set()
    single = auroc(labels[:, 4].astype(int), scores[:, 4].astype(np.float32))
    assert single.shape == (1,)
    assert single[0] == pytest.approx(roc_auc_score(labels[:, 4], scores[:, 4].astype(np.float32)), abs=1e-9)


def test_undefined_classes_are_reported_and_left_out() -> None:
    labels, scores = scored_set()
    labels[:, 2] = False
    labels[:, 5] = True
    result = score_classes(labels, scores, list("abcdefghi"))
    assert result.undefined == ("c", "f")
    by_name = {c.name: c for c in result.classes}
    assert by_name["c"].auroc is None
    assert by_name["c"].positives == 0
    assert by_name["c"].excluded == "no positive record"
    assert by_name["f"].excluded == "no negative record"
    assert by_name["f"].positives == by_name["f"].n == len(labels)
    kept = [0, 1, 3, 4, 6, 7, 8]
    assert result.macro_auroc == pytest.approx(
        roc_auc_score(labels[:, kept], scores[:, kept], average="macro"), abs=1e-12
    )
    assert result.positives["a"] == labels[:, 0].sum()


def test_no_class_defined_gives_no_number() -> None:
    result = score_classes(np.zeros((5, 2)), np.random.default_rng(0).random((5, 2)))
    assert result.macro_auroc is None
    assert result.macro_auprc is None


def test_excluded_classes_keep_their_reason() -> None:
    labels, scores = scored_set()
    result = score_classes(labels, scores, list("abcdefghi"), excluded={"d": "never seen"})
    assert result.undefined == ("d",)
    assert next(c for c in result.classes if c.name == "d").excluded == "never seen"
    with pytest.raises(ConfigurationError, match="not among"):
        score_classes(labels, scores, list("abcdefghi"), excluded={"z": "?"})


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 3)), "share one"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "nothing to score"),
        (np.full((3, 1), 2), np.zeros((3, 1)), "0 or 1"),
        (np.array([[1], [-1]]), np.zeros((2, 1)), "0 or 1"),
        (np.array([[1], [0]]), np.array([[0.0], [np.nan]]), "record 1, class 0"),
        (np.array([[1], [0]]), np.array([["a"], ["b"]]), "real numbers"),
    ],
)
def test_bad_input_is_a_typed_error(labels: np.ndarray, scores: np.ndarray, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        auroc(labels, scores)


def test_macro_auroc_leaves_out_labels_that_do_not_occur() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random((50, 3)) < 0.4).astype(int)
    labels[:, 1] = 0
    scores = generator.random((50, 3))
    value, counted = macro_auroc(labels, scores)
    assert counted == 2
    assert value == pytest.approx(np.mean([roc_auc_score(labels[:, i], scores[:, i]) for i in (0, 2)]))
    assert macro_auroc(np.zeros((4, 2)), scores[:4, :2])[1] == 0
    unknown = labels.astype(float)
    unknown[:10, 2] = np.nan
    assert macro_auroc(unknown, scores)[0] == pytest.approx(
        np.mean([roc_auc_score(labels[:, 0], scores[:, 0]), roc_auc_score(labels[10:, 2], scores[10:, 2])])
    )
