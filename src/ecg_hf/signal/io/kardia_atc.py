"""AliveCor Kardia ATC files: blocks with a length and a checksum each."""

from __future__ import annotations

import struct

import numpy as np

from ecg_hf.errors import ChecksumMismatch, HeaderError, SignalError, TruncatedSignal
from ecg_hf.signal.io.decoded import StoredLead, digital_from_leads
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.options import ReadOptions

__all__ = ["is_kardia_atc", "read_kardia_atc"]

_MAGIC = b"ALIVE\0\0\0"
_FIRST_BLOCK = 12
# The blocks of averaged beats ("avg ", "avg2" ...) hold no recording and are passed over.
_LEADS = dict(zip((b"ecg ", b"ecg2", b"ecg3", b"ecg4", b"ecg5", b"ecg6"),
                  ("I", "II", "III", "aVR", "aVL", "aVF"), strict=True))  # fmt: skip


def is_kardia_atc(head: bytes) -> bool:
    """Whether a file begins as an ATC file does."""
    return head.startswith(_MAGIC)


def read_kardia_atc(content: bytes, options: ReadOptions, record_id: str | None) -> DigitalRecord:
    """Read a Kardia recording of one or six leads.

    Raises:
        ChecksumMismatch: if a block's bytes do not add up to its checksum (``verify_checksum``).
        EcgError: if a block is cut short, or format or samples are missing.
    """
    blocks: dict[bytes, bytes] = {}
    at = _FIRST_BLOCK
    while at < len(content):
        if at + 8 > len(content):
            raise TruncatedSignal("the file ends within the head of a block")
        name, length = content[at : at + 4], struct.unpack_from("<I", content, at + 4)[0]
        end = at + 8 + length
        if end + 4 > len(content):
            raise TruncatedSignal("the file ends within a block", value=len(content))
        if (
            options.verify_checksum
            and sum(content[at:end]) % 2**32 != struct.unpack_from("<I", content, end)[0]
        ):
            raise ChecksumMismatch("the bytes of a block do not add up to its checksum")
        if name in blocks:
            raise HeaderError("a block occurs twice")
        if name == b"fmt " or name in _LEADS:
            blocks[name] = content[at + 8 : end]
        at = end + 4
    if len(blocks.get(b"fmt ", b"")) < 6:
        raise HeaderError("the file has no block that states rate and resolution")
    _, rate, resolution = struct.unpack_from("<BHH", blocks[b"fmt "])
    leads = [
        StoredLead(lead, np.frombuffer(blocks[name], "<i2").astype(np.int16), resolution, "nV")
        for name, lead in _LEADS.items()
        if name in blocks and len(blocks[name]) % 2 == 0
    ]
    if len(leads) != len(blocks) - 1:
        raise TruncatedSignal("a block ends within a sample")
    if not leads:
        raise SignalError("the file holds no ECG block")
    return digital_from_leads(leads, float(rate), options, record_id=record_id)
