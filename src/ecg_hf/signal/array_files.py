"""Files that hold nothing but numbers: NPY, CSV, and MATLAB files without a WFDB header."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import EcgError, SignalError, TruncatedSignal, UnsupportedFormat
from ecg_hf.signal.arrays import digital_from_array
from ecg_hf.signal.digital import DigitalRecord
from ecg_hf.signal.leads import STANDARD_LEADS, normalize_lead_name
from ecg_hf.signal.matlab_files import Variables, read_matlab
from ecg_hf.signal.paths import inside_root, read_file
from ecg_hf.signal.record import Note

__all__ = ["read_array_file"]

# A text file spends at most about this many bytes on a number; more means it is no table of samples.
_BYTES_PER_CSV_VALUE = 32
_TIME_COLUMNS = {"time", "t", "timestamp", "seconds", "sec", "s", "ms", "sample", "samples", "index", ""}
# Names under which published data sets keep the samples (Challenge, CPSC2018, and the obvious ones).
_MATLAB_VARIABLES = ("val", "ECG", "ecg", "data", "signal", "signals")


def read_array_file(
    path: str,
    *,
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    unit: str | None = None,
    layout: str | None = None,
    root: str | os.PathLike[str] | None = None,
    max_samples: int,
) -> DigitalRecord:
    """Read a ``.npy``, ``.csv`` or header-less ``.mat`` file whose metadata the caller states.

    Raises:
        MetadataMissing: if rate, leads (unless a CSV names its columns) or unit are not given.
        UnsupportedFormat: if the content is not what the suffix says.
        TruncatedSignal: if an array is longer than its file.
    """
    if root is not None:
        inside_root(path, root)
    stem, suffix = os.path.splitext(os.path.basename(path))
    notes: tuple[Note, ...] = ()
    try:
        if suffix == ".npy":
            array = _read_npy(path, max_samples, root)
        elif suffix == ".csv":
            array, columns, notes = _read_csv(path, max_samples, root)
            lead_names = columns if lead_names is None else lead_names
            layout = "samples_first" if columns is not None and layout is None else layout
        else:
            array = _read_matlab(path, max_samples, root)
        return digital_from_array(
            array,
            sampling_rate=sampling_rate,
            lead_names=lead_names,
            unit=unit,
            layout=layout,
            record_id=stem,
            notes=notes,
        )
    except EcgError as error:
        error.path = error.path or path
        raise


def _read_npy(path: str, max_samples: int, root: str | os.PathLike[str] | None) -> npt.NDArray[np.generic]:
    content, size = read_file(path, max_bytes=max_samples * 8 + 65536, root=root)
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(stream)
    # numpy evaluates the header as a Python literal: a garbled one raises SyntaxError, TypeError and others.
    except Exception:
        raise UnsupportedFormat("file is not a valid .npy file", path=path) from None
    if dtype.hasobject or dtype.kind not in "biufc":
        raise SignalError(f"samples of type {dtype} can't be an ECG", path=path, value=str(dtype))
    count = math.prod(shape)
    needed = stream.tell() + count * dtype.itemsize
    if any(extent < 0 for extent in shape) or needed > size:
        raise TruncatedSignal(
            f"array of shape {shape} needs {needed} bytes, file has {size}", path=path, value=size
        )
    if count > max_samples:
        raise SignalError(f"array has {count} values, more than max_samples", path=path, value=count)
    flat = np.frombuffer(content, dtype, count, stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C")


def _read_csv(
    path: str, max_samples: int, root: str | os.PathLike[str] | None
) -> tuple[npt.NDArray[np.float64], list[str] | None, tuple[Note, ...]]:
    """Numbers, the column names if the first line has them, and notes."""
    limit = max_samples * _BYTES_PER_CSV_VALUE
    content, size = read_file(path, max_bytes=limit, root=root)
    if size > limit:
        raise SignalError(f"file has {size} bytes, too many for max_samples", path=path, value=size)
    try:
        lines = [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise UnsupportedFormat("file is not text", path=path) from None
    if not lines:
        raise SignalError("file has no samples", path=path)
    delimiter = next((mark for mark in ("\t", ";", ",") if mark in lines[0]), ",")
    first = [cell.strip().strip('"') for cell in lines[0].split(delimiter)]
    columns = None if all(_is_number(cell) for cell in first) else first
    rows = []
    for number, line in enumerate(lines[1:] if columns else lines, 2 if columns else 1):
        cells = line.split(delimiter)
        if len(cells) != len(first):
            raise UnsupportedFormat(f"row {number} has {len(cells)} cells, the first {len(first)}", path=path)
        try:
            rows.append([float(cell) if cell.strip() else math.nan for cell in cells])
        except ValueError:
            raise UnsupportedFormat(f"row {number} holds something that is no number", path=path) from None
    if not rows:
        raise SignalError("file has column names but no samples", path=path)
    table = np.array(rows, dtype=np.float64)
    if columns is None:
        return table, None, ()
    timing = [i for i, name in enumerate(columns) if name.lower() in _TIME_COLUMNS and not _is_lead(name)]
    keep = [i for i in range(len(columns)) if i not in timing]
    notes = (Note("leads_dropped", "time or index column left out"),) if timing else ()
    return table[:, keep], [columns[i] for i in keep], notes


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def _is_lead(name: str) -> bool:
    return normalize_lead_name(name) in STANDARD_LEADS


def _read_matlab(path: str, max_samples: int, root: str | os.PathLike[str] | None) -> npt.NDArray[np.generic]:
    """The samples of a MATLAB file: a variable ``val``, or ``data`` in a structure ``ECG``, and the like."""
    limit = max_samples * 8 + 65536
    content, size = read_file(path, max_bytes=limit, root=root)
    if size > limit:
        raise SignalError(f"file has {size} bytes, too many for max_samples", path=path, value=size)
    found = _find_matrix(read_matlab(content, max_samples))
    if found is None:
        raise UnsupportedFormat("file has no matrix named " + ", ".join(_MATLAB_VARIABLES), path=path)
    return found


def _find_matrix(variables: Variables) -> npt.NDArray[np.generic] | None:
    for name in _MATLAB_VARIABLES:
        value = variables.get(name)
        if isinstance(value, dict):
            value = _find_matrix(value)
        if value is not None:
            return value
    return None
