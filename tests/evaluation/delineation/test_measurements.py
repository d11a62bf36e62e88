"""Intervals by hand, on real annotations, and read back from features that hold them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Sequence, Value

from ecg_hf.data.feature import Ecg
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import patient_folds
from ecg_hf.evaluation.delineation.annotations import WaveTimes, read_ludb
from ecg_hf.evaluation.delineation.measurements import (
    MEASUREMENTS,
    cross_validated_regression,
    heart_rate_targets,
    measure,
    measurement_targets,
    qtc_bazett,
    qtc_fridericia,
    run_measurements,
)
from ecg_hf.signal.record import EcgRecord

NAN = np.nan


def beats(rr: float = 800.0, pr: float = 160.0, qrs: float = 90.0, qt: float = 400.0) -> dict[str, WaveTimes]:
    onset = np.arange(1000.0, 9000.0, rr)
    return {
        "P": WaveTimes(onset - pr, onset - pr + 50, onset - pr + 100),
        "QRS": WaveTimes(onset, onset + 40, onset + qrs),
        "T": WaveTimes(onset + qt - 160, onset + qt - 80, onset + qt),
    }


def test_intervals_by_hand() -> None:
    found = measure(
        {"I": beats(), "II": beats(pr=170.0, qrs=100.0, qt=410.0), "V1": beats(pr=200.0, qrs=110.0)}
    )
    assert list(found) == list(MEASUREMENTS)
    assert found["heart_rate"] == 75.0
    assert found["pr_interval"] == 170.0
    assert found["qrs_duration"] == 100.0
    assert found["qt_interval"] == 400.0
    assert found["qtc_bazett"] == pytest.approx(400.0 / np.sqrt(0.8))
    assert found["qtc_fridericia"] == pytest.approx(400.0 / 0.8 ** (1 / 3))
    assert measure({"I": beats(), "II": beats(pr=170.0)}, leads=["I"])["pr_interval"] == 160.0


def test_corrections_leave_sixty_beats_alone() -> None:
    assert qtc_bazett(390.0, 1000.0) == qtc_fridericia(390.0, 1000.0) == pytest.approx(390.0)
    assert qtc_bazett(400.0, 640.0) == pytest.approx(500.0)
    assert qtc_fridericia(400.0, 512.0) == pytest.approx(500.0)


def test_what_is_not_there_is_not_made_up() -> None:
    fibrillation = {"I": {**beats(), "P": WaveTimes(np.zeros(0), np.zeros(0), np.zeros(0))}}
    found = measure(fibrillation)
    assert np.isnan(found["pr_interval"])
    assert found["qt_interval"] == 400.0
    single = {"II": {"QRS": WaveTimes(np.array([500.0]), np.array([540.0]), np.array([590.0]))}}
    found = measure(single)
    assert found["qrs_duration"] == 90.0
    assert np.isnan([found["heart_rate"], found["qt_interval"], found["qtc_bazett"]]).all()
    assert np.isnan(list(measure({}).values())).all()


def test_a_wave_serves_its_own_beat_only() -> None:
    one = beats()
    # A blocked P wave in the middle of a cycle, a beat whose T is missing, one whose onset is not marked.
    blocked = one["P"].onset[2] - 250.0
    early = np.sort(np.append(one["P"].onset, blocked))
    keep = np.arange(len(one["T"])) != 3
    onset = one["QRS"].onset.copy()
    onset[5] = NAN
    changed = {
        "P": WaveTimes(early, early + 50, early + 100),
        "QRS": WaveTimes(onset, one["QRS"].peak, one["QRS"].offset),
        "T": WaveTimes(*(part[keep] for part in (one["T"].onset, one["T"].peak, one["T"].offset))),
    }
    assert measure({"I": changed}) == measure({"I": one})
    far = one["QRS"].onset - 600.0
    assert np.isnan(measure({"I": {**one, "P": WaveTimes(far, far + 50, far + 100)}})["pr_interval"])


def test_heart_rate_of_built_rows() -> None:
    record = EcgRecord(np.zeros((1, 20), np.float32), 250.0, ("II",))
    rows = {"ecg": [record] * 4, "r_peaks": [[0, 250, 500], [0, 125, 260, 375], [7], None]}
    features = Features({"ecg": Ecg(), "r_peaks": Sequence(Value("int32"))})
    table = Dataset.from_dict(rows, features=features)
    np.testing.assert_array_equal(heart_rate_targets(table), [[60.0], [120.0], [NAN], [NAN]])
    np.testing.assert_array_equal(heart_rate_targets(table.select([1, 0])), [[120.0], [60.0]])
    with pytest.raises(ConfigurationError, match="two R peaks"):
        heart_rate_targets(table.select([2, 3]))
    with pytest.raises(ConfigurationError, match="r_peaks"):
        heart_rate_targets(table.remove_columns("r_peaks"))


def test_predictions_are_out_of_fold() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 8))
    targets = np.stack([features @ rng.normal(size=8) * 30 + 400, rng.normal(size=60)], axis=1)
    targets[:5, 0] = NAN
    folds = patient_folds(60, 5)
    found = cross_validated_regression(features, targets, folds)
    known = ~np.isnan(targets[:, 0])
    assert np.corrcoef(found[known, 0], targets[known, 0])[0, 1] > 0.99
    assert abs(np.corrcoef(found[:, 1], targets[:, 1])[0, 1]) < 0.4
    changed = targets.copy()
    changed[folds == 2] += 1e3
    again = cross_validated_regression(features, changed, folds)
    np.testing.assert_array_equal(again[folds == 2], found[folds == 2])
    with pytest.raises(ConfigurationError, match="3 folds"):
        cross_validated_regression(features, targets, np.arange(60) % 2)


def test_target_nobody_knows_stays_unknown() -> None:
    features = np.random.default_rng(0).normal(size=(12, 3))
    targets = np.stack([features[:, 0], np.full(12, NAN)], axis=1)
    found = cross_validated_regression(features, targets, np.arange(12) % 3)
    assert np.isfinite(found[:, 0]).all()
    assert np.isnan(found[:, 1]).all()


class Means(torch.nn.Module):
    """Embeds a record by the means of its leads; untrained by noise."""

    def __init__(self, config: Any, gain: float = 0.0) -> None:
        super().__init__()
        self.config, self.gain = config, gain
        self.linear = torch.nn.Linear(2, 2)

    def forward(self, input_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(pooler_output=self.gain * input_values.mean(-1) + 0.0 * self.linear.bias)


class Plain:
    def __call__(self, ecg: Any, **_: Any) -> dict[str, Any]:
        return {"input_values": torch.from_numpy(np.stack([one.signal for one in ecg]))}


def test_benchmark_puts_controls_beside_the_model() -> None:
    rng = np.random.default_rng(0)
    levels = rng.normal(size=(40, 2)).astype(np.float32)
    rows = [EcgRecord(np.repeat(level[:, None], 10, axis=1), 10.0, ("I", "II")) for level in levels]
    targets = np.stack([70 + 10 * levels[:, 0], 400 + 30 * levels[:, 1]], axis=1).astype(float)
    names = ("heart_rate", "qt_interval")
    report = run_measurements(
        Means(SimpleNamespace(), gain=1.0), Plain(), rows, targets, names, n_resamples=100, progress=False
    )
    assert list(report.scores) == ["encoder", "untrained", "training mean"]
    for good, blind, mean in zip(*report.scores.values(), strict=True):
        assert good.z_mae.estimate < 0.05 < 0.5 < mean.z_mae.low
        assert blind.mae.estimate == pytest.approx(mean.mae.estimate, rel=0.1)
    assert "| encoder | qt_interval (ms) | 40 |" in report.markdown()
    with pytest.raises(ConfigurationError, match="40 records"):
        run_measurements(Means(SimpleNamespace()), Plain(), rows, targets[:, :1], names)


@pytest.mark.realdata
def test_measurements_of_ludb_are_those_of_patients(recordings: Path) -> None:
    records = read_ludb(recordings / "ludb")
    names, values = measurement_targets(records)
    assert (names, values.shape) == (tuple(MEASUREMENTS), (len(records), 6))
    middle = dict(zip(names, np.nanmedian(values, axis=0), strict=True))
    assert 50 < middle["heart_rate"] < 90
    assert 120 < middle["pr_interval"] < 200
    assert 80 < middle["qrs_duration"] < 120
    assert 340 < middle["qt_interval"] < 440
    assert np.isfinite(values[:, [0, 2]]).all()
    first = records[0].delineation["II"]
    assert measure(records[0].delineation, ["II"])["qrs_duration"] == np.median(
        first["QRS"].offset - first["QRS"].onset
    )
