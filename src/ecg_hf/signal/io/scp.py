"""SCP-ECG (EN 1064), decoded by ecgdatakit (extra ``scp``); personal sections are taken out beforehand."""

from __future__ import annotations

import struct
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ecg_hf.errors import EcgError, HeaderError, SignalError, TruncatedSignal, UnsupportedFormat
from ecg_hf.signal.io.decoded import StoredLead, digital_from_leads
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.extras import needed
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.record import Note

__all__ = ["is_scp", "read_scp"]

_SIGNAL_SECTIONS = (2, 3, 4, 5, 6)
_SECTION_HEAD = 16


def is_scp(head: bytes) -> bool:
    """Whether a file begins with a section 0 whose first pointer is to itself."""
    if len(head) < 32 or head[8:10] != b"\0\0":
        return False
    (length,) = struct.unpack_from("<I", head, 10)
    return 26 <= length < 65536 and head[22:24] == b"\0\0" and head[24:28] == head[10:14]


def read_scp(content: bytes, options: ReadOptions, record_id: str | None) -> DigitalRecord:
    """Read the rhythm data of a SCP-ECG file.

    Raises:
        MetadataMissing: if ecgdatakit is not installed.
        EcgError: if the file is cut short or does not follow the standard.
    """
    module = needed("ecgdatakit.parsing.parsers.scp_ecg", "scp", "SCP-ECG files")
    anonymous, sections, notes = _without_person(content)
    record = _parsed(module, anonymous, sections)
    (step, interval) = struct.unpack_from("<HH", anonymous, sections[6][0] + _SECTION_HEAD)
    if not step or not interval:
        raise HeaderError("resolution or sampling interval of the rhythm data is zero")
    leads = []
    for lead in record.leads:
        samples = np.asarray(lead.samples)
        if np.abs(samples).max(initial=0.0) >= 2**31 or not np.isfinite(samples).all():
            raise SignalError("the samples do not fit 32 bits")
        # ecgdatakit's counts may be finer than the file's: it says by how much.
        nanovolts = float(lead.resolution) * 1000.0 if lead.resolution_unit == "uV" else float(step)
        leads.append(StoredLead(lead.label or None, np.rint(samples).astype(np.int32), nanovolts, "nV"))
    return digital_from_leads(leads, 1e6 / interval, options, record_id=record_id, notes=notes)


def _without_person(content: bytes) -> tuple[bytearray, dict[int, tuple[int, int]], list[Note]]:
    """A copy whose sections of person and text are zeros and not pointed to, and where its other sections are.

    Raises:
        UnsupportedFormat: if the pointers do not lead to the sections that the standard wants.
    """
    size, length = struct.unpack_from("<I", content, 2)[0], struct.unpack_from("<I", content, 10)[0]
    if not 6 + length <= size <= len(content):
        raise TruncatedSignal(
            f"the file has {len(content)} bytes, its header says {size}", value=len(content)
        )
    copy = bytearray(content[:size])
    copy[:] = bytes(size)
    copy[: 6 + length] = content[: 6 + length]
    sections: dict[int, tuple[int, int]] = {}
    for at in range(6 + _SECTION_HEAD, 6 + length - 9, 10):
        section, extent, index = struct.unpack_from("<HII", content, at)
        if section not in _SIGNAL_SECTIONS or not extent:
            copy[at + 2 : at + 6] = bytes(4) if section else copy[at + 2 : at + 6]
            continue
        start = index - 1
        if index < 1 or extent < _SECTION_HEAD or start + extent > size:
            raise UnsupportedFormat("a section lies outside the file: this is not a SCP-ECG file of EN 1064")
        if struct.unpack_from("<H", content, start + 2)[0] != section:
            raise UnsupportedFormat(
                "the pointers do not lead to the sections: this is not SCP-ECG of EN 1064"
            )
        copy[start : start + extent] = content[start : start + extent]
        sections[section] = (start, extent)
    if 3 not in sections or 6 not in sections:
        raise UnsupportedFormat("the file holds no definition of leads or no rhythm data")
    return copy, sections, _repaired_leads(copy, sections)


def _repaired_leads(copy: bytearray, sections: dict[int, tuple[int, int]]) -> list[Note]:
    """Lead definitions that count from 0 rewritten to count from 1.

    Raises:
        HeaderError: if the samples of a lead are more than its bytes can hold.
    """
    start, extent = sections[3]
    body = start + _SECTION_HEAD
    count = copy[body] if extent > _SECTION_HEAD else 0
    rhythm, rhythm_extent = sections[6]
    if extent < _SECTION_HEAD + 2 + 9 * count or rhythm_extent < _SECTION_HEAD + 6 + 2 * count or not count:
        raise HeaderError("the definition of leads is cut short")
    repaired = 0
    for row in range(count):
        at = body + 2 + 9 * row
        first, last = struct.unpack_from("<II", copy, at)
        (held,) = struct.unpack_from("<H", copy, rhythm + _SECTION_HEAD + 6 + 2 * row)
        if first == 0 and last < 2**32 - 1:
            # Counted from 0, the last is one too small, unless it is the number of samples already.
            last += (2 not in sections and 2 * (last + 1) <= held) or (2 in sections and last % 10 == 9)
            struct.pack_into("<II", copy, at, 1, last)
            first = 1
            repaired += 1
        # No code of a sample is shorter than a bit.
        if last < first or last - first + 1 > 8 * held:
            raise HeaderError("a lead has more samples than its bytes can hold", value=last)
    if not repaired:
        return []
    return [Note("lead_start_assumed", f"{repaired} leads count their samples from 0 instead of 1")]


def _parsed(module: Any, content: bytes | bytearray, sections: dict[int, tuple[int, int]]) -> Any:
    # ecgdatakit reads paths only. What is written holds no person, and nobody else may read it.
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "recording.scp"
        path.write_bytes(content)
        try:
            return module.SCPECGParser().parse(path)
        except EcgError:
            raise
        # Its own errors and those of numpy and struct.
        except Exception as error:
            raise UnsupportedFormat(
                f"the SCP-ECG file is damaged or not EN 1064 ({type(error).__name__})"
            ) from None
