"""WFDB storage formats other than plain 16, checked here and decoded by the wfdb package."""

from __future__ import annotations

import math
import os

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import EcgError, HeaderError, SignalError, TruncatedSignal, UnsupportedFormat
from ecg_hf.signal.io.channels import Channels
from ecg_hf.signal.io.paths import read_file
from ecg_hf.signal.io.wfdb_format16 import (
    apply_skew,
    compare_initial_values,
    signal_file_path,
    verify_checksums,
)
from ecg_hf.signal.io.wfdb_header import SignalSpec, WfdbHeader
from ecg_hf.signal.record import Note

__all__ = ["KNOWN_FORMATS", "read_through_wfdb"]

# Bits per sample, and the value that stands for "no sample" (header(5), signal(5)).
_BITS = {
    8: 8.0,
    16: 16.0,
    24: 24.0,
    32: 32.0,
    61: 16.0,
    80: 8.0,
    160: 16.0,
    212: 12.0,
    310: 32 / 3,
    311: 32 / 3,
}
_INVALID = {
    16: -32768, 24: -(2**23), 32: -(2**31), 61: -32768, 80: -128, 160: -32768, 212: -2048, 310: -512, 311: -512,
    508: -128, 516: -32768, 524: -(2**23),
}  # fmt: skip
_WIDE = {24, 32, 524}
_FLAC = {508, 516, 524}
KNOWN_FORMATS = frozenset(_BITS) | _FLAC


def read_through_wfdb(
    header: WfdbHeader,
    header_path: str,
    channels: Channels,
    *,
    verify_checksum: bool = True,
    root: str | os.PathLike[str] | None = None,
    max_samples: int,
) -> tuple[list[npt.NDArray[np.int16] | npt.NDArray[np.int32]], int, list[Note]]:
    """Digital samples of chosen signals of a single-segment record in any format wfdb decodes.

    Returns:
        Samples ``(samples,)`` of each signal chosen, all int16 or all int32; signals with more samples per frame are
        longer. The value that marks missing samples. Notes.

    Raises:
        HeaderError, TruncatedSignal, ChecksumMismatch, UnsupportedFormat, SignalError, RecordNotFound.
    """
    notes = _check_files(header, header_path, root, max_samples)
    per_lead = _decode(header, header_path)
    signals = [header.signals[row] for row in channels.rows]
    chosen = [per_lead[row] for row in channels.rows]
    for values, name in zip(chosen, channels.names, strict=True):
        if values.dtype.kind not in "iu" or values.ndim != 1 or not values.size:
            raise UnsupportedFormat(
                "wfdb returned samples that are not integers", path=header_path, lead=name
            )
    notes += compare_initial_values(
        [int(values[0]) for values in chosen],
        signals,
        channels.names,
        header_path,
        verify_checksum=verify_checksum,
    )
    is_wide = any(signal.storage.format in _WIDE for signal in signals)
    bounds = np.iinfo(np.int32 if is_wide else np.int16)
    invalid = int(bounds.min)
    rows: list[npt.NDArray[np.int16] | npt.NDArray[np.int32]] = []
    for signal, values, name in zip(signals, chosen, channels.names, strict=True):
        if verify_checksum:
            verify_checksums(values[None], [signal], [name], header_path)
        row = values.astype(np.int64)
        sentinel = _INVALID.get(signal.storage.format)
        if sentinel is not None:
            row[row == sentinel] = invalid
        if row.min() < bounds.min or row.max() > bounds.max:
            raise SignalError(f"samples do not fit {bounds.bits} bits", path=header_path, lead=name)
        narrow = row.astype(np.int32)[None] if is_wide else row.astype(np.int16)[None]
        notes += apply_skew(narrow, [signal], [name], invalid)
        rows.append(narrow[0])
    return rows, invalid, notes


