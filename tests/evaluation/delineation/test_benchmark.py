"""The whole benchmark: folds, controls, and that it finds waves where tokens show them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import patient_folds
from ecg_hf.evaluation.delineation.annotations import AnnotatedRecord, WaveTimes, read_ludb
from ecg_hf.evaluation.delineation.benchmark import WaveTimetable, detected_beats, run_delineation
from ecg_hf.evaluation.delineation.scoring import score_delineations
from ecg_hf.signal.record import EcgRecord

LEADS = ("I", "II")
PATCH = 10


class Patches(torch.nn.Module):
    """Tokens that are the samples of a patch themselves, lead by lead; untrained, they are nothing but noise."""

    def __init__(self, config: Any, gain: float = 0.0) -> None:
        super().__init__()
        self.config, self.gain = config, gain
        self.noise = torch.nn.Linear(PATCH, PATCH)

    def forward(self, input_values: torch.Tensor) -> SimpleNamespace:
        patches = input_values.unflatten(-1, (-1, PATCH)).flatten(1, 2)
        return SimpleNamespace(last_hidden_state=self.gain * patches + 0.0 * self.noise(patches))


class Samples:
    def __init__(self, shorter: int = 0) -> None:
        self.shorter = shorter

    def __call__(self, ecg: Any, **_: Any) -> dict[str, Any]:
        values = np.stack([one.signal for one in ecg])[:, :, : 1000 - self.shorter]
        return {"input_values": torch.from_numpy(values.copy())}

    def to_dict(self) -> dict[str, Any]:
        return {}


def steps(n: int = 12) -> list[AnnotatedRecord]:
    """Ten seconds at 100 Hz whose waves are plateaus of 1, 2 and 3 mV; patients have two records each."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(n):
        rr, first = rng.uniform(700, 1100), rng.uniform(600, 800)
        peaks = np.arange(first, 9000, rr)
        marks = {
            "P": WaveTimes(peaks - 200, peaks - 150, peaks - 100),
            "QRS": WaveTimes(peaks - 50, peaks, peaks + 50),
            "T": WaveTimes(peaks + 200, peaks + 270, peaks + 340),
        }
        signal = np.zeros((2, 1000), np.float32)
        times = np.arange(1000) * 10.0
        for height, found in enumerate(marks.values(), start=1):
            for onset, offset in zip(found.onset, found.offset, strict=True):
                signal[:, (times >= onset) & (times <= offset)] = height
        record = EcgRecord(signal, 100.0, LEADS, record_id=str(i), patient_id=str(i // 2))
        records.append(AnnotatedRecord(record, dict.fromkeys(LEADS, marks)))
    return records


def config(**changes: Any) -> SimpleNamespace:
    settings = {"patch_size": PATCH, "num_leads": 2, "lead_names": LEADS, "sampling_rate": 100, **changes}
    return SimpleNamespace(**settings, to_dict=lambda: {})


def test_patients_are_kept_together() -> None:
    groups = [str(i // 3) for i in range(30)]
    folds = patient_folds(30, 5, groups=groups)
    assert sorted(np.bincount(folds)) == [6] * 5
    assert all(len(set(folds[i : i + 3])) == 1 for i in range(0, 30, 3))
    assert patient_folds(30, 5, groups=groups).tolist() == folds.tolist()
    assert patient_folds(30, 5, groups=groups, seed=1).tolist() != folds.tolist()
    with pytest.raises(ConfigurationError, match="10 patients"):
        patient_folds(30, 11, groups=groups)


def test_waves_are_found_where_tokens_show_them_and_not_otherwise() -> None:
    records = steps()
    report = run_delineation(
        Patches(config(), gain=1.0), Samples(), records, n_folds=3, n_resamples=50, progress=False
    )
    assert list(report.scores) == ["encoder", "untrained", "timetable", "xqrs"]
    folds = np.array(report.folds)
    assert (folds[::2] == folds[1::2]).all()
    best = {(s.wave, s.boundary): s for s in report.scores["encoder"] if s.lead == "all"}
    blind = {(s.wave, s.boundary): s for s in report.scores["untrained"] if s.lead == "all"}
    for kind, score in best.items():
        assert score.sensitivity.estimate > 0.97, kind
        assert score.ppv.estimate > 0.97, kind
        assert abs(score.mean_ms.estimate) < 6.0, kind
        assert score.sd_ms.estimate < 12.0, kind
        assert not blind[kind].sensitivity.estimate > 0.5, kind
    assert {s.wave for s in report.scores["xqrs"]} == {"QRS"}
    assert len(report.rows()) == sum(len(scores) for scores in report.scores.values())
    assert "| encoder | P onset |" in report.markdown()
    assert "| timetable | T offset |" in report.markdown("II")


def test_controls_can_be_left_out() -> None:
    report = run_delineation(
        Patches(config(), gain=1.0),
        Samples(),
        steps(6),
        n_folds=2,
        controls=False,
        n_resamples=10,
        progress=False,
    )
    assert list(report.scores) == list(report.predicted) == ["encoder"]


def test_partial_views_are_refused() -> None:
    records = steps(4)
    with pytest.raises(ConfigurationError, match="sees 9 s of recordings of 10 s"):
        run_delineation(Patches(config()), Samples(100), records, n_folds=2, progress=False)
    half = EcgRecord(records[0].record.signal[:, :500], 100.0, LEADS)
    mixed = [*records, AnnotatedRecord(half, records[0].delineation)]
    with pytest.raises(ConfigurationError, match="one duration"):
        run_delineation(Patches(config()), Samples(), mixed, n_folds=2, progress=False)
    with pytest.raises(ConfigurationError, match="no records"):
        run_delineation(Patches(config()), Samples(), [])


def test_timetable_knows_distances_and_the_rate() -> None:
    peaks = {60: np.arange(1000.0, 9000.0, 1000.0), 94: np.arange(1000.0, 9000.0, 640.0)}

    def record(beats: np.ndarray, stretch: float) -> AnnotatedRecord:
        marks = {
            "P": WaveTimes(beats - 160, beats - 120, beats - 80),
            "QRS": WaveTimes(beats - 40, beats, beats + 60),
            "T": WaveTimes(beats + 200 * stretch, beats + 250 * stretch, beats + 300 * stretch),
        }
        return AnnotatedRecord(EcgRecord(np.zeros((1, 10), np.float32), 1.0, ("II",)), {"II": marks})

    known = [record(peaks[60], 1.0), record(peaks[94], 0.8)]
    nothing = np.full(13, np.nan)
    # The detector is 7 ms late throughout, misses a beat and sees one too many: none of it matters.
    seen = [
        {"II": {"QRS": WaveTimes(np.zeros(len(late)), late, np.zeros(len(late)))}}
        for late in (np.append(peaks[60][1:], 8600.0) + 7.0, peaks[94] + 7.0)
    ]
    table = WaveTimetable().fit(known, seen, ["II"])
    (waves,) = table.delineate(seen[1:])
    for wave, truth in known[1].delineation["II"].items():
        np.testing.assert_allclose(waves["II"][wave].onset, truth.onset)
        np.testing.assert_allclose(waves["II"][wave].offset, truth.offset)
    with pytest.raises(ConfigurationError, match="lead V1"):
        table.delineate([{"V1": {"QRS": WaveTimes(nothing, nothing, nothing)}}])
    with pytest.raises(ConfigurationError, match="no P wave of lead V1"):
        WaveTimetable().fit(known, [{"V1": one["II"]} for one in seen], ["V1"])


@pytest.mark.realdata
def test_detector_and_timetable_on_ludb(recordings: Path) -> None:
    # 24 and 34 are those in whose lead II XQRS finds no beat.
    records = read_ludb(recordings / "ludb", ["1", "7", "8", "22", "35", "38", "39", "40"])
    truth = [one.delineation for one in records]
    beats = detected_beats([one.record for one in records], ["II", "V2"])
    peak = score_delineations(
        truth, beats, leads=["II", "V2"], waves=["QRS"], boundaries=["peak"], n_resamples=20
    )[0]
    assert peak.sensitivity.estimate > 0.97
    assert peak.ppv.estimate > 0.97
    table = WaveTimetable().fit(records[:4], beats[:4], ["II", "V2"])
    rows = score_delineations(truth[4:], table.delineate(beats[4:]), leads=["II", "V2"], n_resamples=20)
    onset = next(row for row in rows if (row.lead, row.wave, row.boundary) == ("all", "QRS", "onset"))
    assert onset.sensitivity.estimate > 0.9
    assert abs(onset.mean_ms.estimate) < 15.0
