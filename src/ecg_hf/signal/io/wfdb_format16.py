"""Direct decoding of WFDB format 16: the storage of nearly every clinical 12-lead data set.

A format-16 file is little-endian int16, one frame after the other, optionally behind a fixed number of
bytes (Challenge ``.mat`` files are format 16 behind a 24-byte MATLAB header). Decoding is one read and one
view, transposed by whoever copies it; the checksum is a sum in 16-bit arithmetic, which wraps as the
format defines it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import (
    ChecksumMismatch,
    EcgError,
    HeaderError,
    RecordNotFound,
    SignalError,
    TruncatedSignal,
)
from ecg_hf.signal.io.matlab import SAMPLE_NAMES, find_matrix, is_saved_anew, read_matlab
from ecg_hf.signal.io.paths import inside_root, read_file
from ecg_hf.signal.io.wfdb_header import SignalSpec, WfdbHeader
from ecg_hf.signal.record import Note

__all__ = [
    "INVALID_16",
    "apply_skew",
    "compare_initial_values",
    "is_plain_format16",
    "read_format16",
    "signal_file_path",
    "verify_checksums",
]

INVALID_16 = -32768

_FOLD = 64


def is_plain_format16(header: WfdbHeader) -> bool:
    """Whether every signal is format 16 with one sample per frame."""
    for signal in header.signals:
        storage = signal.storage
        if storage.format != 16 or storage.samples_per_frame != 1:
            return False
    return True


def signal_file_path(
    folder: str, file_name: str, header_path: str, root: str | os.PathLike[str] | None
) -> str:
    """Path of the signal file a header names, which is always beside the header.

    Raises:
        HeaderError: if the header names no file (``~`` is for layout segments only).
        UnsafePath: if the file leads out of ``root``.
    """
    if file_name.startswith("~"):
        raise HeaderError("a signal has no file", path=header_path)
    path = os.path.join(folder, file_name)
    return path if root is None else inside_root(path, root)


def read_format16(
    header: WfdbHeader,
    header_path: str,
    lead_names: Sequence[str],
    *,
    verify_checksum: bool = True,
    root: str | os.PathLike[str] | None = None,
    max_samples: int,
) -> tuple[npt.NDArray[np.int16], list[Note]]:
    """Samples ``(leads, samples)`` of a plain format-16 record, rows in header order.

    Of a record in one file they are a read-only view of its bytes, frame by frame in memory.

    Raises:
        RecordNotFound: if a signal file is missing.
        TruncatedSignal: if a file is shorter than the header says.
        ChecksumMismatch: if a lead does not add up.
        HeaderError: if the header contradicts its files.
        SignalError: if the record is larger than ``max_samples`` values.
    """
    signals, folder = header.signals, os.path.dirname(header_path)
    files: dict[str, list[int]] = {}
    for row, signal in enumerate(signals):
        files.setdefault(signal.file_name, []).append(row)

    notes: list[Note] = []
    blocks = []
    for file_name, rows in files.items():
        path = signal_file_path(folder, file_name, header_path, root)
        offset = signals[rows[0]].storage.byte_offset
        if any(signals[row].storage.byte_offset != offset for row in rows):
            raise HeaderError(f"signals of {file_name} disagree about its byte offset", path=header_path)
        blocks.append(_read_block(path, header.length, len(rows), offset, max_samples, notes, root))

    if len(blocks) == 1:
        samples = blocks[0].T
    else:
        length = blocks[0].shape[0]
        if any(block.shape[0] != length for block in blocks):
            raise HeaderError("signal files hold different numbers of samples", path=header_path)
        samples = np.empty((len(signals), length), dtype=np.int16)
        for rows, block in zip(files.values(), blocks, strict=True):
            samples[rows] = block.T
    if verify_checksum:
        verify_checksums(samples, signals, lead_names, header_path)
    notes += compare_initial_values(
        samples[:, 0].tolist(), signals, lead_names, header_path, verify_checksum=verify_checksum
    )
    if any(signal.storage.skew for signal in signals):
        samples = samples.copy()
        notes.extend(apply_skew(samples, signals, lead_names, INVALID_16))
    return samples, notes


def _read_block(
    path: str,
    length: int | None,
    width: int,
    offset: int,
    max_samples: int,
    notes: list[Note],
    root: str | os.PathLike[str] | None,
) -> npt.NDArray[np.int16]:
    """Frames ``(samples, leads)`` of one file, a read-only view of the bytes read."""
    frame = 2 * width
    # Never read more than the header announces or the file has.
    wanted = offset + (max_samples * 2 if length is None else min(length * frame, max_samples * 2))
    try:
        content, size = read_file(path, max_bytes=wanted, what="signal file", root=root)
    except RecordNotFound as error:
        raise RecordNotFound(f"record's {error.message}", path=path) from None
    if path.endswith(".mat") and is_saved_anew(content, offset, width, length):
        notes.append(Note("matlab_saved_anew", "the samples are those of the MATLAB file's matrix"))
        return _read_matrix(path, length, width, max_samples, root)
    if length is None:
        length, rest = divmod(size - offset, frame)
        if length < 1 or rest:
            raise TruncatedSignal(
                f"signal file has {size} bytes, which is not a whole number of {frame}-byte frames",
                path=path,
                value=size,
            )
    expected = offset + length * frame
    if size < expected:
        raise TruncatedSignal(
            f"signal file has {size} bytes, its header announces {expected}", path=path, value=size
        )
    if length * width > max_samples:
        raise SignalError(
            f"record has {length * width} values, more than max_samples", path=path, value=length
        )
    if len(content) < expected:
        raise TruncatedSignal("signal file shrank while it was read", path=path, value=len(content))
    if size > expected:
        detail = f"signal file has {size - expected} bytes more than its header announces"
        notes.append(Note("trailing_bytes", detail))
    values = np.frombuffer(content, "<i2", length * width, offset)
    return values.reshape(length, width).astype(np.int16, copy=False)


def _read_matrix(
    path: str, length: int | None, width: int, max_samples: int, root: str | os.PathLike[str] | None
) -> npt.NDArray[np.int16]:
    """Frames ``(samples, leads)`` of a MATLAB file that was saved anew since its header was written."""
    limit = 8 * max_samples + 65536
    content, size = read_file(path, max_bytes=limit, what="signal file", root=root)
    if size > limit:
        raise SignalError(f"file has {size} bytes, too many for max_samples", path=path, value=size)
    try:
        matrix = find_matrix(read_matlab(content, max_samples, SAMPLE_NAMES))
    except EcgError as error:
        error.path = path
        raise
    if matrix is None or width not in matrix.shape:
        found = "no matrix of samples" if matrix is None else f"a matrix of shape {matrix.shape}"
        raise HeaderError(f"header announces {width} signals, the MATLAB file has {found}", path=path)
    # A square matrix is read as Challenge files are: a row per lead.
    frames = matrix.T if matrix.shape[0] == width else matrix
    if length is not None and len(frames) != length:
        raise HeaderError(
            f"header announces {length} samples, the MATLAB file has a matrix of shape {matrix.shape}",
            path=path,
        )
    with np.errstate(invalid="ignore"):
        samples = frames.astype(np.int16)
    if not np.array_equal(samples, frames):
        raise HeaderError(
            "the MATLAB file was saved anew with numbers that are not 16-bit samples; read it without its header",
            path=path,
        )
    return samples


def verify_checksums(
    samples: npt.NDArray[np.integer],
    signals: Sequence[SignalSpec],
    lead_names: Sequence[str],
    path: str,
) -> None:
    """Compare each lead's 16-bit sum with the header's; leads without a checksum pass.

    Args:
        samples: Digital ``(leads, samples)``: integers.
        signals: The signal line of each row.
        lead_names: For the message.
        path: For the message.

    Raises:
        ChecksumMismatch: naming the first lead that differs.
    """
    # 16-bit arithmetic wraps, as the checksum is defined.
    wide = np.int16 if samples.dtype == np.int16 else np.int64
    sums = _sums(samples.T, wide).tolist()
    for row, signal in enumerate(signals):
        expected = signal.checksum
        if expected is not None and (sums[row] - expected) & 0xFFFF:
            raise ChecksumMismatch(
                f"samples add up to {sums[row] & 0xFFFF}, the header says {expected & 0xFFFF}; "
                "the file is damaged (verify_checksum=False reads it anyway)",
                path=path,
                lead=lead_names[row],
                value=sums[row],
            )


def _sums(frames: npt.NDArray[np.integer], dtype: type[np.integer]) -> npt.NDArray[np.integer]:
    """Sum of each column of ``(samples, leads)``."""
    count, width = frames.shape
    whole = count // _FOLD * _FOLD
    if not frames.flags.c_contiguous:
        whole = 0
    sums: npt.NDArray[np.integer] = np.add.reduce(frames[whole:], axis=0, dtype=dtype)
    if whole:
        # Row by row of a dozen values numpy spends its time between the rows: many frames at once make long ones.
        folded = np.add.reduce(frames[:whole].reshape(-1, _FOLD * width), axis=0, dtype=dtype)
        sums += np.add.reduce(folded.reshape(_FOLD, width), axis=0, dtype=dtype)
    return sums


def compare_initial_values(
    firsts: Sequence[int],
    signals: Sequence[SignalSpec],
    lead_names: Sequence[str],
    path: str,
    *,
    verify_checksum: bool,
) -> list[Note]:
    """Compare the first sample of each lead, as stored, with the header's initial value.

    Args:
        firsts: First sample of each lead.
        signals: The signal line of each lead.
        lead_names: For the message.
        path: For the message.
        verify_checksum: Whether a difference is an error. It is never one in a lead whose checksum is right:
            headers of excerpts can keep the initial values of the whole.

    Raises:
        HeaderError: naming the first lead that begins otherwise and has no checksum.
    """
    # A header whose initial values all equal the ADC's zero does not state them.
    if all(signal.initial_value in (None, signal.adc_zero) for signal in signals):
        return []
    notes = []
    for first, signal, name in zip(firsts, signals, lead_names, strict=True):
        if signal.initial_value in (None, first):
            continue
        detail = f"the first sample is {first}, the header says {signal.initial_value}"
        if verify_checksum and signal.checksum is None:
            raise HeaderError(
                f"{detail}: this is not the file that the header describes (verify_checksum=False reads it anyway)",
                path=path,
                lead=name,
                value=first,
            )
        notes.append(Note("initial_value_differs", detail, name))
    return notes


def apply_skew(
    samples: npt.NDArray[np.integer],
    signals: Sequence[SignalSpec],
    lead_names: Sequence[str],
    invalid: int,
) -> list[Note]:
    """Shift skewed leads back in place; the samples missing at the end become ``invalid``."""
    notes = []
    for row, signal in enumerate(signals):
        skew = signal.storage.skew * signal.storage.samples_per_frame
        if skew:
            kept = max(samples.shape[1] - skew, 0)
            samples[row, :kept] = samples[row, samples.shape[1] - kept :].copy()
            samples[row, kept:] = invalid
            notes.append(Note("skew_applied", f"lead shifted by {skew} samples", lead_names[row]))
    return notes
