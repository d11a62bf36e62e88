"""Long recordings as windows, one after the other, with no more than a block in memory."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError, EcgError, SignalError, TruncatedSignal, UnsupportedFormat
from ecg_hf.signal.io.decoded import StoredLead, digital_from_leads
from ecg_hf.signal.io.edf import EdfLayout, is_edf, read_edf, read_edf_layout
from ecg_hf.signal.io.ishne import INVALID, IshneHeader, is_ishne, read_ishne_header
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.io.paths import inside_root, local_path, read_file
from ecg_hf.signal.io.reading import MAX_SAMPLES, read_record
from ecg_hf.signal.io.wfdb_objects import read_wfdb_record
from ecg_hf.signal.io.wfdb_record import read_header
from ecg_hf.signal.record import EcgRecord

__all__ = ["check_seconds", "iter_windows"]

_BLOCK_VALUES = 1 << 22
"""Values (leads times samples) read at once: 16 MiB of float32."""

_BLOCK_NOTES = ("samples_missing", "lead_missing", "trailing_bytes")


def iter_windows(
    path_or_record: str | os.PathLike[str] | bytes | EcgRecord,
    window_s: float = 10,
    stride_s: float = 10,
    *,
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    leads: Sequence[str] | None = None,
    units: str | None = None,
    root: str | os.PathLike[str] | None = None,
) -> Iterator[tuple[float, EcgRecord]]:
    """Windows of a recording, in order.

    WFDB records, ISHNE, EDF and BDF files are read block by block, so that a day of twelve leads takes no more memory
    than a minute; there is no limit to their length. Other formats are read whole.

    Args:
        path_or_record: What :func:`~ecg_hf.signal.io.reading.read_record` reads, or a record.
        window_s: Length of a window in seconds.
        stride_s: From the start of a window to the start of the next, in seconds.
        sampling_rate: As for :func:`~ecg_hf.signal.io.reading.read_record`.
        lead_names: As there.
        leads: As there.
        units: As there.
        root: As there.

    Returns:
        Pairs of the start in seconds, ``k * stride_s``, and the window, which begins at the nearest sample. Windows
        are complete: what is left at the end is not a window. A recording shorter than one window is one.

    Raises:
        EcgError: if the recording can't be read, or a length is not positive.

    Example:
        >>> for start_s, window in iter_windows("holter.ecg", window_s=10, stride_s=5):  # doctest: +SKIP
        ...     scores.append(model(window))
    """
    check_seconds("window_s", window_s)
    check_seconds("stride_s", stride_s)
    told: dict[str, Any] = {"sampling_rate": sampling_rate, "lead_names": lead_names, "leads": leads}
    options = ReadOptions(sampling_rate, lead_names, leads, units, True, root, MAX_SAMPLES)
    with _named_in_errors(path_or_record):
        source = _open(path_or_record, options, {**told, "units": units, "root": root})
    return _windows(source, float(window_s), float(stride_s), path_or_record)


def check_seconds(name: str, value: object) -> None:
    """Raise a ``ConfigurationError`` unless ``value`` is a positive number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 1e9:
        raise ConfigurationError(
            f"{name} must be a positive number of seconds, got {value!r:.40}", value=value
        )


class _Blocks(ABC):
    """A recording of which any stretch can be read.

    Attributes:
        rate: Hertz.
        samples: Samples per lead.
        signals: Signals in the file, read or not.
    """

    rate: float
    samples: int
    signals: int = 1

    @abstractmethod
    def read(self, start: int, stop: int) -> EcgRecord:
        """At least the samples from ``start`` to ``stop``; only these."""


class _Whole(_Blocks):
    def __init__(self, record: EcgRecord) -> None:
        self._record = record
        self.rate, self.samples = record.sampling_rate, record.signal.shape[1]
        self.signals = self.samples * record.signal.shape[0]

    def read(self, start: int, stop: int) -> EcgRecord:
        return replace(self._record, signal=self._record.signal[:, start:stop])


class _File(_Blocks):
    """A file whose samples lie at places that can be computed."""

    def __init__(self, path: str, options: ReadOptions, size: int) -> None:
        self._path, self._options, self._size = path, options, size
        self._record_id = os.path.splitext(os.path.basename(path))[0]

    def _bytes(self, start: int, count: int) -> bytes:
        # Whether it is a regular file below the root was looked at when its head was read.
        try:
            with open(self._path, "rb") as file:
                file.seek(start)
                content = file.read(count)
        except OSError as error:
            raise TruncatedSignal(f"the file can't be read any more ({type(error).__name__})") from None
        if len(content) != count:
            raise TruncatedSignal("the file has become shorter while it was read", value=self._size)
        return content


class _Ishne(_File):
    def __init__(self, path: str, options: ReadOptions, size: int, header: IshneHeader) -> None:
        super().__init__(path, options, size)
        self._header = header
        self.rate, self.samples, self.signals = header.sampling_rate, header.samples, len(header.names)

    def read(self, start: int, stop: int) -> EcgRecord:
        header = self._header
        width = 2 * self.signals
        counts = np.frombuffer(self._bytes(header.data_start + start * width, (stop - start) * width), "<i2")
        rows = np.ascontiguousarray(counts.reshape(-1, self.signals).T, dtype=np.int16)
        stored = [
            StoredLead(name, row, resolution, "nV")
            for name, row, resolution in zip(header.names, rows, header.resolutions, strict=True)
        ]
        return digital_from_leads(
            stored, self.rate, self._options, record_id=self._record_id, invalid=INVALID, may_be_missing=True
        ).to_record()


