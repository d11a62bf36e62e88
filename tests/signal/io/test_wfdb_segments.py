"""Records of several segments against wfdb, and what their headers may not say."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb

from ecg_hf.errors import EcgError, HeaderError, LeadError, SignalError, UnknownUnit
from ecg_hf.signal import read_record
from tests.signal.conftest import codes


def segment(
    folder: Path,
    name: str,
    leads: list[str],
    frames: int,
    *,
    rate: str = "25",
    per_frame: int = 1,
    units: dict[str, str] | None = None,
) -> np.ndarray:
    """Write one segment of format 16; returns its millivolts ``(leads, frames * per_frame)``."""
    seed = sum(map(ord, name))
    digital = np.random.default_rng(seed).integers(-300, 300, (len(leads), frames * per_frame)).astype(int)
    stored = digital.reshape(len(leads), frames, per_frame).transpose(1, 0, 2)
    (folder / f"{name}.dat").write_bytes(stored.astype("<i2").tobytes())
    form = f"16x{per_frame}" if per_frame > 1 else "16"
    lines = [f"{name} {len(leads)} {rate} {frames}".replace("  ", " ")]
    for row, lead in zip(digital, leads, strict=True):
        unit = (units or {}).get(lead, "mV")
        lines.append(f"{name}.dat {form} 200/{unit} 16 0 {row[0]} {row.sum() & 0xFFFF} 0 {lead}")
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    return digital / 200


def layout(folder: Path, leads: list[tuple[str, str]], length: str = " 0", rate: str = "25") -> None:
    lines = [f"m_layout {len(leads)} {rate}{length}"]
    lines += [f"~ 0 200/{unit} 16 0 0 0 0 {lead}" for lead, unit in leads]
    (folder / "m_layout.hea").write_text("\n".join(lines) + "\n")


def record(folder: Path, line: str, *segments: str) -> Path:
    (folder / "m.hea").write_text("\n".join([line, *segments]) + "\n")
    return folder / "m"


@pytest.mark.parametrize("length", [" 0", ""])
def test_a_layout_of_no_length(tmp_path, length):
    """All variable-layout records of MIMIC have one."""
    one = segment(tmp_path, "m1", ["I", "II"], 50)
    two = segment(tmp_path, "m2", ["II"], 30)
    layout(tmp_path, [("I", "mV"), ("II", "mV")], length)
    path = record(tmp_path, "m/4 2 25 100", "m_layout 0", "m1 50", "~ 20", "m2 30")
    found = read_record(path)
    expected = np.full((2, 100), np.nan)
    expected[:, :50], expected[1, 70:] = one, two[0]
    np.testing.assert_allclose(found.signal, expected, atol=1e-6)
    if length:
        theirs = wfdb.rdrecord(str(path)).p_signal.T
        np.testing.assert_allclose(found.signal, theirs, atol=1e-6)
    with pytest.raises(EcgError, match="no samples"):
        read_record(tmp_path / "m_layout")


def test_pressures_of_a_layout_are_left_out(tmp_path):
    units = {"ABP": "mmHg", "RESP": "pm"}
    one = segment(tmp_path, "m1", ["II", "ABP", "V"], 50, units=units)
    segment(tmp_path, "m2", ["ABP", "RESP"], 20, units=units)
    two = segment(tmp_path, "m3", ["V", "RESP", "II"], 30, units=units)
    layout(tmp_path, [("II", "mV"), ("V", "mV"), ("ABP", "mmHg"), ("RESP", "pm")])
    path = record(tmp_path, "m/4 4 25 100", "m_layout 0", "m1 50", "m2 20", "m3 30")
    found = read_record(path)
    assert found.lead_names == ("II", "V")
    assert sum(note.code == "signal_left_out" for note in found.notes) == 2
    expected = np.full((2, 100), np.nan)
    expected[:, :50], expected[:, 70:] = one[[0, 2]], two[[2, 0]]
    np.testing.assert_allclose(found.signal, expected, atol=1e-6)
    only = read_record(path, leads=["V"])
    np.testing.assert_array_equal(only.signal[0], found.signal[1])
    with pytest.raises(UnknownUnit, match="mmHg"):
        read_record(path, leads=["ABP"])


@pytest.mark.parametrize(("first", "second", "rate"), [(4, 4, 100), (4, 2, 100), (1, 4, 100)])
def test_frames_of_several_samples(tmp_path, first, second, rate):
    one = segment(tmp_path, "m1", ["I", "II"], 50, per_frame=first)
    two = segment(tmp_path, "m2", ["I", "II"], 30, per_frame=second)
    path = record(tmp_path, "m/2 2 25 80", "m1 50", "m2 30")
    found = read_record(path)
    assert (found.sampling_rate, found.signal.shape) == (rate, (2, 320))
    if first == second:
        np.testing.assert_allclose(found.signal, np.concatenate([one, two], axis=1), atol=1e-6)
        theirs = wfdb.rdrecord(str(path), smooth_frames=False).e_p_signal
        np.testing.assert_allclose(found.signal, np.array(theirs), atol=1e-6)
    else:
        np.testing.assert_allclose(found.signal[:, : 200 : 4 // first], one, atol=1e-5)
        np.testing.assert_allclose(found.signal[:, 200 :: 4 // second], two, atol=1e-5)
    assert read_record(path, sampling_rate=25).sampling_rate == rate
    assert read_record(path, sampling_rate=100).sampling_rate == rate
    with pytest.raises(EcgError, match="the caller"):
        read_record(path, sampling_rate=50)


def test_a_segment_takes_the_rate_of_its_record(tmp_path):
    segment(tmp_path, "m1", ["I"], 50)
    (tmp_path / "m1.hea").write_text((tmp_path / "m1.hea").read_text().replace("m1 1 25 50", "m1 1"))
    assert read_record(record(tmp_path, "m/1 1 25 50", "m1 50")).sampling_rate == 25
    segment(tmp_path, "m1", ["I"], 50, rate="50")
    with pytest.raises(HeaderError, match="50 Hz, the record of 25 Hz"):
        read_record(record(tmp_path, "m/1 1 25 50", "m1 50"))


def test_names_that_repeat(tmp_path):
    one = segment(tmp_path, "m1", ["ECG", "ECG"], 50)
    two = segment(tmp_path, "m2", ["ECG", "ECG"], 30)
    path = record(tmp_path, "m/2 2 25 80", "m1 50", "m2 30")
    with pytest.raises(LeadError, match="pass lead_names"):
        read_record(path)
    found = read_record(path, lead_names=["I", "II"])
    assert found.lead_names == ("I", "II")
    np.testing.assert_allclose(found.signal, np.concatenate([one, two], axis=1), atol=1e-6)
    assert "lead_name_assumed" in codes(found)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (("m/2 2 25 60", "m1 50", "m2 10"), HeaderError),  # m2 has 30
        (("m/2 2 25 80", "m1 -50", "m2 130"), HeaderError),
        (("m/2 3 25 80", "m1 50", "m2 30"), HeaderError),
        (("m/2 2 25 80", "m1 50", "m4 30"), LeadError),
        (("m/2 2 25 80", "m_layout 0", "m4 80"), EcgError),
        (("m/2 2 25 100000050", "m1 50", "~ 100000000"), SignalError),
    ],
)
def test_segments_that_contradict(tmp_path, lines: tuple[str, ...], error: Any):
    segment(tmp_path, "m1", ["I", "II"], 50)
    segment(tmp_path, "m2", ["I", "II"], 30)
    segment(tmp_path, "m4", ["I", "V1"], 30)
    layout(tmp_path, [("I", "mV"), ("II", "mV")])
    path = record(tmp_path, *lines)
    tracemalloc.start()
    with pytest.raises(error):
        read_record(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
