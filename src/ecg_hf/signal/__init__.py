"""Recordings and their signal processing: reading, leads, units, resampling, filters, beats. No torch."""

from typing import TYPE_CHECKING

from ecg_hf.lazy import lazy_names

if TYPE_CHECKING:
    from ecg_hf.signal.io.arrays import digital_from_array, record_from_array, resolve_layout
    from ecg_hf.signal.io.digital import DigitalRecord, to_millivolts
    from ecg_hf.signal.io.read_many import read_records
    from ecg_hf.signal.io.reading import read_digital, read_record
    from ecg_hf.signal.io.windows import iter_windows
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
    "iter_windows",
    "millivolts_per_unit",
    "normalize_lead_name",
    "normalize_lead_names",
    "read_digital",
    "read_record",
    "read_records",
    "record_from_array",
    "resolve_layout",
    "to_millivolts",
]

# Loaded on first use: the readers need scipy, which takes seconds to import, and ``import ecg_hf`` needs lead names.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".io.arrays": ("digital_from_array", "record_from_array", "resolve_layout"),
        ".io.digital": ("DigitalRecord", "to_millivolts"),
        ".io.read_many": ("read_records",),
        ".io.reading": ("read_digital", "read_record"),
        ".io.windows": ("iter_windows",),
        ".leads": (
            "LIMB_LEADS",
            "STANDARD_LEADS",
            "arrange_leads",
            "normalize_lead_name",
            "normalize_lead_names",
        ),
        ".quality": ("check_quality",),
        ".record": ("EcgRecord", "Note"),
        ".units": ("millivolts_per_unit",),
    },
)
