"""Ranks by hand and by a slow loop; duplicates, ties, intervals."""

from __future__ import annotations

import time

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.retrieval import evaluate_retrieval, retrieval_ranks
from ecg_hf.metrics.bootstrap import resample_counts


def pairs(n: int = 150, distinct: int = 60, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    reports = rng.integers(0, distinct, n)
    text = rng.normal(size=(distinct, 16))[reports]
    return text + noise * rng.normal(size=text.shape), text, reports


def slow_ranks(queries: np.ndarray, candidates: np.ndarray, groups: np.ndarray) -> np.ndarray:
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, candidates)]
    similar = (unit[0] @ unit[1].T).astype(np.float32)
    ranks = []
    for i, row in enumerate(similar):
        right = groups == groups[i]
        best = row[right].max()
        ranks.append(1 + (row[~right] > best + 1e-6).sum() + 0.5 * (abs(row[~right] - best) <= 1e-6).sum())
    return np.array(ranks)


@pytest.mark.parametrize("block", [7, 1024])
def test_ranks_equal_a_loop(block: int) -> None:
    ecg, text, reports = pairs()
    np.testing.assert_array_equal(
        retrieval_ranks(ecg, text, reports, block=block), slow_ranks(ecg, text, reports)
    )
    np.testing.assert_array_equal(
        retrieval_ranks(text, ecg, reports, block=block), slow_ranks(text, ecg, reports)
    )
    own = np.arange(len(ecg))
    np.testing.assert_array_equal(retrieval_ranks(ecg, text, block=block), slow_ranks(ecg, text, own))


def test_duplicates_count_unless_strict() -> None:
    ecg = np.eye(4)
    text = ecg[[0, 0, 2, 3]]
    reports = ["Sinus  rhythm.", "sinus rhythm. ", "AF", "LBBB"]
    lenient = evaluate_retrieval(ecg[[0, 0, 2, 3]], text, reports, n_resamples=0)
    assert lenient.ecg_to_text.ranks.tolist() == [1, 1, 1, 1]
    assert lenient.distinct == 3
    strict = evaluate_retrieval(ecg[[0, 0, 2, 3]], text, strict=True, n_resamples=0)
    assert strict.ecg_to_text.ranks.tolist() == [1.5, 1.5, 1, 1]
    assert strict.text_to_ecg.recall[1].estimate == 0.5
    assert np.isnan(strict.text_to_ecg.recall[1].low)


def test_constant_features_are_chance_not_perfect() -> None:
    result = evaluate_retrieval(np.ones((101, 4)), np.ones((101, 4)), strict=True, n_resamples=10)
    assert result.ecg_to_text.median_rank.estimate == 51
    assert result.ecg_to_text.recall[10].estimate == 0
    assert result.ecg_to_text.chance[10] == pytest.approx(10 / 101)


def test_candidates_that_differ_by_rounding_tie() -> None:
    ecg, text, reports = pairs(400)
    rng = np.random.default_rng(1)
    # As another processor's matrix product might leave it.
    rounded = text * (1 + 1e-7 * rng.choice([-1, 0, 1], size=text.shape))
    own = np.arange(len(ecg))
    expected = slow_ranks(ecg, text, own)
    assert (expected % 1 == 0.5).any(), "some report must occur an even number of times"
    np.testing.assert_array_equal(retrieval_ranks(ecg, rounded), expected)
    np.testing.assert_array_equal(retrieval_ranks(ecg, rounded, reports), slow_ranks(ecg, text, reports))


def test_chance_of_duplicates_is_the_hypergeometric_one() -> None:
    rng = np.random.default_rng(0)
    reports = [f"r{i}" for i in rng.integers(0, 12, 40)]
    found = []
    for _ in range(120):
        x, y = rng.normal(size=(2, 40, 6))
        found.append(evaluate_retrieval(x, y, reports, n_resamples=0).ecg_to_text)
    for k in (1, 5):
        mean = np.mean([one.recall[k].estimate for one in found])
        assert mean == pytest.approx(found[0].chance[k], abs=0.025)


def test_intervals_are_those_of_resampled_queries() -> None:
    ecg, text, reports = pairs(120, 120, noise=2.5)
    patients = np.arange(120) // 3
    result = evaluate_retrieval(
        ecg, text, [str(r) for r in reports], patient_ids=patients, n_resamples=60, seed=4
    )
    one = result.text_to_ecg
    counts = np.concatenate(list(resample_counts(120, n_resamples=60, seed=4, groups=patients)), axis=1)
    recalls, medians = [], []
    for column in counts.T.astype(int):
        drawn = np.repeat(one.ranks, column)
        recalls.append((drawn <= 5).mean())
        medians.append(np.median(drawn))
    assert one.recall[5].limits == pytest.approx(list(np.quantile(recalls, [0.025, 0.975])))
    assert one.median_rank.limits == pytest.approx(list(np.quantile(medians, [0.025, 0.975])))
    assert result.unit == "patients"
    assert result.as_dict()["text_to_ecg"]["recall_at_5"]["value"] == (one.ranks <= 5).mean()


@pytest.mark.slow
def test_ten_thousand_against_ten_thousand() -> None:
    ecg, text, reports = pairs(10_000, 4_000)
    start = time.process_time()
    ranks = retrieval_ranks(ecg, text, reports)
    assert time.process_time() - start < 20
    assert ranks.min() >= 1


def test_bad_input_is_a_typed_error() -> None:
    ecg, text, _ = pairs(10)
    for call in (
        lambda: evaluate_retrieval(ecg, text),
        lambda: evaluate_retrieval(ecg, text, ["a"]),
        lambda: evaluate_retrieval(ecg, text[:, :3], strict=True),
        lambda: evaluate_retrieval(ecg, text, strict=True, cutoffs=(0,)),
        lambda: evaluate_retrieval(ecg * 0, text, strict=True),
        lambda: retrieval_ranks(ecg, text, [1, 2]),
    ):
        with pytest.raises(ConfigurationError):
            call()
