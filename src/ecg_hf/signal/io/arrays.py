"""Bare arrays as recordings. Rate, leads and unit must be stated; none of them is ever guessed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import (
    AmbiguousLayoutError,
    ConfigurationError,
    LeadError,
    MetadataMissing,
    NonFiniteSignal,
    SignalError,
)
from ecg_hf.signal.io.digital import DigitalRecord, Samples
from ecg_hf.signal.leads import normalize_lead_names
from ecg_hf.signal.record import EcgRecord, Note
from ecg_hf.signal.units import checked_sampling_rate, millivolts_per_unit

__all__ = ["LAYOUTS", "digital_from_array", "record_from_array", "resolve_layout"]

LAYOUTS = ("leads_first", "samples_first")


def resolve_layout(shape: tuple[int, ...], lead_count: int, layout: str | None = None) -> str:
    """Which axis of a two-dimensional array holds the leads.

    Args:
        shape: Shape of the array.
        lead_count: Number of leads it must have.
        layout: ``"leads_first"``, ``"samples_first"``, or None to infer where exactly one axis fits.

    Raises:
        SignalError: if the array is not two-dimensional or has no samples.
        LeadError: if no axis (or not the stated one) has ``lead_count`` entries.
        AmbiguousLayoutError: if both have and ``layout`` is None.
        ConfigurationError: if ``layout`` is not a known word.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ConfigurationError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}", value=layout)
    if len(shape) != 2:
        raise SignalError(f"a recording has two axes (leads and samples), got shape {shape}", value=shape)
    if 0 in shape:
        raise SignalError(f"signal has no samples: shape {shape}", value=shape)
    fits = [word for word, size in zip(LAYOUTS, shape, strict=True) if size == lead_count]
    if layout is not None:
        if layout not in fits:
            raise LeadError(f"{lead_count} lead names do not fit shape {shape} read {layout}", value=shape)
        return layout
    if not fits:
        raise LeadError(f"{lead_count} lead names fit neither axis of shape {shape}", value=shape)
    if len(fits) == 2:
        raise AmbiguousLayoutError(f"shape {shape} may be read either way; pass layout=", value=shape)
    return fits[0]


def digital_from_array(
    array: npt.ArrayLike,
    *,
    sampling_rate: float | None,
    lead_names: Sequence[str | None] | None,
    unit: str | None,
    layout: str | None = None,
    record_id: str | None = None,
    notes: tuple[Note, ...] = (),
) -> DigitalRecord:
    """A :class:`DigitalRecord` of an array whose metadata the caller states.

    Integers up to 32 bits are kept as they are (one step is one ``unit``); floating values and wider
    integers become float32. The input is never modified, and NaN stays NaN.

    Args:
        array: Real numbers, ``(leads, samples)`` or ``(samples, leads)``.
        sampling_rate: Hertz.
        lead_names: One name per lead, in any accepted spelling.
        unit: Voltage unit of the values.
        layout: See :func:`resolve_layout`.
        record_id: Name to give the record.
        notes: Notes to begin with.

    Raises:
        MetadataMissing: if rate, leads or unit are None.
        SignalError: for arrays that are not two-dimensional, empty, not real numbers, or all NaN.
        NonFiniteSignal: for infinite values.
    """
    missing = [
        name
        for name, given in (("sampling_rate", sampling_rate), ("lead_names", lead_names), ("units", unit))
        if given is None
    ]
    if sampling_rate is None or lead_names is None or unit is None:
        raise MetadataMissing(f"this source does not say its {', '.join(missing)}; pass them", value=missing)
    rate = checked_sampling_rate(sampling_rate)
    names = normalize_lead_names(lead_names)
    values = np.asarray(array)
    if values.dtype.kind not in "iuf":
        raise SignalError(f"samples of type {values.dtype} can't be an ECG", value=str(values.dtype))
    if resolve_layout(values.shape, len(names), layout) == "samples_first":
        values = values.T
    samples = _narrow(values)

    all_notes = list(notes)
    if samples.dtype.kind == "f":
        if np.isinf(samples).any():
            row = int(np.isinf(samples).any(axis=1).argmax())
            raise NonFiniteSignal("samples are infinite or too large for float32", lead=names[row])
        counts = np.isnan(samples).sum(axis=1).tolist()
        length = samples.shape[1]
        if min(counts) == length:
            raise SignalError("record has no valid sample")
        for name, count in zip(names, counts, strict=True):
            if count == length:
                all_notes.append(Note("lead_missing", "no valid sample", name))
            elif count:
                all_notes.append(Note("samples_missing", f"{count} of {length} samples are NaN", name))
    return DigitalRecord(
        samples=samples,
        gain=np.full(len(names), 1.0 / millivolts_per_unit(unit)),
        baseline=np.zeros(len(names), dtype=np.int32),
        sampling_rate=rate,
        lead_names=names,
        record_id=record_id,
        notes=tuple(all_notes),
    )


def _narrow(values: npt.NDArray[np.generic]) -> Samples:
    """A contiguous native copy in the narrowest of int16, int32, float32 that holds the type's values."""
    if values.dtype.kind in "iu":
        if np.can_cast(values.dtype, np.int16):
            return np.array(values, dtype=np.int16, order="C")
        if int(values.min()) >= -(2**31) and int(values.max()) < 2**31:
            return np.array(values, dtype=np.int32, order="C")
    with np.errstate(over="ignore"):
        return np.array(values, dtype=np.float32, order="C")


def record_from_array(
    array: npt.ArrayLike,
    *,
    sampling_rate: float | None,
    lead_names: Sequence[str | None] | None,
    unit: str | None = "mV",
    layout: str | None = None,
    record_id: str | None = None,
    thorough: bool = False,
) -> EcgRecord:
    """An :class:`EcgRecord` of an array in memory, with quality notes. See :func:`digital_from_array`."""
    from ecg_hf.signal.quality import check_quality

    record = digital_from_array(
        array,
        sampling_rate=sampling_rate,
        lead_names=lead_names,
        unit=unit,
        layout=layout,
        record_id=record_id,
    ).to_record()
    return record.with_notes(
        *check_quality(record.signal, record.sampling_rate, record.lead_names, thorough=thorough)
    )
