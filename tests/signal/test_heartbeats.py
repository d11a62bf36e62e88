from __future__ import annotations

import numpy as np
import pytest

from ecg_hf.errors import MetadataMissing, SignalError
from ecg_hf.signal import STANDARD_LEADS, EcgRecord
from ecg_hf.signal.heartbeats import detect_r_peaks, heart_rate_bpm

from .conftest import ecg_like

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


def test_refined_indices_are_on_the_peak(record):
    refined = detect_r_peaks(record, refine=True)
    assert np.isin(refined, TRUE_PEAKS).all()
    assert np.array_equal(refined, detect_r_peaks(record.signal[1], 500.0, refine=True))


def test_falls_back_to_another_lead(record):
    signal = record.signal.copy()
    signal[1] = 0.0
    signal[0] = np.nan
    without = EcgRecord(signal, 500.0, STANDARD_LEADS)
    assert detect_r_peaks(without).size == pytest.approx(12, abs=1)


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
def test_nothing_to_find(signal):
    assert detect_r_peaks(signal, 500.0).tolist() == []


def test_integers_and_gaps(record):
    assert detect_r_peaks(ecg_like()[1], 500.0).size >= 11
    gap = record.signal[1].copy()
    gap[2050:2150] = np.nan
    assert detect_r_peaks(gap, 500.0).size >= 10


def test_errors_and_rate():
    with pytest.raises(MetadataMissing):
        detect_r_peaks(np.zeros(5000))
    with pytest.raises(SignalError):
        detect_r_peaks(np.zeros((2, 5000)), 500.0)
    assert heart_rate_bpm(np.array([10]), 500.0) is None
    assert heart_rate_bpm(np.array([0, 500, 1000]), 500.0) == 60.0
