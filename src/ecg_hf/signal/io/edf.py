"""EDF, EDF+ and BDF, decoded by edfio (extra ``clinical``), with the checks that it leaves to its caller."""

from __future__ import annotations

import re
import warnings
from typing import Any, NamedTuple

import numpy as np

from ecg_hf.errors import EcgError, HeaderError, SignalError, TruncatedSignal, UnsupportedFormat
from ecg_hf.signal.io.channels import choose_channels
from ecg_hf.signal.io.decoded import StoredLead, digital_from_leads
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.extras import needed
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.record import Note

__all__ = ["EdfLayout", "edf_signals", "is_edf", "read_edf", "read_edf_layout"]

_BDF_MAGIC = b"\xffBIOSEMI"
_ONSET = re.compile(rb"^([+-]\d+(?:\.\d+)?)(?:\x15[\d.]+)?\x14")
_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)


class EdfLayout(NamedTuple):
    """Sizes that the header states.

    Attributes:
        is_bdf: Whether samples have 24 bits.
        header_bytes: Bytes of the header.
        records: Data records the header states, -1 for "not known".
        seconds: Length of a data record.
        per_record: Samples of each signal in a data record.
        labels: Name of each signal.
        is_discontinuous: Whether the header says EDF+D or BDF+D.
    """

    is_bdf: bool
    header_bytes: int
    records: int
    seconds: float
    per_record: tuple[int, ...]
    labels: tuple[str, ...]
    is_discontinuous: bool

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample."""
        return 3 if self.is_bdf else 2

    @property
    def record_bytes(self) -> int:
        """Bytes of a data record."""
        return sum(self.per_record) * self.sample_bytes


def is_edf(head: bytes) -> bool:
    """Whether a file begins as an EDF or BDF file does."""
    return head.startswith((b"0       ", _BDF_MAGIC))


def read_edf_layout(content: bytes) -> EdfLayout:
    """Sizes of a file whose header is in ``content``; the fields of the person are never looked at.

    Raises:
        HeaderError: if a size is garbled or absurd.
        TruncatedSignal: if the file ends within its header.
    """
    if len(content) < 256:
        raise TruncatedSignal("the file ends within its header", value=len(content))
    header, records, count = (_whole(content, at, width) for at, width in ((184, 8), (236, 8), (252, 4)))
    try:
        seconds = float(content[244:252])
    except ValueError:
        raise HeaderError("the length of a data record is not a number") from None
    if count < 1 or header != 256 * (count + 1) or records < -1 or not 0.0 <= seconds < 1e9:
        raise HeaderError("the header's sizes contradict each other", value=count)
    if len(content) < header:
        raise TruncatedSignal("the file ends within its header", value=len(content))
    start = 256 + count * sum(_FIELDS[:8])
    per_record = tuple(_whole(content, start + 8 * row, 8) for row in range(count))
    if min(per_record) < 0 or sum(per_record) == 0:
        raise HeaderError("a signal has a negative number of samples", value=min(per_record))
    labels = tuple(content[256 + 16 * row : 272 + 16 * row].decode("latin-1").strip() for row in range(count))
    return EdfLayout(
        content.startswith(_BDF_MAGIC), header, records, seconds, per_record, labels,
        content[192:197] in (b"EDF+D", b"BDF+D"),
    )  # fmt: skip


def _whole(content: bytes, at: int, width: int) -> int:
    try:
        return int(content[at : at + width])
    except ValueError:
        raise HeaderError("a number in the header is garbled", value=at) from None


def read_edf(content: bytes, options: ReadOptions, record_id: str | None) -> DigitalRecord:
    """Read an EDF, EDF+ or BDF file.

    Raises:
        MetadataMissing: if edfio is not installed.
        SignalError: if the recording has gaps (EDF+D).
        TruncatedSignal: if the file holds fewer data records than its header says.
        EcgError: if something else is missing, garbled or contradicts the caller.
    """
    edfio = needed("edfio", "clinical", "EDF and BDF files")
    layout = read_edf_layout(content)
    held = (len(content) - layout.header_bytes) // layout.record_bytes
    rest = (len(content) - layout.header_bytes) % layout.record_bytes
    notes = []
    if layout.records == -1:
        notes.append(
            Note("length_assumed", f"the header does not say how many data records there are: {held}")
        )
    elif held < layout.records:
        raise TruncatedSignal(f"{held} data records are there, the header says {layout.records}", value=held)
    if rest or (layout.records != -1 and held > layout.records):
        notes.append(Note("trailing_bytes", "bytes after the last data record were left out"))
    records = held if layout.records == -1 else layout.records
    if records == 0:
        raise SignalError("the file has no data records")
    content = content[: layout.header_bytes + records * layout.record_bytes]
    _refuse_gaps(content, layout, records)
    stored = edf_signals(edfio, content, layout, records, options)
    return digital_from_leads(stored, None, options, record_id=record_id, notes=notes)


def edf_signals(
    edfio: Any, content: bytes, layout: EdfLayout, records: int, options: ReadOptions
) -> list[StoredLead]:
    """The signals of a file that was checked, annotations left out.

    Raises:
        EcgError: for whatever edfio can't read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = edfio.read_bdf if layout.is_bdf else edfio.read_edf
            file = read(content, header_encoding="latin-1")
            signals = [signal for signal in file.signals if signal.samples_per_data_record > 0]
            traits = [(signal.label.strip(), signal.physical_dimension.strip(), signal) for signal in signals]
            wanted = choose_channels(
                [label for label, _, _ in traits],
                [unit or None for _, unit, _ in traits],
                lead_names=options.lead_names,
                leads=options.leads,
                unit=options.unit,
            ).rows
            # The samples of signals that are left out are never taken apart.
            return [
                _stored(label, unit, signal, layout.seconds, records, row in wanted)
                for row, (label, unit, signal) in enumerate(traits)
            ]
    except EcgError:
        raise
    # edfio raises ValueError, KeyError, UnboundLocalError and others for garbled headers.
    except Exception as error:
        raise UnsupportedFormat(f"the EDF file is damaged ({type(error).__name__})") from None


