"""Philips Sierra ECG XML 1.03 and 1.04 (PageWriter, HeartStart, TraceMaster): XLI-compressed waveforms."""

from __future__ import annotations

import struct
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import HeaderError, SignalError, TruncatedSignal, UnsupportedFormat
from ecg_hf.signal.gaps import trailing_zeros
from ecg_hf.signal.io.decoded import StoredLead, digital_from_leads
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.io.xml_tree import base64_bytes, child, child_text, number
from ecg_hf.signal.leads import LIMB_LEADS, STANDARD_LEADS
from ecg_hf.signal.record import Note

__all__ = ["read_philips_sierra"]

_CODE_BITS = 10
_MAX_CODES = 1 << _CODE_BITS
_MIN_PADDING = 10

Counts = npt.NDArray[np.int64]


def read_philips_sierra(root: Element, options: ReadOptions, record_id: str | None) -> DigitalRecord:
    """Read a Sierra file.

    The recorder ends every lead with 50 samples of zero; they are kept, with a note ``zero_padding``.

    Raises:
        EcgError: if the waveforms are not XLI-compressed, or what describes them is missing or garbled.
    """
    waves = child(root, "waveforms/parsedwaveforms")
    traits = child(root, "dataacquisition/signalcharacteristics")
    if (waves.get("compression") or waves.get("compressmethod") or "").upper() != "XLI":
        raise UnsupportedFormat("the waveforms are not compressed by XLI")
    if waves.get("dataencoding", "Base64").lower() != "base64":
        raise UnsupportedFormat("the waveforms are not in Base64")
    rate = number(waves.get("samplespersecond") or child_text(traits, "samplingrate"), "samplingrate")
    step = number(
        waves.get("resolution") or child_text(traits, "resolution") or child_text(traits, "signalresolution"),
        "resolution",
    )
    if number(waves.get("signaloffset") or child_text(traits, "signaloffset") or "0", "signaloffset"):
        raise UnsupportedFormat("the waveforms have an offset")
    milliseconds = number(waves.get("durationperchannel"), "durationperchannel")
    length = round(milliseconds * rate / 1000.0) if 0.0 < milliseconds * rate < 1e13 else 0
    if not 1 < length <= options.max_samples:
        raise SignalError("durationperchannel gives no usable number of samples", value=length)
    labels = (waves.get("leadlabels") or "").split()
    stated = waves.get("numberofleads") or child_text(traits, "numberchannelsvalid") or "0"
    count = int(number(stated, "numberofleads"))
    names = labels or (list(STANDARD_LEADS) if count == len(STANDARD_LEADS) else [])
    if not names or (count and count != len(names)):
        raise HeaderError("the file does not say which leads it holds", value=count)
    rows = _decode(base64_bytes(waves.text, "parsedwaveforms"), len(names), length)
    if tuple(names[:6]) == LIMB_LEADS:
        _restore_limb_leads(rows)
    if min(int(row.min()) for row in rows) < -(2**31) or max(int(row.max()) for row in rows) >= 2**31:
        raise SignalError("the samples do not fit 32 bits")
    notes = []
    padding = trailing_zeros(np.stack(rows))
    if padding >= _MIN_PADDING:
        detail = f"the last {padding} samples of every lead are zero, put there by the recorder"
        notes.append(Note("zero_padding", detail))
    leads = [
        StoredLead(name, row.astype(np.int32), step, "uV") for name, row in zip(names, rows, strict=True)
    ]
    return digital_from_leads(leads, rate, options, record_id=record_id, notes=notes)


def _decode(content: bytes, count: int, length: int) -> list[Counts]:
    """Samples of each lead: chunks with a head of eight bytes (size, unknown, first difference)."""
    rows: list[Counts] = []
    at = 0
    for _ in range(count):
        if at + 8 > len(content):
            raise TruncatedSignal(f"{len(rows)} of {count} leads are there")
        size, _, start = struct.unpack_from("<ihh", content, at)
        at += 8
        if not 0 < size <= len(content) - at:
            raise TruncatedSignal("a lead ends outside the file")
        halves = _lzw(content[at : at + size], 2 * length)
        at += size
        if len(halves) < 2 * length:
            raise TruncatedSignal(f"a lead has {len(halves) // 2} samples of {length}")
        octets = np.frombuffer(halves, np.uint8).astype(np.uint16)
        values = ((octets[:length] << 8) | octets[length : 2 * length]).astype(np.int16)
        rows.append(_undo_differences(values, start))
    return rows


def _lzw(content: bytes, limit: int) -> bytes:
    """Lempel-Ziv-Welch with codes of ten bits, most significant first, whose table fills up and stays."""
    table = [bytes((value,)) for value in range(256)]
    output = bytearray()
    previous = b""
    held = bits = 0
    for octet in content:
        held = (held << 8) | octet
        bits += 8
        if bits < _CODE_BITS:
            continue
        bits -= _CODE_BITS
        code = held >> bits
        held &= (1 << bits) - 1
        if code < len(table):
            entry = table[code]
        elif code == len(table) and previous:
            entry = previous + previous[:1]
        else:
            break  # what follows the last sample fills up the last byte
        output += entry
        if len(output) >= limit:
            break
        if previous and len(table) < _MAX_CODES:
            table.append(previous + entry[:1])
        previous = entry
    return bytes(output[:limit])


def _undo_differences(values: npt.NDArray[np.int16], start: int) -> Counts:
    """Amplitudes from second differences, which are stored 64 too large and one place late."""
    second = -(values[1:-1].astype(np.int64) - 64)
    second[0] = -start
    first = values[:2].astype(np.int64)
    steps = np.concatenate(([first[1] - first[0]], second)).cumsum()
    return np.concatenate(([first[0]], first[0] + steps.cumsum()))


def _halved(values: Counts) -> Counts:
    """Half, rounded toward zero, as the recorders divide."""
    return np.where(values < 0, -(-values // 2), values // 2)


def _restore_limb_leads(rows: list[Counts]) -> None:
    """Replace what III, aVR, aVL and aVF differ by from their sums of I and II by the leads themselves."""
    one, two = rows[0], rows[1]
    rows[2] = two - one - rows[2]
    three = rows[2]
    rows[3] = -rows[3] - _halved(one + two)
    rows[4] = _halved(one - three) - rows[4]
    rows[5] = _halved(two + three) - rows[5]
