"""ISHNE Holter files (standard of 1998): interleaved int16, a resolution per lead."""

from __future__ import annotations

import binascii
import struct
from typing import NamedTuple

import numpy as np

from ecg_hf.errors import HeaderError, TruncatedSignal
from ecg_hf.signal.io.decoded import StoredLead, digital_from_leads
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.record import Note

__all__ = ["INVALID", "IshneHeader", "is_ishne", "read_ishne", "read_ishne_header"]

INVALID = -32768
_MAGIC = b"ISHNE1.0"
_FIXED_END = 522
_NAMES = {
    2: "X", 3: "Y", 4: "Z", 5: "I", 6: "II", 7: "III", 8: "aVR", 9: "aVL", 10: "aVF",
    **{10 + number: f"V{number}" for number in range(1, 7)}, 17: "ES", 18: "AS", 19: "AI",
}  # fmt: skip


class IshneHeader(NamedTuple):
    """What is needed of the header; the person's fields are never looked at.

    Attributes:
        names: Name of each lead, None where the code says none.
        resolutions: Nanovolts per count of each lead.
        sampling_rate: Hertz.
        samples: Samples per lead.
        data_start: Byte at which the samples begin.
        crc_is_right: Whether the header's CRC fits, None where it is 0.
    """

    names: tuple[str | None, ...]
    resolutions: tuple[int, ...]
    sampling_rate: float
    samples: int
    data_start: int
    crc_is_right: bool | None


def is_ishne(head: bytes) -> bool:
    """Whether a file begins as an ISHNE ECG does."""
    return head.startswith(_MAGIC)


def read_ishne_header(head: bytes, size: int) -> IshneHeader:
    """The header of a file of ``size`` bytes, of which ``head`` are the first.

    Raises:
        HeaderError: if a field is absurd.
        TruncatedSignal: if the file is shorter than the header says.
    """
    if len(head) < _FIXED_END:
        raise TruncatedSignal("the file ends within its header", value=size)
    (crc,) = struct.unpack_from("<H", head, 8)
    _, count, _, start = struct.unpack_from("<iiii", head, 10)
    (leads,) = struct.unpack_from("<h", head, 156)
    (rate,) = struct.unpack_from("<h", head, 272)
    if not 1 <= leads <= 12:
        raise HeaderError(f"an ISHNE file has 1 to 12 leads, this one says {leads}", value=leads)
    if rate <= 0:
        raise HeaderError("the sampling rate is not positive", value=rate)
    if not _FIXED_END <= start <= size or count < 0:
        raise HeaderError("the samples begin outside the file", value=start)
    codes = struct.unpack_from("<12h", head, 158)[:leads]
    resolutions = struct.unpack_from("<12h", head, 206)[:leads]
    if min(resolutions) <= 0:
        raise HeaderError("the resolution of a lead is not positive", value=resolutions)
    held = (size - start) // (2 * leads)
    # Some writers count the samples of all leads together, as the standard can be read too.
    samples = count if count <= held or count % leads or count // leads != held else count // leads
    if samples > held:
        raise TruncatedSignal(f"{held} samples of each lead are there, the header says {samples}", value=held)
    right = binascii.crc_hqx(head[10:start], 0xFFFF) == crc if crc and start <= len(head) else None
    return IshneHeader(
        tuple(_NAMES.get(code) for code in codes), resolutions, float(rate), samples or held, start, right
    )


def read_ishne(content: bytes, options: ReadOptions, record_id: str | None) -> DigitalRecord:
    """Read a Holter recording; ``-32768`` is no sample.

    Raises:
        EcgError: if the header is absurd, contradicts the caller or the file is cut short.
    """
    header = read_ishne_header(content, len(content))
    leads = len(header.names)
    counts = np.frombuffer(content, "<i2", header.samples * leads, header.data_start).reshape(-1, leads)
    notes = []
    if header.crc_is_right is False:
        notes.append(Note("header_checksum_mismatch", "the header's CRC does not fit its bytes"))
    stored = [
        StoredLead(name, np.ascontiguousarray(counts[:, row], dtype=np.int16), resolution, "nV")
        for row, (name, resolution) in enumerate(zip(header.names, header.resolutions, strict=True))
    ]
    return digital_from_leads(
        stored, header.sampling_rate, options, record_id=record_id, notes=notes, invalid=INVALID
    )
