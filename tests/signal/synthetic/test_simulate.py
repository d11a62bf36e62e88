"""The simulator's promises about arrays: identities, determinism, patients, R peaks, arguments."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError, SamplingRateError
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.synthetic import SyntheticBatch, SyntheticEcg, simulate


@pytest.fixture(scope="module")
def batch() -> SyntheticBatch:
    return simulate(150, seed=3, sampling_rate=250.0)


def test_shapes_and_types(batch: SyntheticBatch) -> None:
    assert batch.signal.shape == (150, 12, 2500)
    assert batch.signal.dtype == np.float32
    assert batch.ages.dtype == np.float32
    assert np.isfinite(batch.signal).all()
    assert batch.record_ids[7] == "synthetic-000007"
    assert {len(x) for x in (batch.patient_ids, batch.sexes, batch.codes, batch.reports, batch.r_peaks)} == {
        150
    }
    for peaks in batch.r_peaks:
        assert peaks.dtype == np.int64
        assert peaks[0] >= 0
        assert peaks[-1] < 2500
        assert (np.diff(peaks) > 0.2 * 250).all()


def test_limb_leads_obey_einthoven_and_goldberger_with_noise(batch: SyntheticBatch) -> None:
    one, two, three, avr, avl, avf = (batch.signal[:, k].astype(np.float64) for k in range(6))
    assert STANDARD_LEADS[:6] == ("I", "II", "III", "aVR", "aVL", "aVF")
    for residue in (
        one + three - two,
        avr + avl + avf,
        avr + (one + two) / 2,
        avl - (one - three) / 2,
        avf - (two + three) / 2,
    ):
        assert np.abs(residue).max() < 1e-6


@pytest.mark.parametrize("rate", [100.0, 500.0])
def test_a_record_does_not_depend_on_its_batch(rate: float) -> None:
    whole = simulate(100, seed=11, sampling_rate=rate)
    part = simulate(23, seed=11, sampling_rate=rate, first=50)
    for k in range(23):
        assert whole[50 + k] == part[k]
    for k in (0, 63, 64, 99):
        assert whole[k] == simulate(1, seed=11, sampling_rate=rate, first=k)[0]


def test_seeds_name_different_corpora() -> None:
    first, second = simulate(4, seed=0, sampling_rate=100.0), simulate(4, seed=1, sampling_rate=100.0)
    assert first[0] != second[0]
    assert not np.array_equal(first.signal, second.signal)
    assert first[0] != "a record"


def test_sampling_rate_changes_the_recorder_not_the_heart() -> None:
    slow, fast = simulate(40, seed=2, sampling_rate=100.0), simulate(40, seed=2, sampling_rate=500.0)
    assert slow.codes == fast.codes
    assert slow.patient_ids == fast.patient_ids
    for a, b in zip(slow.r_peaks, fast.r_peaks, strict=True):
        assert abs(len(a) - len(b)) <= 1
        length = min(len(a), len(b))
        assert np.abs(a[:length] / 100.0 - b[:length] / 500.0).max() < 0.011


def test_some_patients_own_several_records_and_share_age_and_sex() -> None:
    batch = simulate(240, seed=5, sampling_rate=50.0, duration_s=5.0)
    sizes = Counter(Counter(batch.patient_ids).values())
    assert sizes == {1: 100, 2: 40, 3: 20}
    people: dict[str, tuple[float, str]] = {}
    for record in batch:
        assert people.setdefault(record.patient_id, (record.age, record.sex)) == (record.age, record.sex)
    assert {record.sex for record in batch} == {"female", "male"}
    assert batch.ages.min() >= 18
    assert batch.ages.max() <= 92


def test_amplitudes_are_those_of_a_body_surface(batch: SyntheticBatch) -> None:
    height = np.ptp(batch.signal, axis=2).max(axis=1)
    assert np.percentile(height, 2) > 0.4
    assert np.percentile(height, 98) < 6.0
    assert 1.3 < np.median(height) < 3.2


def test_r_peaks_are_found_by_a_detector() -> None:
    from wfdb import processing

    batch = simulate(120, seed=4, sampling_rate=250.0)
    roughness = np.abs(np.diff(batch.signal[:, 1], n=2, axis=1)).mean(axis=1)
    clean = [k for k in np.argsort(roughness) if batch.codes[k] == ("NORM", "SR")][:6]
    assert len(clean) == 6
    for k in clean:
        found = processing.xqrs_detect(batch.signal[k, 1].astype(np.float64), fs=250.0, verbose=False)
        true = batch.r_peaks[k]
        inner = true[(true > 125) & (true < 2500 - 125)]
        distance = np.abs(inner[:, None] - found[None, :]).min(axis=1)
        assert distance.max() <= 0.05 * 250


def test_record_and_ecg_record_agree(batch: SyntheticBatch) -> None:
    item = batch[3]
    assert isinstance(item, SyntheticEcg)
    record = item.to_record()
    assert record.lead_names == STANDARD_LEADS
    assert record.record_id == item.record_id
    assert record.patient_id == item.patient_id
    assert record.report == item.report
    np.testing.assert_array_equal(record.signal, item.signal)


def test_nothing_is_a_valid_request() -> None:
    empty = simulate(0, sampling_rate=100.0)
    assert len(empty) == 0
    assert empty.signal.shape == (0, 12, 1000)


@pytest.mark.parametrize(
    "options",
    [
        {"n": -1},
        {"seed": -2},
        {"first": -1},
        {"duration_s": 2.0},
        {"duration_s": float("nan")},
        {"noise": -1.0},
    ],
)
def test_impossible_requests_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        simulate(**{"n": 1, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [0.0, 20.0, float("nan"), float("inf")])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(SamplingRateError):
        simulate(1, sampling_rate=rate)


def test_noise_can_be_left_out() -> None:
    noisy, bare = (
        simulate(30, seed=8, sampling_rate=100.0),
        simulate(30, seed=8, sampling_rate=100.0, noise=0.0),
    )
    assert noisy.reports == bare.reports
    disturbance = (noisy.signal - bare.signal).std(axis=(1, 2))
    assert (disturbance > 0).all()
    assert disturbance.max() > 5 * disturbance.min()  # some recordings are clean, some poor


def test_longer_recordings_hold_more_beats() -> None:
    long = simulate(6, seed=1, sampling_rate=100.0, duration_s=30.0)
    assert long.signal.shape == (6, 12, 3000)
    for record in long:
        expected = record.measurements.heart_rate_bpm / 2
        assert abs(len(record.r_peaks) - expected) < 2
