"""GE MUSE XML (``RestingECG``): the rhythm waveform; the median beat comes first under the same lead names."""

from __future__ import annotations

import zlib
from xml.etree.ElementTree import Element

import numpy as np

from ecg_hf.errors import ChecksumMismatch, HeaderError, SignalError, TruncatedSignal, UnsupportedFormat
from ecg_hf.signal.io.decoded import StoredLead, digital_from_leads
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.io.xml_tree import base64_bytes, child_text, number
from ecg_hf.signal.leads import normalize_lead_name
from ecg_hf.signal.record import Note

__all__ = ["read_ge_muse"]

_UNITS = {"MICROVOLTS": "uV", "MILLIVOLTS": "mV", "NANOVOLTS": "nV", "VOLTS": "V"}


def read_ge_muse(root: Element, options: ReadOptions, record_id: str | None) -> DigitalRecord:
    """Read a MUSE export: int16 little endian in Base64, rate base x 10^exponent, a CRC32 per lead.

    Raises:
        ChecksumMismatch: if a lead's bytes do not have the CRC stated (``verify_checksum``).
        EcgError: if there is no rhythm waveform, or something else is missing or garbled.
    """
    waveforms = [
        found for found in root.iter("Waveform") if child_text(found, "WaveformType").lower() != "median"
    ]
    if not waveforms:
        raise SignalError("the file holds no rhythm waveform")
    waveform = max(waveforms, key=lambda found: sum(len(t.text or "") for t in found.iter("WaveFormData")))
    exponent = number(child_text(waveform, "SampleExponent") or "0", "SampleExponent")
    if abs(exponent) > 12:
        raise HeaderError("SampleExponent is absurd", value=exponent)
    rate = number(child_text(waveform, "SampleBase"), "SampleBase") * 10.0**exponent
    notes = []
    if len(waveforms) > 1:
        notes.append(Note("series_left_out", f"{len(waveforms) - 1} further waveforms"))
    leads, starts = [], set()
    for data in waveform.iter("LeadData"):
        leads.append(_lead(data, options.verify_checksum))
        starts.add(
            (child_text(data, "LeadTimeOffset") or "0", child_text(data, "LeadOffsetFirstSample") or "0")
        )
        if child_text(data, "LeadOff").upper() == "TRUE":
            notes.append(Note("lead_off", "the recorder says that the electrode was off",
                              normalize_lead_name(leads[-1].name or "")))  # fmt: skip
    if not leads:
        raise SignalError("the rhythm waveform has no leads")
    if len(starts) > 1:
        raise UnsupportedFormat("the leads of the rhythm waveform begin at different times")
    return digital_from_leads(leads, rate, options, record_id=record_id, notes=notes)


def _lead(data: Element, verify: bool) -> StoredLead:
    name = child_text(data, "LeadID")
    size = child_text(data, "LeadSampleSize") or "2"
    if size != "2":
        raise UnsupportedFormat("samples are not of two bytes")
    content = base64_bytes(data.findtext("WaveFormData"), "WaveFormData")
    stated = child_text(data, "LeadDataCRC32")
    if verify and stated and number(stated, "LeadDataCRC32") != zlib.crc32(content):
        raise ChecksumMismatch("the samples do not have the CRC that the file states", lead=name or None)
    count = child_text(data, "LeadSampleCountTotal")
    expected = int(number(count, "LeadSampleCountTotal")) if count else len(content) // 2
    if len(content) != expected * 2:
        raise TruncatedSignal(f"{len(content)} bytes for {expected} samples of two", lead=name or None)
    unit = child_text(data, "LeadAmplitudeUnits").upper()
    if unit and unit not in _UNITS:
        raise HeaderError("LeadAmplitudeUnits is not a voltage", lead=name or None)
    step = number(child_text(data, "LeadAmplitudeUnitsPerBit"), "LeadAmplitudeUnitsPerBit")
    return StoredLead(name or None, np.frombuffer(content, "<i2").astype(np.int16), step, _UNITS.get(unit))
