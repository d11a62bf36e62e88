"""Real matrices in MATLAB files, versions 4 to 7: every size is checked against the bytes of the file.

Source: MathWorks, "MAT-File Level 5 File Format" and "MAT-File Format Version 4". Only what recordings are stored in
is read: real two-dimensional matrices, also within structures; text, cells, objects and sparse matrices are skipped.
``scipy.io.loadmat`` reads much more, but a damaged file can crash the process in it (SciPy 1.17), which no exception
handler can catch.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import SignalError, UnsupportedFormat

__all__ = [
    "RATE_NAMES",
    "SAMPLE_NAMES",
    "Variables",
    "find_matrix",
    "find_rate",
    "is_saved_anew",
    "read_matlab",
]

SAMPLE_NAMES = ("val", "ECG", "ecg", "data", "signal", "signals")
"""Names under which published data sets keep the samples (Challenge, CPSC2018, and the obvious ones)."""

RATE_NAMES = (
    "fs", "Fs", "FS", "sfreq", "freq", "frequency", "srate", "rate",
    "sampling_rate", "samplingRate", "sample_rate", "sampleRate", "sampling_frequency", "samplingFrequency",
)  # fmt: skip
"""Names under which such files keep the sampling rate."""

Variables: TypeAlias = "dict[str, npt.NDArray[np.generic] | Variables]"

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_STRUCTURE, _NUMERIC, _COMPLEX = 2, range(6, 16), 0x0800
_VERSION_4 = ("f8", "f4", "i4", "i2", "u2", "u1")
_MAX_DEPTH = 8
_INT16_IN_VERSION_4 = 30
_HEAD_BYTES = 1024


def read_matlab(content: bytes, max_values: int, names: Collection[str]) -> Variables:
    """Variables of a MATLAB file that are real matrices, or structures of such.

    Args:
        content: The whole file.
        max_values: Most values a matrix may have; all compressed variables together unpack to no more.
        names: Variables to read. Others are skipped without unpacking.

    Raises:
        UnsupportedFormat: if it is not such a file, or damaged.
        SignalError: if a matrix is larger than ``max_values``.
    """
    try:
        # Version 4 has no header, but its first number is below 5000, which text never is.
        if len(content) >= 4 and 0 in content[:4]:
            return {name: value for name, value in _version_4(content, max_values) if name in names}
        if content.startswith((b"\x89HDF", b"MATLAB 7.3")):
            raise UnsupportedFormat("MATLAB 7.3 files are not read; save it with -v7")
        if len(content) < _HEADER or content[126:128] not in (b"IM", b"MI"):
            raise UnsupportedFormat("file is not a readable MATLAB file")
        order = "<" if content[126:128] == b"IM" else ">"
        if struct.unpack_from(f"{order}H", content, 124)[0] >> 8 != 1:
            raise UnsupportedFormat("MATLAB 7.3 files are not read; save it with -v7")
        variables: Variables = {}
        budget = 8 * max_values + 65536
        for kind, data in _elements(memoryview(content)[_HEADER:], order):
            if kind == _COMPRESSED:
                if _name_of_compressed(data, order) not in names:
                    continue
                unpacked = _unpack(data, budget)
                budget -= len(unpacked)
                kind, data = next(_elements(memoryview(unpacked), order), (0, data))
            if kind == _MATRIX:
                name, value = _matrix(data, order, max_values, 0)
                if value is not None and name in names:
                    variables[name] = value
        return variables
    except (struct.error, zlib.error, ValueError, OverflowError) as error:
        if isinstance(error, (UnsupportedFormat, SignalError)):
            raise
        raise UnsupportedFormat(f"file is not a readable MATLAB file ({type(error).__name__})") from None


def find_matrix(variables: Variables) -> npt.NDArray[np.generic] | None:
    """The first matrix among variables named as in :data:`SAMPLE_NAMES`, also within structures."""
    for name in SAMPLE_NAMES:
        value = variables.get(name)
        if isinstance(value, dict):
            value = find_matrix(value)
        if value is not None:
            return value
    return None


def find_rate(variables: Variables) -> tuple[str, float] | None:
    """Name and value of the sampling rate among variables, also within structures that hold samples."""
    for name in RATE_NAMES:
        value = variables.get(name)
        if value is not None and not isinstance(value, dict) and value.size == 1:
            return name, float(value.reshape(-1)[0])
    for name in SAMPLE_NAMES:
        value = variables.get(name)
        found = find_rate(value) if isinstance(value, dict) else None
        if found is not None:
            return found
    return None


def is_saved_anew(content: bytes, offset: int, leads: int, samples: int | None) -> bool:
    """Whether a WFDB signal file is a MATLAB file other than the int16 version 4 that format 16 can read in place.

    Args:
        content: The first 128 bytes of the file or more.
        offset: Bytes before the first sample, as the WFDB header says.
        leads: Signals in the file.
        samples: Samples per signal, if the header says.
    """
    if content.startswith((b"\x89HDF", b"MATLAB ")) or content[126:128] in (b"IM", b"MI"):
        return True
    if len(content) < 20:
        return False
    for order in "<>":
        kind, rows, columns, imaginary, length = struct.unpack_from(f"{order}5i", content)
        name = content[20 : 20 + max(0, min(length, 64))]
        if kind in range(5000) and imaginary in (0, 1) and 1 < length <= 64 and name[:-1].isascii():
            in_place = (order, kind, 20 + length) == ("<", _INT16_IN_VERSION_4, offset)
            is_transposed = rows != leads and (rows, columns) == (samples, leads)
            return not in_place or is_transposed
    return False


def _name_of_compressed(data: memoryview, order: str) -> str:
    """Name of a compressed matrix, from its first few bytes."""
    head = memoryview(zlib.decompressobj().decompress(data, _HEAD_BYTES))
    if len(head) < 8 or struct.unpack_from(f"{order}I", head)[0] != _MATRIX:
        return ""
    parts = _elements(head[8:], order)
    for _ in range(2):  # flags and shape
        _next(parts)
    return bytes(_next(parts)[1]).decode("ascii", errors="replace")


def _unpack(data: memoryview, limit: int) -> bytes:
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(data, max(1, limit))
    if unpacker.unconsumed_tail:
        raise SignalError(f"compressed variables unpack to more than {limit} bytes, more than max_samples")
    if not unpacker.eof:
        raise _damaged("a compressed variable is cut short")
    return content


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and bytes of each element; small ones keep their bytes within the tag."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:
            size, start, kind = kind >> 16, at + 4, kind & 0xFFFF
            step = 8
            if size > 4:
                raise _damaged("a small element is too large")
        else:
            start = at + 8
            step = 8 + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if start + size > len(data):
            raise _damaged("an element is longer than the file")
        yield kind, data[start : start + size]
        at += step


def _matrix(
    data: memoryview, order: str, max_values: int, depth: int
) -> tuple[str, npt.NDArray[np.generic] | Variables | None]:
    """Name and content of a matrix element; None for skipped types."""
    if not len(data):
        return "", None
    parts = _elements(data, order)
    flags = struct.unpack_from(f"{order}I", _next(parts)[1], 0)[0]
    shape = np.frombuffer(_next(parts)[1], f"{order}i4").tolist()
    name = bytes(_next(parts)[1]).decode("ascii", errors="replace")
    kind = flags & 0xFF
    if any(extent < 0 for extent in shape):
        raise _damaged("a matrix has a negative size")
    if kind == _STRUCTURE and math.prod(shape) == 1 and depth < _MAX_DEPTH:
        return name, _structure(parts, order, max_values, depth)
    if kind not in _NUMERIC or flags & _COMPLEX or len(shape) != 2:
        return name, None
    count = math.prod(shape)
    if count > max_values:
        raise SignalError(f"variable {name!r} has shape {tuple(shape)}, more than max_samples")
    stored, values = _next(parts)
    if stored not in _STORED:
        raise _damaged("a matrix is stored in an unknown type")
    dtype = np.dtype(f"{order}{_STORED[stored]}")
    if len(values) != count * dtype.itemsize:
        raise _damaged("a matrix has other bytes than its size asks for")
    return name, np.frombuffer(values, dtype).reshape(shape, order="F")


def _structure(parts: Iterator[tuple[int, memoryview]], order: str, max_values: int, depth: int) -> Variables:
    """Fields of a structure that are real matrices or such structures."""
    length = struct.unpack_from(f"{order}i", _next(parts)[1], 0)[0]
    names = bytes(_next(parts)[1])
    if length < 1 or len(names) % length:
        raise _damaged("a structure has malformed field names")
    fields: Variables = {}
    for start in range(0, len(names), length):
        kind, data = _next(parts)
        if kind != _MATRIX:
            raise _damaged("a structure has a field that is not a matrix")
        field = names[start : start + length].split(b"\0")[0].decode("ascii", errors="replace")
        value = _matrix(data, order, max_values, depth + 1)[1]
        if value is not None:
            fields[field] = value
    return fields


def _version_4(content: bytes, max_values: int) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
    order = "<" if struct.unpack_from("<i", content)[0] in range(5000) else ">"
    at = 0
    while at < len(content):
        kind, rows, columns, imaginary, length = struct.unpack_from(f"{order}5i", content, at)
        at += 20
        stored, shape_kind = kind // 10 % 10, kind % 10
        if not 0 <= kind < 5000 or stored >= len(_VERSION_4) or min(rows, columns, length) < 0:
            raise _damaged("a variable has an impossible header")
        count = rows * columns
        if count > max_values:
            raise SignalError(f"a variable has shape {(rows, columns)}, more than max_samples")
        dtype = np.dtype(f"{order}{_VERSION_4[stored]}")
        size = count * dtype.itemsize * (2 if imaginary else 1)
        if at + length + size > len(content):
            raise _damaged("a variable is longer than the file")
        name = content[at : at + length].rstrip(b"\0").decode("ascii", errors="replace")
        at += length
        if shape_kind == 0 and not imaginary:
            yield name, np.frombuffer(content, dtype, count, at).reshape((rows, columns), order="F")
        at += size


def _next(parts: Iterator[tuple[int, memoryview]]) -> tuple[int, memoryview]:
    try:
        return next(parts)
    except StopIteration:
        raise _damaged("a variable is cut short") from None


def _damaged(reason: str) -> UnsupportedFormat:
    return UnsupportedFormat(f"file is not a readable MATLAB file: {reason}")
