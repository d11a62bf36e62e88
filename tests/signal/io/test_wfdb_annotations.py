"""Annotation files: notes at their beginning define the file and are no marks."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import wfdb

from ecg_hf.errors import EcgError, MetadataMissing, UnsupportedFormat
from ecg_hf.signal.io.wfdb_annotations import read_annotations

NOTE, AUX = 22, 63


def words(*values: int) -> bytes:
    return b"".join(struct.pack("<H", value) for value in values)


def note(text: bytes, at: int = 0) -> bytes:
    return words(NOTE << 10 | at, AUX << 10 | len(text)) + text + b"\0" * (len(text) & 1)


BEATS = words(1 << 10 | 100, 1 << 10 | 200, 5 << 10 | 200, 0)


def test_a_time_resolution_is_no_mark(tmp_path):
    path = tmp_path / "a.qrs"
    path.write_bytes(note(b"## time resolution: 200") + BEATS)
    samples, symbols = read_annotations(path, sampling_rate=100)
    assert samples.tolist() == [50, 150, 250]
    assert symbols == ("N", "N", "V")
    assert read_annotations(path, sampling_rate=200)[0].tolist() == [100, 300, 500]
    with pytest.raises(MetadataMissing, match="sampling_rate"):
        read_annotations(path)
    (tmp_path / "a.hea").write_text("a 1 400 10\na.dat 16\n")
    assert read_annotations(path)[0].tolist() == [200, 600, 1000]


def test_own_types(tmp_path):
    path = tmp_path / "a.atr"
    path.write_bytes(
        note(b"## annotation type definitions")
        + note(b"42 Z a type of one's own")
        + note(b"## end of definitions")
        + words(42 << 10 | 10, 22 << 10 | 5)
        + note(b"## a remark, later", at=3)
        + words(0)
    )
    samples, symbols = read_annotations(path)
    assert samples.tolist() == [10, 15, 18]
    assert symbols == ("Z", '"', '"')


def test_files_of_wfdb(tmp_path):
    samples = np.array([10, 700, 90_000])
    for rate in (None, 250):
        wfdb.wrann("r", "atr", samples, symbol=["N", "V", "N"], fs=rate, write_dir=str(tmp_path))
        assert read_annotations(tmp_path / "r.atr", sampling_rate=rate)[0].tolist() == samples.tolist()


@pytest.mark.parametrize(
    "text", [b"## time resolution: 0", b"## time resolution: 1e9", b"## time resolution: 1.2.3"]
)
def test_malformed_definitions(tmp_path, text):
    (tmp_path / "a.atr").write_bytes(note(text) + BEATS)
    with pytest.raises(UnsupportedFormat, match="time resolution"):
        read_annotations(tmp_path / "a.atr", sampling_rate=100)
    (tmp_path / "a.atr").write_bytes(note(b"## annotation type definitions") + note(b"forty-two") + BEATS)
    with pytest.raises(EcgError):
        read_annotations(tmp_path / "a.atr")
