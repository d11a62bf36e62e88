"""Mortara ELI XML: the channels beside, and not inside, the typical cycle."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import numpy as np

from ecg_hf.errors import HeaderError, SignalError, TruncatedSignal, UnsupportedFormat
from ecg_hf.signal.io.decoded import StoredLead, digital_from_leads
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.io.xml_tree import base64_bytes, number

__all__ = ["read_mortara"]

_TYPES = {("16", "SIGNED"): "<i2", ("16", "UNSIGNED"): "<u2", ("32", "SIGNED"): "<i4"}


def read_mortara(root: Element, options: ReadOptions, record_id: str | None) -> DigitalRecord:
    """Read an ELI export.

    Raises:
        EcgError: if there are no channels, their rates or offsets differ, or samples are missing or garbled.
    """
    if not root.findall("CHANNEL") and root.find("TYPICAL_CYCLE") is None:
        raise UnsupportedFormat("the XML has an element ECG and is not an ELI export")
    leads = []
    offsets, rates = set(), set()
    for channel in root.findall("CHANNEL"):
        kind = _TYPES.get((channel.get("BITS", "16"), channel.get("FORMAT", "SIGNED").upper()))
        if kind is None or channel.get("ENCODING", "BASE64").upper() != "BASE64":
            raise UnsupportedFormat("samples are not 16 or 32 bit integers in Base64")
        content = base64_bytes(channel.get("DATA"), "DATA")
        if len(content) % np.dtype(kind).itemsize:
            raise TruncatedSignal("DATA ends within a sample")
        counts = np.frombuffer(content, kind)
        stated = channel.get("DURATION")
        if stated and number(stated, "DURATION") != len(counts):
            raise TruncatedSignal(f"{len(counts)} samples, DURATION says {float(stated):g}")
        per_millivolt = number(channel.get("UNITS_PER_MV"), "UNITS_PER_MV")
        if per_millivolt <= 0.0:
            raise HeaderError("UNITS_PER_MV is not positive", value=per_millivolt)
        rates.add(number(channel.get("SAMPLE_FREQ"), "SAMPLE_FREQ"))
        offsets.add(channel.get("OFFSET", "0"))
        leads.append(StoredLead(channel.get("NAME"), counts.astype(np.int32), 1.0 / per_millivolt, "mV"))
    if not leads:
        raise SignalError("the file holds no channels beside the typical cycle")
    if len(offsets) > 1:
        raise UnsupportedFormat("the channels begin at different times")
    if len(rates) > 1:
        raise UnsupportedFormat("the channels have different sampling rates")
    return digital_from_leads(leads, rates.pop(), options, record_id=record_id)
