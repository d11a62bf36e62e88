from __future__ import annotations

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError, MetadataMissing, SignalError
from ecg_hf.signal import STANDARD_LEADS, EcgRecord
from ecg_hf.signal.beats.heartbeats import DETECTORS, detect_r_peaks, heart_rate_bpm
from ecg_hf.signal.beats.xqrs import xqrs
from tests.signal.conftest import ecg_like

TRUE_PEAKS = np.arange(200, 5000, 400)


@pytest.fixture
def record() -> EcgRecord:
    return EcgRecord(ecg_like().astype(np.float32) / 1000, 500.0, STANDARD_LEADS)


def test_finds_every_beat(record, capsys):
    peaks = detect_r_peaks(record)
    assert peaks.dtype == np.int64
    matched = np.abs(peaks[:, None] - TRUE_PEAKS).min(axis=0)
    assert (matched[1:] <= 10).all()
    assert heart_rate_bpm(peaks, 500.0) == pytest.approx(75, abs=1)
    assert capsys.readouterr().out == ""


def test_indices_are_on_the_peak(record):
    peaks = detect_r_peaks(record)
    assert np.isin(peaks, TRUE_PEAKS).all()
    assert np.array_equal(peaks, detect_r_peaks(record.signal[1], 500.0))
    assert np.array_equal(peaks, detect_r_peaks(record.signal, 500.0))


def test_xqrs_is_there_for_those_who_ask(record):
    found = detect_r_peaks(record, detector="xqrs")
    assert np.array_equal(found, xqrs(record.signal[1], 500.0))
    refined = xqrs(record.signal[1], 500.0, refine=True)
    assert np.isin(refined, TRUE_PEAKS).all()
    with pytest.raises(ConfigurationError, match="all_leads, xqrs"):
        detect_r_peaks(record, detector="pan_tompkins")


@pytest.mark.parametrize("detector", DETECTORS)
def test_an_absent_lead_ii_does_not_matter(record, detector):
    signal = record.signal.copy()
    signal[1] = 0.0
    signal[0] = np.nan
    without = EcgRecord(signal, 500.0, STANDARD_LEADS)
    assert detect_r_peaks(without, detector=detector).size == pytest.approx(12, abs=1)


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize(
    "signal",
    [
        np.zeros(5000),
        np.full(5000, 3.0),
        np.full(5000, np.nan),
        np.ones(3),
        np.zeros(0),
        np.array([np.inf] * 5000),
    ],
)
def test_nothing_to_find(signal, detector):
    assert detect_r_peaks(signal, 500.0, detector=detector).tolist() == []


def test_integers_and_gaps(record):
    assert detect_r_peaks(ecg_like()[1], 500.0).size >= 11
    gap = record.signal[1].copy()
    gap[2050:2150] = np.nan
    assert detect_r_peaks(gap, 500.0).size >= 10


def test_errors_and_rate():
    with pytest.raises(MetadataMissing):
        detect_r_peaks(np.zeros(5000))
    with pytest.raises(SignalError):
        detect_r_peaks(np.zeros((2, 2, 5000)), 500.0)
    assert heart_rate_bpm(np.array([10]), 500.0) is None
    assert heart_rate_bpm(np.array([0, 500, 1000]), 500.0) == 60.0
