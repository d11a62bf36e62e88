"""Records that the ``wfdb`` package holds in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecg_hf.errors import MetadataMissing, SignalError, UnsupportedFormat
from ecg_hf.signal.io.decoded import StoredLead, digital_from_leads
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.options import ReadOptions

__all__ = ["is_wfdb_record", "read_wfdb_record"]


def is_wfdb_record(value: object) -> bool:
    """Whether a value is a ``wfdb.Record`` or ``wfdb.MultiRecord``, found without importing ``wfdb``."""
    return any(kind.__module__.partition(".")[0] == "wfdb" for kind in type(value).__mro__)


def read_wfdb_record(record: Any, options: ReadOptions, *, may_be_missing: bool = False) -> DigitalRecord:
    """The recording of a ``wfdb.Record``: its digital samples where it has them, else the physical ones.

    Raises:
        UnsupportedFormat: for records of several segments.
        EcgError: if it has no samples, or they do not fit its names, gains or units.
    """
    if hasattr(record, "segments"):
        raise UnsupportedFormat("a wfdb.MultiRecord is not read: use wfdb.rdrecord(..., m2s=True)")
    digital, physical = getattr(record, "d_signal", None), getattr(record, "p_signal", None)
    if digital is None and physical is None:
        raise SignalError(
            "the wfdb.Record has neither d_signal nor p_signal (smooth_frames=False is not read)"
        )
    values = np.asarray(physical if digital is None else digital)
    names, units = record.sig_name, record.units
    count = values.shape[1] if values.ndim == 2 else 0
    if not count or names is None or len(names) != count or units is None or len(units) != count:
        raise MetadataMissing("the wfdb.Record does not name its signals and their units")
    rate = None if record.fs is None else float(record.fs)
    record_id = None if record.record_name is None else str(record.record_name)
    if digital is None:
        leads = [StoredLead(names[row], values[:, row], 1.0, units[row]) for row in range(count)]
        return digital_from_leads(leads, rate, options, record_id=record_id, may_be_missing=may_be_missing)
    gains, baselines = record.adc_gain, record.baseline
    if gains is None or baselines is None or not all(gains):
        raise MetadataMissing("the wfdb.Record has d_signal and no adc_gain or baseline")
    leads = []
    for row in range(count):
        column = values[:, row].astype(np.float64)
        # The lowest value of a format is its "no sample".
        lowest = {"16": -32768, "212": -2048, "24": -(2**23), "32": -(2**31)}.get(
            (record.fmt or [""] * count)[row]
        )
        counts: Any = values[:, row]
        if lowest is not None and (counts == lowest).any():
            column[counts == lowest] = np.nan
            counts = column
        leads.append(
            StoredLead(names[row], counts, 1.0 / gains[row], units[row], -baselines[row] / gains[row])
        )
    return digital_from_leads(leads, rate, options, record_id=record_id, may_be_missing=may_be_missing)
