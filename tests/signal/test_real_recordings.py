"""Genuine recordings of every source, against wfdb."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecg_hf.signal import STANDARD_LEADS, read_digital, read_record
from ecg_hf.signal.beats.heartbeats import detect_r_peaks, heart_rate_bpm

pytestmark = pytest.mark.realdata


@pytest.mark.parametrize(
    ("pattern", "leads", "rate"),
    [
        ("ptbxl/records100/*/*.hea", 12, 100),
        ("ptbxl/records500/*/*.hea", 12, 500),
        ("challenge2021/cpsc_2018/*.hea", 12, 500),
        ("challenge2021/cpsc_2018_extra/*.hea", 12, 500),
        ("challenge2021/chapman_shaoxing/*.hea", 12, 500),
        ("challenge2021/ningbo/*.hea", 12, 500),
        ("challenge2021/ptb-xl/*.hea", 12, 500),
        ("challenge2021/ptb/*.hea", 12, 1000),
        ("challenge2025/*.hea", 12, 400),
        ("ludb/data/*.hea", 12, 500),
        ("ptbdb/*.hea", 15, 1000),
        ("mitdb/*.hea", 2, 360),
    ],
)
def test_values_equal_wfdb(real_data: Path, pattern: str, leads: int, rate: float):
    headers = sorted(real_data.glob(pattern))
    assert headers
    for header in headers[:: max(1, len(headers) // 8)]:
        record = read_record(header, root=real_data)
        assert record.signal.shape[0] == leads
        assert record.sampling_rate == rate
        expected = wfdb.rdsamp(str(header.with_suffix("")))[0].T.astype(np.float32)
        np.testing.assert_array_equal(record.signal, expected)
        if leads >= 12:
            assert set(STANDARD_LEADS) <= set(record.lead_names)
        np.testing.assert_array_equal(read_digital(header).to_record().signal, record.signal)


def test_georgia_headers_wfdb_refuses(real_data: Path):
    refused = 0
    for header in sorted((real_data / "challenge2021" / "georgia").glob("*.hea")):
        record = read_record(header)  # checksums verified
        assert record.lead_names == STANDARD_LEADS
        assert record.record_id == header.stem
        try:
            wfdb.rdheader(str(header.with_suffix("")))
        except ValueError:
            refused += 1
    assert refused > 0


def test_original_cpsc2018_files(real_data: Path):
    path = sorted((real_data / "cpsc2018_raw" / "TrainingSet").glob("*.mat"))[0]
    record = read_record(path, sampling_rate=500, lead_names=STANDARD_LEADS, unit="mV")
    assert record.signal.shape[0] == 12
    assert 0.5 < np.ptp(record.signal[1]) < 10


def test_flat_leads_of_ningbo(real_data: Path):
    record = read_record(real_data / "challenge2021" / "ningbo" / "JS11438")
    assert {note.lead for note in record.notes if note.code == "flat_lead"} == set(STANDARD_LEADS[6:])


def test_r_peaks_of_mitdb(real_data: Path):
    record = read_record(real_data / "mitdb" / "100")
    first_minutes = record.signal[0, : 360 * 120]
    peaks = detect_r_peaks(first_minutes, 360.0)
    annotations = wfdb.rdann(str(real_data / "mitdb" / "100"), "atr", sampto=360 * 120)
    beats = annotations.sample[[symbol in "NAVL" for symbol in annotations.symbol]]
    found = np.abs(peaks[:, None] - beats).min(axis=0) <= 0.05 * 360
    assert found.all()
    assert len(peaks) - len(beats) in (0, 1)  # one may lie beyond the last annotation
    rate = heart_rate_bpm(peaks, 360.0)
    assert rate is not None
    assert 60 < rate < 90
