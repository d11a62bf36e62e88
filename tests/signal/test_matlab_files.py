"""Our reader of MATLAB files against SciPy's writer and reader."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from ecg_hf.errors import EcgError, SignalError, UnsupportedFormat
from ecg_hf.signal.matlab_files import read_matlab

LIMIT = 1 << 20
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
    found = read_matlab(content, LIMIT)
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
    found = read_matlab(content, LIMIT)["ECG"]
    np.testing.assert_array_equal(found["data"], values)
    np.testing.assert_array_equal(found["deep"]["x"], values[:2])
    assert set(found) == {"age", "data", "deep"}


def test_version_4():
    values = np.arange(24, dtype=np.int16).reshape(12, 2)
    content = saved({"val": values, "f": values / 3}, format="4")
    found = read_matlab(content, LIMIT)
    np.testing.assert_array_equal(found["val"], values)
    np.testing.assert_array_equal(found["f"], values / 3)


@pytest.mark.realdata
def test_published_files(real_data: Path):
    files = sorted((real_data / "cpsc2018_raw").rglob("*.mat"))[:20]
    assert files
    for file in files:
        expected = scipy.io.loadmat(file, simplify_cells=True)["ECG"]["data"]
        np.testing.assert_array_equal(read_matlab(file.read_bytes(), LIMIT)["ECG"]["data"], expected)


def test_sizes_are_checked_before_anything_is_unpacked():
    with pytest.raises(SignalError, match="more than max_samples"):
        read_matlab(saved({"val": np.zeros((12, 100))}), 1199)
    bomb = zlib.compress(bytes(100 << 20))
    header = saved({"val": np.zeros((1, 1))})[:128]
    with pytest.raises(SignalError, match="unpacks"):
        read_matlab(header + struct.pack("<II", 15, len(bomb)) + bomb, LIMIT)


@pytest.mark.parametrize("compressed", [False, True])
def test_every_cut_and_every_flipped_byte_of_the_frame(compressed: bool):
    content = saved(
        {"val": np.arange(36, dtype=np.int16).reshape(12, 3), "s": {"a": 1}}, do_compression=compressed
    )
    for length in range(len(content)):
        try:
            read_matlab(content[:length], LIMIT)
        except EcgError:
            continue
    for at in range(len(content)):
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            changed = bytearray(content)
            changed[at] = value
            try:
                read_matlab(bytes(changed), LIMIT)
            except EcgError:
                continue


def test_other_files_are_refused():
    for content in (b"", b"MATLAB", b"\0" * 19, b"x" * 200, b"PK\x03\x04" + b"\1" * 300):
        with pytest.raises(UnsupportedFormat):
            read_matlab(content, LIMIT)
    version_73 = bytearray(saved({"val": np.zeros((2, 2))}))
    version_73[124:126] = b"\x00\x02"
    with pytest.raises(UnsupportedFormat, match=r"7\.3"):
        read_matlab(bytes(version_73), LIMIT)
