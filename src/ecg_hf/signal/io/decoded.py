"""From the leads of a container file to a recording: names, units and rates compared with what the caller says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import HeaderError, MetadataMissing, NonFiniteSignal, SamplingRateError, SignalError
from ecg_hf.signal.io.channels import choose_channels, stated_unit
from ecg_hf.signal.io.digital import DigitalRecord, Samples
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.record import Note
from ecg_hf.signal.resampling import resample
from ecg_hf.signal.units import checked_sampling_rate, millivolts_per_unit

__all__ = ["StoredLead", "agreed_rate", "digital_from_leads", "rate_of_interval"]

# A rate this near a whole number is that number, if the file's digits don't tell the two apart.
_NEAR = 1e-3


class StoredLead(NamedTuple):
    """One signal of a file.

    Attributes:
        name: As the file spells it, None where it has none.
        counts: Stored values, ``(samples,)``; integers, or floats with NaN for "no sample".
        scale: One count in ``unit``.
        unit: Unit of ``scale`` and ``offset``, None where the file states none.
        offset: Value of count 0 in ``unit``.
        rate: Samples per second where it differs from lead to lead.
    """

    name: str | None
    counts: npt.NDArray[Any]
    scale: float
    unit: str | None
    offset: float = 0.0
    rate: float | None = None


def digital_from_leads(
    leads: Sequence[StoredLead],
    rate: float | None,
    options: ReadOptions,
    *,
    record_id: str | None,
    notes: Sequence[Note] = (),
    invalid: int | None = None,
    may_be_missing: bool = False,
) -> DigitalRecord:
    """A recording of the leads the caller wants, all ECG leads by default.

    Integers stay exact where the value of 0 mV is a count too; otherwise samples become float32 millivolts. Leads of
    several rates come at the highest.

    Args:
        leads: Signals in stored order.
        rate: Rate of the leads that have none of their own, None where the file states none.
        options: The caller's arguments.
        record_id: Name to give the record.
        notes: What the reader found.
        invalid: Count that means "no sample".
        may_be_missing: Accept leads without a single valid sample, as a stretch of a longer recording may have.

    Raises:
        EcgError: if names, unit, rate or numbers of samples are missing or contradict each other.
    """
    channels = choose_channels(
        [lead.name for lead in leads],
        [lead.unit for lead in leads],
        lead_names=options.lead_names,
        leads=options.leads,
        unit=options.unit,
    )
    chosen = [leads[row] for row in channels.rows]
    own_rates = [lead.rate if lead.rate is not None else rate for lead in chosen]
    highest = max((value for value in own_rates if value is not None), default=None)
    rate, rate_notes = agreed_rate(highest, options.sampling_rate)
    scales, offsets = [], []
    for lead, name in zip(chosen, channels.names, strict=True):
        unit = stated_unit(lead.unit, options.unit)
        if unit is None:
            raise MetadataMissing(
                "the file does not state the unit of its samples; pass units=", value="units"
            )
        scale, offset = lead.scale * millivolts_per_unit(unit), lead.offset * millivolts_per_unit(unit)
        if not 1e-30 < abs(scale) < 1e30 or not abs(offset) < 1e30:
            raise HeaderError("one count of the samples is absurdly few or many millivolts", lead=name)
        scales.append(scale)
        offsets.append(offset)
    found = [*notes, *channels.notes, *rate_notes]
    slow = [own is not None and own != rate for own in own_rates]
    lengths = {len(lead.counts) for lead, is_slow in zip(chosen, slow, strict=True) if not is_slow}
    if len(lengths) != 1:
        raise HeaderError(f"leads have different numbers of samples ({min(lengths)} to {max(lengths)})")
    length = lengths.pop()
    if length == 0:
        raise SignalError("record has no samples")
    if length * len(chosen) > options.max_samples:
        raise SignalError(
            f"record has {length * len(chosen)} values, more than max_samples", value=length * len(chosen)
        )
    for lead, own, name in zip(chosen, own_rates, channels.names, strict=True):
        if own is not None and abs(len(lead.counts) / own - length / rate) > 1.0 / own + 1.0 / rate:
            raise HeaderError(
                f"lead lasts {len(lead.counts) / own:g} s, others {length / rate:g} s", lead=name
            )
    baselines = np.array([round(-offset / scale) if abs(offset / scale) < 2**31 else 0
                          for offset, scale in zip(offsets, scales, strict=True)])  # fmt: skip
    is_exact = all(
        lead.counts.dtype.kind in "iu" and abs(baseline * scale + offset) <= 1e-9 * abs(scale)
        for lead, scale, offset, baseline in zip(chosen, scales, offsets, baselines.tolist(), strict=True)
    )
    samples: Samples
    if is_exact and not any(slow):
        samples = _stacked([lead.counts for lead in chosen])
        gain, baseline = 1.0 / np.array(scales), baselines.astype(np.int32)
    else:
        rows = []
        for lead, scale, offset, own, name in zip(
            chosen, scales, offsets, own_rates, channels.names, strict=True
        ):
            with np.errstate(all="ignore"):
                row = (lead.counts.astype(np.float64) * scale + offset).astype(np.float32)
            if np.isinf(row).any():
                raise NonFiniteSignal("amplitudes are infinite or too large for float32", lead=name)
            if invalid is not None:
                row[lead.counts == invalid] = np.nan
            if own is not None and own != rate:
                row = resample(row, own, rate)
                row = row[:length] if len(row) >= length else np.pad(row, (0, length - len(row)), mode="edge")
                found.append(Note("lead_resampled", f"sampled at {own:g} Hz, brought to {rate:g} Hz", name))
            rows.append(row)
        samples, invalid = np.stack(rows), None
        gain, baseline = np.ones(len(rows)), np.zeros(len(rows), dtype=np.int32)
    if not may_be_missing:
        found += _missing(samples, invalid, channels.names)
    return DigitalRecord(samples, gain, baseline, rate, channels.names, record_id, tuple(found), invalid)


def _stacked(rows: Sequence[npt.NDArray[Any]]) -> Samples:
    """Integer rows in int16 where they fit, else int32."""
    low, high = min(int(row.min()) for row in rows), max(int(row.max()) for row in rows)
    if not -(2**31) <= low <= high < 2**31:
        raise NonFiniteSignal("samples do not fit 32 bits")
    fits = low >= -(2**15) and high < 2**15
    return np.stack([row.astype(np.int16 if fits else np.int32, copy=False) for row in rows])


def _missing(samples: Samples, invalid: int | None, names: Sequence[str]) -> list[Note]:
    if samples.dtype.kind != "f" and invalid is None:
        return []
    counts = (np.isnan(samples) if samples.dtype.kind == "f" else samples == invalid).sum(axis=1).tolist()
    length = samples.shape[1]
    if min(counts) == length:
        raise SignalError("record has no valid sample")
    notes = []
    for name, count in zip(names, counts, strict=True):
        if count == length:
            notes.append(Note("lead_missing", "no valid sample", name))
        elif count:
            notes.append(Note("samples_missing", f"{count} of {length} samples are missing", name))
    return notes


def agreed_rate(stored: float | None, given: float | None) -> tuple[float, tuple[Note, ...]]:
    """The sampling rate of a file and its caller in Hz, with a note where the caller's word alone counts.

    Raises:
        SamplingRateError: if neither states one, or the two differ.
    """
    if stored is None:
        if given is None:
            raise SamplingRateError("the file does not state its sampling rate; pass sampling_rate=")
        return given, (Note("sampling_rate_assumed", f"{given:g} Hz, as given by the caller"),)
    rate = checked_sampling_rate(stored)
    if given is not None and abs(given / rate - 1.0) > 1e-6:
        raise SamplingRateError(f"the file says {rate:g} Hz, the caller {given:g} Hz", value=rate)
    return rate, ()


def rate_of_interval(text: str, seconds: float) -> tuple[float, tuple[Note, ...]]:
    """Sampling rate of a printed interval between samples.

    Args:
        text: The number as printed, whose last digit bounds what it can tell.
        seconds: Seconds per unit of it.

    Returns:
        Hertz, taken to the nearest whole number where that is within 0.1 % and the printed digits allow it; a note
        if that changed it.

    Raises:
        SamplingRateError: if the interval is not a positive number.
    """
    try:
        interval = float(text) * seconds
    except ValueError:
        raise SamplingRateError("the interval between samples is not a number") from None
    if not 1e-9 < interval < 1e9:
        raise SamplingRateError("the interval between samples is zero, negative or absurd", value=interval)
    rate = 1.0 / interval
    mantissa, _, exponent = text.strip().lower().partition("e")
    decimals = len(mantissa.partition(".")[2]) - (int(exponent) if exponent else 0)
    whole = round(rate)
    if not whole or rate == whole:
        return rate, ()
    printed_doubt = 0.5 * 10.0 ** -min(max(decimals, -300), 300) * seconds
    if abs(rate / whole - 1.0) > _NEAR or abs(1.0 / whole - interval) > max(printed_doubt, 1e-12 * interval):
        return rate, ()
    if abs(rate / whole - 1.0) < 1e-9:
        return float(whole), ()
    detail = f"{whole} Hz, from an interval printed as {interval:g} s"
    return float(whole), (Note("sampling_rate_rounded", detail),)
