"""Files that hold nothing but numbers: NPY, and MATLAB files without a WFDB header."""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import SamplingRateError, SignalError, TruncatedSignal, UnsupportedFormat
from ecg_hf.signal.io.arrays import digital_from_array
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.matlab import RATE_NAMES, SAMPLE_NAMES, find_matrix, find_rate, read_matlab
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.io.sources import Source
from ecg_hf.signal.record import Note
from ecg_hf.signal.units import checked_sampling_rate

__all__ = ["MATLAB_MAGIC", "NPY_MAGIC", "read_array_file"]


NPY_MAGIC = b"\x93NUMPY"
MATLAB_MAGIC = b"MATLAB "


def read_array_file(source: Source, kind: str, layout: str | None) -> DigitalRecord:
    """Read a NPY file, or a MATLAB file without a WFDB header, whose metadata the caller states.

    Args:
        source: The file.
        kind: ``"npy"`` or ``"mat"``.
        layout: See :func:`~ecg_hf.signal.io.arrays.resolve_layout`.

    Raises:
        MetadataMissing: if rate, leads or unit are stated neither in the file nor by the caller.
        UnsupportedFormat: if the content is not of that kind.
        TruncatedSignal: if an array is longer than its file.
    """
    options = source.options
    rate = options.sampling_rate
    notes: tuple[Note, ...] = ()
    if kind == "npy":
        array = _read_npy(source.content(), options)
    else:
        array, rate, notes = _read_matlab(source.content(), options)
    record = digital_from_array(
        array,
        sampling_rate=rate,
        lead_names=options.lead_names,
        unit=options.unit,
        layout=layout,
        record_id=source.record_id,
        notes=notes,
    )
    return record if options.leads is None else record.select_leads(options.leads)


def _read_npy(content: bytes, options: ReadOptions) -> npt.NDArray[np.generic]:
    limit = options.max_samples
    size = len(content)
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(stream)
    # numpy evaluates the header as a Python literal: a garbled one raises SyntaxError, TypeError and others.
    except Exception:
        raise UnsupportedFormat("file is not a valid .npy file") from None
    if dtype.hasobject or dtype.kind not in "iuf":
        raise SignalError(f"samples of type {dtype} can't be an ECG", value=str(dtype))
    count = math.prod(shape)
    needed = stream.tell() + count * dtype.itemsize
    if any(extent < 0 for extent in shape) or needed > size:
        raise TruncatedSignal(f"array of shape {shape} needs {needed} bytes, file has {size}", value=size)
    if count > limit:
        raise SignalError(f"array has {count} values, more than max_samples", value=count)
    flat = np.frombuffer(content, dtype, count, stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C")


def _read_matlab(
    content: bytes, options: ReadOptions
) -> tuple[npt.NDArray[np.generic], float | None, tuple[Note, ...]]:
    """Samples and rate of a MATLAB file: a variable ``val``, or ``data`` in a structure ``ECG``, and the like.

    Raises:
        SamplingRateError: if a variable such as ``fs`` contradicts the caller's rate.
    """
    variables = read_matlab(content, options.max_samples, (*SAMPLE_NAMES, *RATE_NAMES))
    array = find_matrix(variables)
    if array is None:
        raise UnsupportedFormat("file has no matrix named " + ", ".join(SAMPLE_NAMES))
    written, given = find_rate(variables), options.sampling_rate
    if written is None:
        return array, given, ()
    name, value = written
    if given is not None and given != value:
        raise SamplingRateError(f"variable {name!r} says {value:g} Hz, the caller {given:g} Hz", value=value)
    note = Note("sampling_rate_from_file", f"{value:g} Hz, from the variable {name!r}")
    return array, checked_sampling_rate(value), () if given is not None else (note,)
