"""Waves to classes and back."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.delineation.annotations import WaveTimes
from ecg_hf.evaluation.delineation.tokens import UNKNOWN, WaveRules, classes_at, waves_from_probabilities


def waves(*pairs: tuple[float, float]) -> WaveTimes:
    onset, offset = np.array(pairs, float).reshape(-1, 2).T
    return WaveTimes(onset, np.where(np.isnan(onset), offset - 50, np.nan_to_num(onset) + 50), offset)


def certain(classes: np.ndarray) -> np.ndarray:
    return np.eye(4)[classes]


BEAT = {"P": waves((100, 200)), "QRS": waves((260, 360)), "T": waves((500, 700))}


def test_classes_follow_the_marks() -> None:
    classes = classes_at(BEAT, np.arange(0.0, 1000.0, 10.0))
    assert (classes[:10] == UNKNOWN).all()
    assert (classes[10:21] == 1).all()
    assert (classes[21:26] == 0).all()
    assert (classes[26:37] == 2).all()
    assert (classes[50:71] == 3).all()
    assert (classes[71:] == UNKNOWN).all()


def test_times_that_are_not_exact_still_fall_on_their_sample() -> None:
    times = np.arange(200) * (1000.0 / 240.0)
    classes = classes_at({"QRS": waves((times[24], times[48]), (700, 800))}, times)
    assert (classes[24:49] == 2).all()
    assert classes[23] == UNKNOWN
    assert classes[49] == 0


def test_doubt_where_a_boundary_is_not_marked() -> None:
    one = WaveTimes(np.array([300.0, np.nan]), np.array([350.0, 1350.0]), np.array([400.0, 1400.0]))
    classes = classes_at({"QRS": one}, np.arange(0.0, 2000.0, 10.0))
    assert (classes[30:41] == 2).all()
    assert (classes[41:120] == 0).all()
    assert (classes[120:136] == UNKNOWN).all()
    assert (classes[136:141] == 2).all()


def test_lead_without_marks_is_unknown() -> None:
    assert (classes_at({}, np.arange(5.0)) == UNKNOWN).all()


@pytest.mark.parametrize("rate", [100.0, 240.0, 500.0])
def test_there_and_back(rate: float) -> None:
    times = np.arange(int(rate)) * (1000.0 / rate)
    classes = classes_at(BEAT, times)
    back = waves_from_probabilities(certain(np.maximum(classes, 0)), rate)
    for wave, truth in BEAT.items():
        found = back[wave]
        assert len(found) == 1
        # The crossing lies between two samples of the input, and is read on a grid of 2 ms.
        assert found.onset[0] == pytest.approx(truth.onset[0], abs=500 / rate + 2)
        assert found.offset[0] == pytest.approx(truth.offset[0], abs=500 / rate + 2)
        assert found.peak[0] == (found.onset[0] + found.offset[0]) / 2


def test_short_runs_are_dropped_and_short_pauses_closed() -> None:
    classes = np.zeros(500, int)  # 1 s at 500 Hz
    classes[50:90] = 3
    classes[100:140] = 3  # pause of 20 ms
    classes[200:208] = 2  # 16 ms
    classes[300:340] = 3
    classes[345:349] = 1
    classes[350:390] = 3  # a pause, but not of background alone
    rules = WaveRules(smooth_ms=0.0)
    found = waves_from_probabilities(certain(classes), 500.0, rules)
    assert found["T"].onset.tolist() == [100.0, 600.0, 700.0]
    assert found["T"].offset.tolist() == [278.0, 678.0, 778.0]
    assert len(found["QRS"]) == len(found["P"]) == 0


def test_smoothing_removes_single_samples() -> None:
    classes = np.zeros(500, int)
    classes[100:200] = 2
    classes[150] = 0
    found = waves_from_probabilities(certain(classes), 500.0)["QRS"]
    assert found.onset.tolist() == [200.0]
    assert found.offset.tolist() == [398.0]


def test_wave_cut_by_the_edge_has_no_boundary_there() -> None:
    classes = np.zeros(500, int)
    classes[:60] = 3
    classes[440:] = 2
    found = waves_from_probabilities(certain(classes), 500.0)
    assert np.isnan(found["T"].onset).all()
    assert found["T"].offset.tolist() == [118.0]
    assert found["QRS"].onset.tolist() == [880.0]
    assert np.isnan(found["QRS"].offset).all()


def test_bad_requests() -> None:
    with pytest.raises(ConfigurationError, match="probabilities"):
        waves_from_probabilities(np.zeros((5, 3)), 100.0)
    with pytest.raises(ConfigurationError, match="rate_hz"):
        WaveRules(rate_hz=0.0)
    with pytest.raises(ConfigurationError, match="duration"):
        WaveRules(shortest_ms=(1.0, -1.0, 1.0))
