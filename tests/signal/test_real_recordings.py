"""Genuine recordings of every source, against wfdb."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecg_hf.signal import STANDARD_LEADS, read_digital, read_record

pytestmark = pytest.mark.realdata


# Leads and rate by where a dataset keeps its headers.
TRAVELLING = [
    ("ptbxl/records100/*/*.hea", 12, 100),
    ("ptbxl/records500/*/*.hea", 12, 500),
    ("ludb/data/*.hea", 12, 500),
]
OTHERS = [
    ("challenge2021/cpsc_2018/*.hea", 12, 500),
    ("challenge2021/cpsc_2018_extra/*.hea", 12, 500),
    ("challenge2021/chapman_shaoxing/*.hea", 12, 500),
    ("challenge2021/ningbo/*.hea", 12, 500),
    ("challenge2021/ptb-xl/*.hea", 12, 500),
    ("challenge2021/ptb/*.hea", 12, 1000),
    ("challenge2025/*.hea", 12, 400),
    ("ptbdb/*.hea", 15, 1000),
    ("mitdb/*.hea", 2, 360),
]


def check_values(root: Path, pattern: str, leads: int, rate: float) -> None:
    headers = sorted(root.glob(pattern))
    assert headers, pattern
    for header in headers[:: max(1, len(headers) // 8)]:
        record = read_record(header, root=root)
        assert record.signal.shape[0] == leads
        assert record.sampling_rate == rate
        expected = wfdb.rdsamp(str(header.with_suffix("")))[0].T.astype(np.float32)
        np.testing.assert_array_equal(record.signal, expected)
        if leads >= 12:
            assert set(STANDARD_LEADS) <= set(record.lead_names)
        np.testing.assert_array_equal(read_digital(header).to_record().signal, record.signal)


@pytest.mark.parametrize(("pattern", "leads", "rate"), TRAVELLING)
def test_values_equal_wfdb(recordings: Path, pattern: str, leads: int, rate: float):
    check_values(recordings, pattern, leads, rate)


def test_values_and_oddities_of_other_datasets(real_data: Path):
    for pattern, leads, rate in OTHERS:
        check_values(real_data, pattern, leads, rate)
    # wfdb refuses some headers of Georgia.
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
    # Ningbo has flat leads.
    record = read_record(real_data / "challenge2021" / "ningbo" / "JS11438")
    assert {note.lead for note in record.notes if note.code == "flat_lead"} == set(STANDARD_LEADS[6:])
