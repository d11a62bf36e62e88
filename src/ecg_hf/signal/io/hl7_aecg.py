"""HL7 annotated ECG (FDA): the rhythm series; representative beats are derived and not the recording."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from ecg_hf.errors import HeaderError, MetadataMissing, SignalError
from ecg_hf.signal.io.decoded import StoredLead, digital_from_leads, rate_of_interval
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.io.xml_tree import number, numbers
from ecg_hf.signal.record import Note
from ecg_hf.signal.units import millivolts_per_unit

__all__ = ["read_hl7_aecg"]

_SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "ns": 1e-9}


def read_hl7_aecg(root: Element, options: ReadOptions, record_id: str | None) -> DigitalRecord:
    """Read an ``AnnotatedECG``.

    Of several rhythm series or sequence sets the one with most samples is the recording; others are noted. A derived
    series repeats the lead codes for a median beat and is never read.

    Raises:
        EcgError: if there is no rhythm series, or rate, unit or samples are missing or garbled.
    """
    series = [item for item in root.iter("series") if _code(item) != "REPRESENTATIVE_BEAT"]
    sets = [found for item in series for found in item.iter("sequenceSet") if not _is_derived(item, found)]
    if not sets:
        raise SignalError("the file holds no rhythm series")
    decoded = [(rate, notes, leads) for rate, notes, leads in map(_decode, sets) if leads]
    if not decoded:
        raise SignalError("the rhythm series holds no samples")
    rate, notes, leads = max(decoded, key=lambda found: max(len(lead.counts) for lead in found[2]))
    if len(decoded) > 1:
        notes = (*notes, Note("series_left_out", f"{len(decoded) - 1} further or shorter sets of sequences"))
    return digital_from_leads(leads, rate, options, record_id=record_id, notes=notes)


def _code(element: Element) -> str:
    found = element.find("code")
    return "" if found is None else found.get("code", "").upper()


def _is_derived(series: Element, wanted: Element) -> bool:
    """Whether a sequence set lies in a derived series inside ``series``."""
    return any(
        wanted is found for derived in series.iter("derivedSeries") for found in derived.iter("sequenceSet")
    )


def _decode(sequence_set: Element) -> tuple[float | None, tuple[Note, ...], list[StoredLead]]:
    rate: float | None = None
    notes: tuple[Note, ...] = ()
    leads = []
    for sequence in sequence_set.iter("sequence"):
        code, value = _code(sequence), sequence.find("value")
        if value is None:
            continue
        increment = value.find("increment")
        if code.startswith("TIME_"):
            if increment is None:
                continue
            unit = increment.get("unit", "s")
            if unit not in _SECONDS:
                raise HeaderError("the unit of the time increment is not s, ms, us or ns")
            rate, notes = rate_of_interval(increment.get("value", ""), _SECONDS[unit])
        elif value.find("digits") is not None:
            leads.append(_lead(code, value))
    return rate, notes, leads


def _lead(code: str, value: Element) -> StoredLead:
    scale, origin = value.find("scale"), value.find("origin")
    unit = None if scale is None else scale.get("unit")
    step = 1.0 if scale is None else number(scale.get("value"), "scale")
    offset = 0.0
    if origin is not None and number(origin.get("value", "0"), "origin"):
        offset = number(origin.get("value", "0"), "origin")
        origin_unit = origin.get("unit", unit)
        if unit is None or origin_unit is None:
            raise MetadataMissing("a sequence has an origin without a unit")
        offset *= millivolts_per_unit(origin_unit) / millivolts_per_unit(unit)
    return StoredLead(code or None, numbers(value.findtext("digits"), "digits"), step, unit, offset)