class _Edf(_File):
    def __init__(self, path: str, options: ReadOptions, size: int, layout: EdfLayout) -> None:
        super().__init__(path, options, size)
        held = (size - layout.header_bytes) // layout.record_bytes
        if held < max(layout.records, 1):
            raise TruncatedSignal(
                f"{held} data records are there, the header says {layout.records}", value=held
            )
        self._layout = layout
        self._records = held if layout.records == -1 else layout.records
        self._header = self._bytes(0, layout.header_bytes)
        first = self._read_records(0, 1)
        self.rate, self.signals = first.sampling_rate, len(layout.per_record)
        self._per_record = first.signal.shape[1]
        self.samples = self._per_record * self._records

    def _read_records(self, first: int, last: int) -> EcgRecord:
        """Data records as a file of their own, with all the checks of one."""
        layout = self._layout
        data = self._bytes(
            layout.header_bytes + first * layout.record_bytes, (last - first) * layout.record_bytes
        )
        header = self._header[:236] + f"{last - first:<8d}".encode() + self._header[244:]
        return read_edf(header + data, self._options, self._record_id).to_record()

    def read(self, start: int, stop: int) -> EcgRecord:
        first, last = start // self._per_record, -(-stop // self._per_record)
        # The record before comes along, so that a gap between two blocks is seen.
        before = max(0, first - 1)
        record = self._read_records(before, last)
        offset = before * self._per_record
        return replace(record, signal=record.signal[:, start - offset : stop - offset])


class _Wfdb(_Blocks):
    """A WFDB record through the ``wfdb`` package, which can read stretches of every format."""

    def __init__(self, stem: str, options: ReadOptions) -> None:
        header = read_header(f"{stem}.hea", root=options.root)
        self._stem, self._options = stem, options
        if any(s.storage.samples_per_frame != 1 for s in header.signals) or header.length is None:
            raise UnsupportedFormat("windows of records with several samples per frame or unknown length")
        self.samples, self.signals = header.length, max(1, header.signal_count)
        self.rate = self.read(0, min(self.samples, 16)).sampling_rate

    def read(self, start: int, stop: int) -> EcgRecord:
        import wfdb

        try:
            record = wfdb.rdrecord(self._stem, sampfrom=start, sampto=stop, m2s=True)
        except EcgError:
            raise
        # wfdb raises whatever its parsing of a damaged file comes to.
        except Exception as error:
            raise UnsupportedFormat(f"the record can't be read in blocks ({type(error).__name__})") from None
        return read_wfdb_record(record, self._options, may_be_missing=True).to_record()


def _open(source: Any, options: ReadOptions, told: dict[str, Any]) -> _Blocks:
    if isinstance(source, EcgRecord):
        return _Whole(source)
    if isinstance(source, str | os.PathLike):
        path = local_path(source)
        if options.root is not None:
            inside_root(path, options.root)
        stem = path[:-4] if path[-4:] in (".hea", ".dat", ".mat") else path
        if os.path.isfile(f"{stem}.hea"):
            try:
                return _Wfdb(stem, options)
            except UnsupportedFormat:
                return _Whole(read_record(path, **told))
        head, size = read_file(path, max_bytes=1 << 22, root=options.root)
        if is_ishne(head):
            return _Ishne(path, options, size, read_ishne_header(head, size))
        if is_edf(head):
            return _Edf(path, options, size, read_edf_layout(head))
    return _Whole(read_record(source, **told))


@contextmanager
def _named_in_errors(source: object) -> Iterator[None]:
    try:
        yield
    except EcgError as error:
        if error.path is None and isinstance(source, str | os.PathLike):
            error.path = os.fspath(source)
        raise


def _windows(
    source: _Blocks, window_s: float, stride_s: float, named: object
) -> Iterator[tuple[float, EcgRecord]]:
    rate, total = source.rate, source.samples
    length = round(window_s * rate)
    if length < 1 or stride_s * rate < 1.0:
        raise ConfigurationError("a window or stride is shorter than a sample", value=min(window_s, stride_s))
    block = max(length, _BLOCK_VALUES // source.signals)
    held: EcgRecord | None = None
    signal: npt.NDArray[np.float32] | None = None
    first = last = 0
    index = 0
    while True:
        start = round(index * stride_s * rate)
        stop = start + length
        if stop > total and index:
            return
        stop = min(stop, total)
        if held is None or start < first or stop > last:
            first, last = start, min(total, max(stop, start + block))
            held = signal = None  # or two blocks would be in memory
            with _named_in_errors(named):
                held = source.read(first, last)
        signal = held.signal[:, start - first : stop - first]
        if 0 in signal.shape:
            raise SignalError("record has no samples")
        notes = tuple(note for note in held.notes if note.code not in _BLOCK_NOTES)
        yield index * stride_s, replace(held, signal=signal.copy(), notes=notes)
        index += 1
