"""The wfdb package as an oracle: what we read of any record is what it reads, or is refused with a reason.

Signal files are random bytes, which every format but FLAC gives a meaning to, under random headers.
"""

from __future__ import annotations

import math
import tempfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecg_hf.errors import EcgError
from ecg_hf.signal import STANDARD_LEADS, EcgRecord, read_record

# Bytes per sample. Format 61 is missing: the package fails on it.
_BYTES = {8: 1.0, 16: 2, 24: 3, 32: 4, 80: 1, 160: 2, 212: 1.5, 310: 4 / 3, 311: 4 / 3}
_FLAC = {"508": 8, "516": 16, "524": 24}
_ALL_FRAMES = 40

PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@dataclass(frozen=True)
class _Signal:
    """One line of a header."""

    gain: float
    baseline: int | None
    unit: str
    skew: int
    per_frame: int
    adc_zero: int


@dataclass(frozen=True)
class _File:
    """One signal file and what its lines share."""

    format: int
    offset: int
    signals: list[_Signal]


_signals = st.builds(
    _Signal,
    gain=st.sampled_from([200.0, 1000, 4.88, 0.5, 1e4]),
    baseline=st.none() | st.integers(-2000, 2000),
    unit=st.sampled_from(["mV", "uV"]),
    skew=st.sampled_from([0, 0, 0, 1, 7]),
    per_frame=st.sampled_from([1, 1, 1, 2, 3]),
    adc_zero=st.sampled_from([0, 0, 1024]),
    # Of skewed signals with several samples per frame the package invents zeros at the end.
).map(lambda signal: replace(signal, skew=0) if signal.per_frame > 1 else signal)
_files = st.lists(
    st.builds(
        _File,
        format=st.sampled_from(sorted(_BYTES)),
        offset=st.sampled_from([0, 0, 0, 24, 7]),
        signals=st.lists(_signals, min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=2,
)


def write(folder: Path, name: str, files: list[_File], seed: int, frames: int) -> None:
    """A record of random bytes."""
    rng = np.random.default_rng(seed)
    lines = []
    leads = iter(STANDARD_LEADS)
    for number, file in enumerate(files):
        per_frame = sum(signal.per_frame for signal in file.signals)
        # Skewed signals are read past the last frame.
        samples = (frames + max(signal.skew for signal in file.signals)) * per_frame
        size = file.offset + math.ceil(math.ceil(samples / 6) * 6 * _BYTES[file.format])
        (folder / f"{name}_{number}.dat").write_bytes(rng.integers(0, 256, size, dtype=np.uint8).tobytes())
        for signal in file.signals:
            format_ = f"{file.format}" + (f"x{signal.per_frame}" if signal.per_frame > 1 else "")
            format_ += (f":{signal.skew}" if signal.skew else "") + (f"+{file.offset}" if file.offset else "")
            baseline = "" if signal.baseline is None else f"({signal.baseline})"
            line = f"{name}_{number}.dat {format_} {signal.gain}{baseline}/{signal.unit} 12 {signal.adc_zero}"
            # Format 8 holds differences, the first of them from the initial value.
            lines.append(f"{line} 0" if file.format == 8 else line)
    # Checksums are what the samples add up to once they are read.
    _header(folder, name, [f"{name} {len(lines)} 250 {frames}", *lines])
    record = wfdb.rdrecord(str(folder / name), physical=False, smooth_frames=False)
    described = [
        f"{line if line.endswith(' 0') and len(line.split()) == 6 else f'{line} {values[0]}'} "
        f"{int(values.astype(np.int64).sum()) & 0xFFFF} 0 {next(leads)}"
        for line, values in zip(lines, record.e_d_signal, strict=True)
    ]
    _header(folder, name, [f"{name} {len(lines)} 250 {frames}", *described])


def _header(folder: Path, name: str, lines: list[str]) -> None:
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")


def millivolts(signal: npt.NDArray[np.float64], units: list[str]) -> npt.NDArray[np.float64]:
    """Rows are leads."""
    return signal.T / np.array([[1000.0 if unit == "uV" else 1.0] for unit in units])


def assert_same(record: EcgRecord, path: str) -> None:
    frames = wfdb.rdrecord(path)
    per_frame = set(getattr(frames, "samps_per_frame", None) or [1])
    if len(per_frame) > 1:
        # Leads of different rates: the package rounds their averages to whole units. What we do is tested elsewhere.
        return
    expected, rate = millivolts(frames.p_signal, frames.units), float(frames.fs)
    if per_frame != {1}:
        whole = wfdb.rdrecord(path, smooth_frames=False)
        expected = millivolts(np.stack(whole.e_p_signal, axis=1), whole.units)
        rate *= per_frame.pop()
    assert record.lead_names == tuple(frames.sig_name)
    assert record.sampling_rate == rate
    assert record.signal.shape == expected.shape
    np.testing.assert_allclose(
        record.signal, expected, rtol=1e-5, atol=1e-6 * max(np.nanmax(np.abs(expected)), 1)
    )


@given(files=_files, seed=st.integers(0, 2**32), frames=st.integers(2, _ALL_FRAMES))
@PROPERTY
def test_any_record_is_read_as_wfdb_reads_it_or_refused(files: list[_File], seed: int, frames: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            write(Path(folder), "r", files, seed, frames)
        except Exception:
            # What wfdb itself cannot read has no right answer.
            return
        path = f"{folder}/r"
        # A checksum is of the samples in the file, and the package returns skewed signals moved.
        moved = any(signal.skew for file in files for signal in file.signals)
        try:
            record = read_record(path, verify_checksum=not moved)
        except EcgError:
            return
        assert_same(record, path)


@pytest.mark.parametrize("per_frame", [1, 2])
@pytest.mark.parametrize("format_", sorted(_BYTES))
def test_every_format_is_read(format_: int, per_frame: int, tmp_path: Path) -> None:
    """Without anything unusual beside it, none is refused."""
    signal = _Signal(gain=200.0, baseline=10, unit="mV", skew=0, per_frame=per_frame, adc_zero=0)
    write(tmp_path, "r", [_File(format_, 24, [signal] * 3)], seed=zlib.crc32(b"formats"), frames=30)
    assert_same(read_record(tmp_path / "r"), str(tmp_path / "r"))


@pytest.mark.parametrize("format_", ["16", "24", "32", "80", "212", *_FLAC])
@given(seed=st.integers(0, 2**32), frames=st.integers(20, 60), leads=st.integers(1, 4))
@settings(PROPERTY, max_examples=6)
def test_what_wfdb_writes_is_read(format_: str, seed: int, frames: int, leads: int) -> None:
    bits = _FLAC.get(format_) or {"80": 8, "212": 12}.get(format_, int(format_))
    rng = np.random.default_rng(seed)
    top = 2 ** (bits - 1)
    with tempfile.TemporaryDirectory() as folder:
        wfdb.wrsamp(
            "r",
            fs=360,
            units=["mV"] * leads,
            sig_name=list(STANDARD_LEADS[:leads]),
            d_signal=rng.integers(-top, top, (frames, leads)),
            fmt=[format_] * leads,
            adc_gain=[200.0] * leads,
            baseline=[int(value) for value in rng.integers(-99, 99, leads)],
            write_dir=folder,
        )
        assert_same(read_record(f"{folder}/r"), f"{folder}/r")


@given(
    seed=st.integers(0, 2**32),
    lengths=st.lists(st.integers(3, 20), min_size=1, max_size=3),
    variable=st.booleans(),
)
@settings(PROPERTY, max_examples=15)
def test_records_of_segments(seed: int, lengths: list[int], variable: bool) -> None:
    signal = _Signal(gain=200.0, baseline=None, unit="mV", skew=0, per_frame=1, adc_zero=0)
    with tempfile.TemporaryDirectory() as folder:
        segments = []
        for number, length in enumerate(lengths):
            write(Path(folder), f"s{number}", [_File(16, 0, [signal] * 2)], seed + number, length)
            segments.append(f"s{number} {length}")
        total = sum(lengths)
        if variable:
            lines = [f"~ 0 200/mV 16 0 0 0 0 {name}" for name in STANDARD_LEADS[:2]]
            total += 5
            _header(Path(folder), "layout", [f"layout 2 250 {total}", *lines])
            segments = ["layout 0", segments[0], "~ 5", *segments[1:]]
        _header(Path(folder), "m", [f"m/{len(segments)} 2 250 {total}", *segments])
        assert_same(read_record(f"{folder}/m"), f"{folder}/m")
