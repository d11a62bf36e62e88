"""Recordings and their signal processing: reading, leads, units, resampling, filters, beats. No torch."""

from ecg_hf.signal.io.arrays import digital_from_array, record_from_array, resolve_layout
from ecg_hf.signal.io.digital import DigitalRecord, to_millivolts
from ecg_hf.signal.io.reading import read_digital, read_record
from ecg_hf.signal.leads import (
    LIMB_LEADS,
    STANDARD_LEADS,
    arrange_leads,
    normalize_lead_name,
    normalize_lead_names,
)
from ecg_hf.signal.quality import check_quality
from ecg_hf.signal.record import EcgRecord, Note
from ecg_hf.signal.units import millivolts_per_unit

__all__ = [
    "LIMB_LEADS",
    "STANDARD_LEADS",
    "DigitalRecord",
    "EcgRecord",
    "Note",
    "arrange_leads",
    "check_quality",
    "digital_from_array",
    "millivolts_per_unit",
    "normalize_lead_name",
    "normalize_lead_names",
    "read_digital",
    "read_record",
    "record_from_array",
    "resolve_layout",
    "to_millivolts",
]
