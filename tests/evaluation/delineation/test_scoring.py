"""Scores of delineations against counts done by hand and by brute force."""

from __future__ import annotations

from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.delineation.annotations import WaveTimes, annotated_span, read_ludb
from ecg_hf.evaluation.delineation.scoring import match_times, score_delineations


def waves(onset: list[float], offset: list[float] | None = None) -> WaveTimes:
    start = np.array(onset, float)
    stop = start + 100 if offset is None else np.array(offset, float)
    return WaveTimes(start, np.where(np.isnan(start), stop - 50, start + 50), stop)


def best_by_trying(a: np.ndarray, b: np.ndarray, tolerance: float) -> tuple[int, float]:
    for size in range(min(len(a), len(b)), 0, -1):
        sums = [
            sum(abs(a[i] - b[j]) for i, j in zip(rows, columns, strict=True))
            for rows in combinations(range(len(a)), size)
            for columns in permutations(range(len(b)), size)
            if all(abs(a[i] - b[j]) <= tolerance for i, j in zip(rows, columns, strict=True))
        ]
        if sums:
            return size, min(sums)
    return 0, 0.0


def test_matching_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        a, b = rng.uniform(0, 900, rng.integers(0, 5)), rng.uniform(0, 900, rng.integers(0, 6))
        rows, columns = match_times(a, b)
        assert len(set(rows)) == len(set(columns)) == len(rows)
        size, total = best_by_trying(a, b, 150.0)
        assert len(rows) == size
        assert np.abs(a[rows] - b[columns]).sum() == pytest.approx(total)


def test_more_pairs_come_before_closer_pairs() -> None:
    rows, columns = match_times(np.array([0.0, 140.0]), np.array([130.0, 280.0]))
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [0, 1])


def test_tolerance_itself_is_allowed() -> None:
    assert len(match_times(np.array([0.0]), np.array([150.0]))[0]) == 1
    assert len(match_times(np.array([0.0]), np.array([150.1]))[0]) == 0


def test_counts_and_errors_by_hand() -> None:
    truth = [{"I": {"QRS": waves([1000, 2000, 3000, 4000])}}]
    # 10 late, 20 early, missed, 151 off (missed and surplus), surplus within, two outside the span.
    guess = [{"I": {"QRS": waves([1010, 1980, 4151 - 300, 2500, 500, 4200])}}]
    score = score_delineations(truth, guess, leads=["I"], waves=["QRS"], boundaries=["onset"])[1]
    assert (score.lead, score.wave, score.boundary) == ("I", "QRS", "onset")
    assert (score.annotated, score.found, score.surplus, score.missed) == (4, 3, 1, 1)
    assert score.sensitivity.estimate == 0.75
    assert score.ppv.estimate == 0.75
    errors = np.array([10.0, -20.0, -149.0])
    assert score.mean_ms.estimate == pytest.approx(errors.mean())
    assert score.sd_ms.estimate == pytest.approx(errors.std(ddof=1))
    assert score.as_row()["sensitivity"]["estimate"] == 0.75


def test_prediction_outside_the_span_may_still_be_a_partner() -> None:
    truth = [{"I": {"QRS": waves([1000, 2000])}}]
    guess = [{"I": {"QRS": waves([900, 2000])}}]
    score = score_delineations(truth, guess, leads=["I"], waves=["QRS"], boundaries=["onset"])[0]
    assert (score.found, score.surplus) == (2, 0)


def test_unmarked_boundary_is_not_judged() -> None:
    truth = [{"I": {"QRS": waves([500, np.nan, 3000], [600, 2100, 3100])}}]
    guess = [{"I": {"QRS": waves([500, 2000, 2500, 3000])}}]
    onset, offset = score_delineations(truth, guess, leads=["I"], waves=["QRS"])[:2]
    assert (onset.annotated, onset.found, onset.surplus) == (2, 2, 1)
    assert (offset.annotated, offset.found, offset.surplus) == (3, 3, 1)