def _check_files(
    header: WfdbHeader, header_path: str, root: str | os.PathLike[str] | None, max_samples: int
) -> list[Note]:
    """Refuse everything that is wrong before wfdb allocates or opens anything."""
    folder = os.path.dirname(header_path)
    files: dict[str, list[SignalSpec]] = {}
    for signal in header.signals:
        files.setdefault(signal.file_name, []).append(signal)
    notes: list[Note] = []
    for file_name, signals in files.items():
        storages = [signal.storage for signal in signals]
        form, offset = storages[0].format, storages[0].byte_offset
        for storage in storages:
            if storage.format not in KNOWN_FORMATS:
                raise HeaderError(
                    f"storage format {storage.format} is unknown", path=header_path, value=storage.format
                )
            if storage.format != form or storage.byte_offset != offset:
                raise HeaderError(
                    f"signals of {file_name} disagree about its format or offset", path=header_path
                )
            if storage.samples_per_frame < 1:
                raise HeaderError("a signal has no samples per frame", path=header_path)
        path = signal_file_path(folder, file_name, header_path, root)
        _, size = read_file(path, max_bytes=0, what="record's signal file", root=root)
        width = sum(storage.samples_per_frame for storage in storages)
        values = (header.length or 0) * width
        if form in _FLAC:
            if not header.length:
                raise HeaderError("a compressed record needs its length in the header", path=header_path)
        else:
            available = int((size - offset) * 8 // _BITS[form])
            if available < max(values, width):
                raise TruncatedSignal(
                    f"signal file has {size} bytes, its header announces at least "
                    f"{offset + math.ceil(max(values, width) * _BITS[form] / 8)}",
                    path=path,
                    value=size,
                )
            values = values or available
            if form == 212 and header.length and size - offset == 2 * values:
                raise HeaderError(
                    "header says format 212, the file's size is that of format 16", path=header_path
                )
            expected = offset + math.ceil(values * _BITS[form] / 8)
            if size - expected >= 4:  # packed formats may round up to a whole group of samples
                detail = f"signal file has {size - expected} bytes more than its header announces"
                notes.append(Note("trailing_bytes", detail))
        if values > max_samples:
            raise SignalError(
                f"record has {values} values, more than max_samples", path=header_path, value=values
            )
    return notes


def _decode(header: WfdbHeader, header_path: str) -> list[npt.NDArray[np.integer]]:
    """Per-lead digital samples, as long as they are in the file, skew not yet applied."""
    import wfdb

    stem = os.path.abspath(header_path.removesuffix(".hea"))
    try:
        seen = wfdb.rdheader(stem)
        agrees = (
            list(seen.file_name) == [signal.file_name for signal in header.signals]
            and [int(form) for form in seen.fmt] == [signal.storage.format for signal in header.signals]
            and [int(n) for n in seen.samps_per_frame]
            == [s.storage.samples_per_frame for s in header.signals]
            and (header.length is None or seen.sig_len == header.length)
        )
        if not agrees:
            # The checks used our parsing of the header, so wfdb must not proceed with a different one.
            raise HeaderError("header is read differently by wfdb", path=header_path)
        # Frame by frame unless a frame holds one sample per lead: wfdb 4.3 fails on format 61 otherwise.
        single = all(signal.storage.samples_per_frame == 1 for signal in header.signals)
        record = wfdb.rdrecord(stem, physical=False, smooth_frames=single, ignore_skew=True)
        return [np.asarray(values) for values in (record.d_signal.T if single else record.e_d_signal)]
    except EcgError:
        raise
    except ImportError as error:
        raise UnsupportedFormat(
            f"reading this format needs the package {error.name}", path=header_path
        ) from None
    # wfdb raises IndexError, TypeError, KeyError, RecursionError and more for damaged files. Its messages
    # can quote header text, so only the type is passed on.
    except Exception as error:
        raise UnsupportedFormat(
            f"wfdb can't read the record ({type(error).__name__})", path=header_path
        ) from None
