"""Electrocardiograms that Apple Health exports as CSV: lines of keys in the user's language, then one lead."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from ecg_hf.errors import SamplingRateError, SignalError, UnsupportedFormat
from ecg_hf.signal.io.decoded import StoredLead, digital_from_leads
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.leads import STANDARD_LEADS, normalize_lead_name
from ecg_hf.signal.units import is_voltage

__all__ = ["is_apple_health", "read_apple_health"]

_HEAD_LINES = 40
# "512 hertz" in any language: a number and a word; dates have digits after their words.
_RATE = re.compile(r"\s*(\d{2,4}(?:[.,]\d+)?)\s*([^\W\d_][^\d]*)\s*")
_LEAD_WORD = re.compile(r"(?<![A-Za-z0-9])(III|II|I|aV[RLF]|V[1-6])(?![A-Za-z0-9])", re.I)


class _Head(NamedTuple):
    """What the lines of keys say; those of the person are passed over."""

    rate: float
    lead: str | None
    unit: str
    first: int


def is_apple_health(lines: list[str]) -> bool:
    """Whether a text is such an export: keys and values, among them a rate and a unit, then a number a line."""
    return _head(lines) is not None


def _head(lines: list[str]) -> _Head | None:
    rates, lead, unit = [], None, None
    keys = 0
    for at, line in enumerate(lines[:_HEAD_LINES]):
        text = line.strip()
        if not text:
            continue
        key, comma, value = text.partition(",")
        if _is_number(text):
            if unit is None or keys < 4 or not rates:
                return None
            return _Head(rates[0], lead, unit, at)
        if not comma or _is_number(key):
            return None
        keys += 1
        value = value.strip().strip('"').strip()
        match = _RATE.fullmatch(value)
        if match and not is_voltage(value):
            rates.append(float(match[1].replace(",", ".")))
        if is_voltage(value):
            unit = value
        elif unit is None:
            lead = value
    return None


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def read_apple_health(lines: list[str], options: ReadOptions, record_id: str | None) -> DigitalRecord:
    """Read the one lead of an export, with decimal point or comma.

    Raises:
        EcgError: if a line is not a number, or the caller contradicts the file.
    """
    head = _head(lines)
    if head is None:
        raise UnsupportedFormat("this is not an electrocardiogram exported by Apple Health")
    if not 25.0 <= head.rate <= 20_000.0:
        raise SamplingRateError("the sampling rate is not that of an ECG", value=head.rate)
    # "Lead I", "Ableitung I": the last word that is a lead.
    named = _LEAD_WORD.findall(head.lead or "")
    lead = normalize_lead_name(named[-1]) if named else None
    cells = [line.strip().replace(",", ".") for line in lines[head.first :] if line.strip()]
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        raise SignalError("a line below the head is not a number") from None
    stored = StoredLead(lead if lead in STANDARD_LEADS else None, values, 1.0, head.unit)
    return digital_from_leads([stored], head.rate, options, record_id=record_id)