def _stored(label: str, unit: str, signal: Any, seconds: float, records: int, is_wanted: bool) -> StoredLead:
    if seconds <= 0.0:
        raise HeaderError("data records have no length")
    low, high = float(signal.physical_min), float(signal.physical_max)
    first, last = int(signal.digital_min), int(signal.digital_max)
    if is_wanted and (first >= last or low == high):
        raise HeaderError("physical or digital range of a signal is empty", lead=label)
    scale = (high - low) / (last - first) if first != last else 1.0
    counts = signal.digital if is_wanted else np.zeros(0, dtype=np.int16)
    if is_wanted and len(counts) != signal.samples_per_data_record * records:
        raise TruncatedSignal("a signal has fewer samples than its data records", lead=label)
    # edfio clips nothing; samples outside the digital range are passed on as they are.
    return StoredLead(
        label or None,
        np.asarray(counts),
        scale,
        unit or None,
        low - first * scale,
        signal.samples_per_data_record / seconds,
    )


def _refuse_gaps(content: bytes, layout: EdfLayout, records: int) -> None:
    """Compare the onset that each data record of an EDF+ file states with the end of the one before.

    Raises:
        SignalError: if there is a gap; names the first.
        HeaderError: if a file that calls itself discontinuous states no onsets.
    """
    name = "BDF Annotations" if layout.is_bdf else "EDF Annotations"
    if name not in layout.labels:
        if layout.is_discontinuous:
            raise HeaderError("the file calls itself discontinuous and has no onsets of its data records")
        return
    row = layout.labels.index(name)
    start = layout.header_bytes + sum(layout.per_record[:row]) * layout.sample_bytes
    width = layout.per_record[row] * layout.sample_bytes
    expected = None
    for index in range(records):
        at = start + index * layout.record_bytes
        match = _ONSET.match(content[at : at + width])
        if match is None:
            if layout.is_discontinuous:
                raise HeaderError(f"data record {index + 1} states no onset", value=index)
            return
        onset = float(match[1])
        if expected is not None and abs(onset - expected) > 1e-4 + 1e-9 * abs(onset):
            raise SignalError(
                f"the recording has a gap: data record {index + 1} begins at {onset:g} s and not at {expected:g} s; "
                "read its parts as files of their own",
                value=onset,
            )
        expected = onset + layout.seconds