def test_leads_are_pooled_and_a_lead_without_marks_is_not_judged() -> None:
    truth = [{"I": {"P": waves([100, 900])}, "II": {"P": waves([100])}, "III": {}}] * 2
    guess = [{"I": {"P": waves([100])}, "III": {"P": waves([300])}}] * 2
    rows = score_delineations(truth, guess, leads=["I", "II", "III"], boundaries=["onset"])
    found = {(row.lead, row.wave): (row.annotated, row.found, row.surplus) for row in rows}
    assert found["all", "P"] == (6, 2, 0)
    assert found["I", "P"] == (4, 2, 0)
    assert found["II", "P"] == (2, 0, 0)
    assert found["III", "P"] == (0, 0, 0)
    empty = next(row for row in rows if (row.lead, row.wave) == ("all", "T"))
    assert np.isnan([empty.sensitivity.estimate, empty.ppv.low, empty.mean_ms.high, empty.sd_ms.low]).all()


def test_intervals_are_those_of_resampled_records() -> None:
    rng = np.random.default_rng(1)
    truth, guess, shares = [], [], []
    for _ in range(30):
        marks = np.arange(1000.0, 9000.0, 800.0)
        kept = rng.random(len(marks)) < rng.uniform(0.4, 1.0)
        truth.append({"I": {"T": waves(marks.tolist())}})
        guess.append({"I": {"T": waves((marks + rng.normal(5, 20, len(marks)))[kept].tolist())}})
        shares.append(kept.mean())
    score = score_delineations(truth, guess, leads=["I"], waves=["T"], boundaries=["onset"])[0]
    assert score.sensitivity.estimate == pytest.approx(np.mean(shares))
    means = [rng.choice(shares, 30).mean() for _ in range(4000)]
    low, high = np.quantile(means, [0.025, 0.975])
    assert score.sensitivity.low == pytest.approx(low, abs=0.015)
    assert score.sensitivity.high == pytest.approx(high, abs=0.015)
    assert score.mean_ms.low < score.mean_ms.estimate < score.mean_ms.high


def test_bad_requests() -> None:
    truth = [{"I": {"T": waves([100])}}]
    with pytest.raises(ConfigurationError, match="2 predicted"):
        score_delineations(truth, truth * 2, leads=["I"])
    with pytest.raises(ConfigurationError, match="no records"):
        score_delineations([], [], leads=["I"])
    with pytest.raises(ConfigurationError, match="tolerance_ms"):
        score_delineations(truth, truth, leads=["I"], tolerance_ms=0.0)
    with pytest.raises(ConfigurationError, match="boundary"):
        score_delineations(truth, truth, leads=["I"], boundaries=["middle"])
    with pytest.raises(ConfigurationError, match="level"):
        score_delineations(truth, truth, leads=["I"], level=1.0)
    with pytest.raises(ConfigurationError, match="equally long"):
        WaveTimes(np.zeros(2), np.zeros(2), np.zeros(1))


@pytest.mark.realdata
def test_annotations_of_ludb_score_perfectly_against_themselves(recordings: Path) -> None:
    records = read_ludb(recordings / "ludb")[:5]
    marks = [one.delineation for one in records]
    rows = score_delineations(marks, marks, leads=["I", "II", "V3"], boundaries=["onset", "peak", "offset"])
    assert sum(row.annotated for row in rows[:9]) > 400
    for row in rows:
        assert (row.missed, row.surplus) == (0, 0)
        if row.annotated:
            assert row.sensitivity == row.ppv
            assert row.sensitivity.estimate == row.sensitivity.low == 1.0
            assert row.mean_ms.estimate == 0.0
    first = records[0]
    assert (first.record.record_id, first.record.sampling_rate) == ("1", 500.0)
    assert annotated_span(first.delineation["I"]) == (641 * 2.0, 3996 * 2.0)
