"""Our reader of MATLAB files against SciPy's writer and reader."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from ecg_hf.errors import EcgError, HeaderError, SamplingRateError, SignalError, UnsupportedFormat
from ecg_hf.signal import STANDARD_LEADS, read_record
from ecg_hf.signal.io.matlab import read_matlab
from tests.signal.conftest import ecg_like

LIMIT = 1 << 20
NAMES = ("val", "one", "c", "text", "ECG", "f", "s")
TYPES = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")


def saved(variables: dict[str, Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables, **options)
    return stream.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_matrices_of_every_type(dtype: str, compressed: bool):
    values = (np.arange(12 * 7) % 100).reshape(12, 7).astype(dtype)
    content = saved({"text": "hello", "val": values, "one": 3, "c": values * 1j}, do_compression=compressed)
    found = read_matlab(content, LIMIT, NAMES)
    assert set(found) == {"val", "one"}
    expected = scipy.io.loadmat(io.BytesIO(content))["val"]
    assert found["val"].dtype == expected.dtype
    np.testing.assert_array_equal(found["val"], expected)


@pytest.mark.parametrize("compressed", [False, True])
def test_structures(compressed: bool):
    """CPSC 2018 keeps a structure ``ECG`` with text beside the samples."""
    values = np.random.default_rng(0).normal(size=(12, 300))
    content = saved(
        {"ECG": {"sex": "Male", "age": 50, "data": values, "deep": {"x": values[:2]}}},
        do_compression=compressed,
    )
    found = read_matlab(content, LIMIT, NAMES)["ECG"]
    np.testing.assert_array_equal(found["data"], values)
    np.testing.assert_array_equal(found["deep"]["x"], values[:2])
    assert set(found) == {"age", "data", "deep"}


def test_version_4():
    values = np.arange(24, dtype=np.int16).reshape(12, 2)
    content = saved({"val": values, "f": values / 3}, format="4")
    found = read_matlab(content, LIMIT, NAMES)
    np.testing.assert_array_equal(found["val"], values)
    np.testing.assert_array_equal(found["f"], values / 3)


def test_sizes_are_checked_before_anything_is_unpacked():
    with pytest.raises(SignalError, match="more than max_samples"):
        read_matlab(saved({"val": np.zeros((12, 100))}), 1199, NAMES)
    content = bytearray(saved({"val": np.zeros((12, 1 << 20))}, do_compression=True))
    with pytest.raises(SignalError, match="unpack to more"):
        read_matlab(bytes(content), LIMIT, NAMES)


@pytest.mark.parametrize(("wanted", "read"), [((), True), (("val", "ecg", "data"), False)])
def test_many_small_bombs_are_one_large_one(wanted: tuple[str, ...], read: bool):
    """30 variables of 8 MB each in a file of some kB: those not asked for stay packed, the others add up."""
    names = [f"v{i}" for i in range(30 - len(wanted))] + list(wanted)
    content = saved({name: np.zeros((12, 1 << 17 >> 1)) for name in names}, do_compression=True)
    assert len(content) < 1 << 18
    tracemalloc.start()
    if read:
        assert read_matlab(content, LIMIT, NAMES) == {}
    else:
        with pytest.raises(SignalError, match="unpack to more"):
            read_matlab(content, LIMIT, ("val", "ecg", "data"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (4 << 20 if read else 4 * 8 * LIMIT)


@pytest.mark.parametrize("compressed", [False, True])
def test_every_cut_and_every_flipped_byte_of_the_frame(compressed: bool):
    content = saved(
        {"val": np.arange(36, dtype=np.int16).reshape(12, 3), "s": {"a": 1}}, do_compression=compressed
    )
    for length in range(len(content)):
        try:
            read_matlab(content[:length], LIMIT, NAMES)
        except EcgError:
            continue
    for at in range(len(content)):
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            changed = bytearray(content)
            changed[at] = value
            try:
                read_matlab(bytes(changed), LIMIT, NAMES)
            except EcgError:
                continue


def test_other_files_are_refused():
    for content in (b"", b"MATLAB", b"\0" * 19, b"x" * 200, b"PK\x03\x04" + b"\1" * 300):
        with pytest.raises(UnsupportedFormat):
            read_matlab(content, LIMIT, NAMES)
    version_73 = bytearray(saved({"val": np.zeros((2, 2))}))
    version_73[124:126] = b"\x00\x02"
    with pytest.raises(UnsupportedFormat, match=r"7\.3"):
        read_matlab(bytes(version_73), LIMIT, NAMES)


def resaved(folder: Path, values: np.ndarray, *, checksums: bool = True, **options: Any) -> Path:
    """A Challenge header over a MATLAB file that was saved anew."""
    digital = ecg_like().astype(int)
    scipy.io.savemat(folder / "a.mat", {"val": values}, **options)
    lines = [f"a 12 500 {digital.shape[1]}"]
    for row, lead in zip(digital, STANDARD_LEADS, strict=True):
        tail = f"{row.sum() & 0xFFFF} 0 {lead}" if checksums else ""
        lines.append(f"a.mat 16+24 1000/mV 16 0 {row[0] if checksums else 7} {tail}")
    (folder / "a.hea").write_text("\n".join(lines) + "\n")
    return folder / "a"


@pytest.mark.parametrize("checksums", [True, False])
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("i2", {}),
        ("i2", {"do_compression": True}),
        ("f8", {}),
        ("i4", {}),
        ("f8", {"format": "4"}),
        ("i4", {"format": "4"}),
        ("i2", {"format": "4"}),
    ],
)
@pytest.mark.parametrize("transposed", [False, True])
def test_a_signal_file_saved_anew(tmp_path, checksums, dtype, options, transposed):
    """The header says 16+24; the file became another kind of MATLAB file under it."""
    digital = ecg_like()
    values = (digital.T if transposed else digital).astype(dtype)
    path = resaved(tmp_path, values, checksums=checksums, **options)
    in_place = dtype == "i2" and options == {"format": "4"} and not transposed
    if in_place and not checksums:
        with pytest.raises(HeaderError, match="the first sample is"):
            read_record(path, lead_names=STANDARD_LEADS)
        return
    if not checksums:
        header = path.with_suffix(".hea").read_text()
        path.with_suffix(".hea").write_text(header.replace(" 16 0 7 ", " 16 0 "))
    for verify in (True, False):
        record = read_record(path, lead_names=STANDARD_LEADS, verify_checksum=verify)
        assert np.array_equal(record.signal, digital.astype(np.float32) / 1000)
        assert ("matlab_saved_anew" in {note.code for note in record.notes}) != in_place


def test_saved_anew_as_something_else(tmp_path):
    for values in (ecg_like() / 1000, ecg_like()[:11], ecg_like()[:, :-1]):
        with pytest.raises(HeaderError, match="MATLAB file"):
            read_record(resaved(tmp_path, values))
    path = resaved(tmp_path, ecg_like())
    path.with_suffix(".mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(200_000))
    with pytest.raises(UnsupportedFormat, match=r"7\.3"):
        read_record(path)


@pytest.mark.parametrize(("name", "place"), [("fs", "top"), ("sampling_rate", "top"), ("Fs", "structure")])
def test_the_rate_of_a_bare_file(tmp_path, name, place):
    metadata = {"lead_names": STANDARD_LEADS, "unit": "uV"}
    variables: dict[str, Any] = {"val": ecg_like(), name: 500}
    if place == "structure":
        variables = {"ECG": {"data": ecg_like(), name: 500.0}}
    scipy.io.savemat(tmp_path / "b.mat", variables)
    record = read_record(tmp_path / "b.mat", **metadata)
    assert record.sampling_rate == 500.0
    assert "sampling_rate_from_file" in {note.code for note in record.notes}
    assert read_record(tmp_path / "b.mat", sampling_rate=500, **metadata).sampling_rate == 500.0
    with pytest.raises(SamplingRateError, match=f"{name}.*500 Hz.*100 Hz"):
        read_record(tmp_path / "b.mat", sampling_rate=100, **metadata)
