"""WFDB records: header and signal files become one :class:`DigitalRecord`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import (
    EcgError,
    HeaderError,
    LeadError,
    MetadataMissing,
    RecordNotFound,
    SamplingRateError,
    SignalError,
)
from ecg_hf.signal.digital import DigitalRecord, Samples, to_millivolts
from ecg_hf.signal.leads import normalize_lead_names
from ecg_hf.signal.paths import inside_root, read_file
from ecg_hf.signal.record import MAX_SAMPLING_RATE_HZ, Note
from ecg_hf.signal.units import millivolts_per_unit
from ecg_hf.signal.wfdb_format16 import INVALID_16, is_plain_format16, read_format16
from ecg_hf.signal.wfdb_header import DEFAULT_GAIN, MAX_HEADER_BYTES, Calibration, WfdbHeader, parse_header
from ecg_hf.signal.wfdb_other import read_through_wfdb

__all__ = ["read_header", "read_wfdb"]

Root = str | os.PathLike[str] | None


def read_header(path: str, *, root: Root = None) -> WfdbHeader:
    """Read and parse one ``.hea`` file.

    Raises:
        RecordNotFound: if it does not exist.
        HeaderError: if it is malformed or larger than a header can be.
        UnsafePath: if it leads out of ``root``.
    """
    if root is not None:
        inside_root(path, root)
    content, size = read_file(path, max_bytes=MAX_HEADER_BYTES, what="header", root=root)
    if size > MAX_HEADER_BYTES:
        raise HeaderError(f"header has {size} bytes, more than {MAX_HEADER_BYTES}", path=path, value=size)
    return parse_header(content, path)


def read_wfdb(
    header_path: str,
    *,
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    unit: str | None = None,
    verify_checksum: bool = True,
    root: Root = None,
    max_samples: int,
) -> DigitalRecord:
    """Read the record of one header. ``sampling_rate``, ``lead_names``, ``unit`` fill in what it lacks."""
    header = read_header(header_path, root=root)
    record_id = os.path.basename(header_path).removesuffix(".hea")
    if header.segments:
        return _read_segments(
            header, header_path, record_id, sampling_rate, unit, verify_checksum, root, max_samples
        )
    names = _lead_names(header, header_path, lead_names)
    rate, notes = _sampling_rate(header, header_path, sampling_rate)
    key = tuple([(signal.calibration, signal.adc_zero) for signal in header.signals])
    try:
        gain, baseline, gain_notes = _calibrate(key, names, unit)
    except EcgError as error:
        error.path = header_path
        raise
    notes += gain_notes

    samples: Samples
    if is_plain_format16(header):
        invalid = INVALID_16
        samples, read_notes = read_format16(
            header,
            header_path,
            names,
            verify_checksum=verify_checksum,
            root=root,
            max_samples=max_samples,
        )
    else:
        samples, invalid, per_frame, _, read_notes = read_through_wfdb(
            header, header_path, names, verify_checksum=verify_checksum, root=root, max_samples=max_samples
        )
        rate *= per_frame
    return DigitalRecord(
        samples=samples,
        gain=gain,
        baseline=baseline,
        sampling_rate=rate,
        lead_names=names,
        record_id=record_id,
        notes=(*notes, *read_notes, *_missing_notes(samples, invalid, names, header_path)),
        invalid=invalid,
    )


def _lead_names(header: WfdbHeader, path: str, given: Sequence[str] | None) -> tuple[str, ...]:
    written = tuple([signal.lead_name for signal in header.signals])
    try:
        if given is None:
            if None in written:
                raise MetadataMissing("header does not name its leads; pass lead_names")
            return normalize_lead_names(written)
        names = normalize_lead_names(given)
        if len(names) != len(written):
            raise LeadError(f"{len(names)} lead names given for {len(written)} signals", value=names)
        if None not in written and normalize_lead_names(written) != names:
            raise LeadError(
                "lead_names contradict the header; they may only fill in missing names", value=names
            )
        return names
    except EcgError as error:
        error.path = path
        raise


def _sampling_rate(header: WfdbHeader, path: str, given: float | None) -> tuple[float, tuple[Note, ...]]:
    notes: tuple[Note, ...] = ()
    rate = header.sampling_rate
    if rate is None:
        if given is None:
            raise SamplingRateError("header gives no sampling rate; pass sampling_rate", path=path)
        rate = float(given)
        notes = (Note("sampling_rate_assumed", f"{rate:g} Hz, as given by the caller"),)
    elif given is not None and float(given) != rate:
        raise SamplingRateError(f"header says {rate:g} Hz, the caller {given:g} Hz", path=path, value=rate)
    if not 0.0 < rate <= MAX_SAMPLING_RATE_HZ:
        raise SamplingRateError(
            f"sampling rate must be in (0, 100000] Hz, got {rate:g}", path=path, value=rate
        )
    return rate, notes


@lru_cache(maxsize=512)
def _calibrate(
    calibrations: tuple[tuple[Calibration, int], ...], names: tuple[str, ...], unit: str | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32], tuple[Note, ...]]:
    """Gain per millivolt, baseline and notes. Cached: all records of a data set tend to share them."""
    gains, baselines, notes = [], [], []
    for (calibration, adc_zero), name in zip(calibrations, names, strict=True):
        gain, baseline = calibration.gain, calibration.baseline
        if gain == 0.0:
            gain = DEFAULT_GAIN
            notes.append(
                Note("gain_assumed", f"no gain in the header; {DEFAULT_GAIN:g} per unit assumed", name)
            )
        elif gain < 0.0:
            notes.append(Note("gain_negative", f"gain {gain:g} inverts the lead", name))
        written = calibration.unit or unit
        if written is None:
            notes.append(Note("unit_assumed", "no unit in the header; mV assumed", name))
        elif unit is not None and millivolts_per_unit(unit) != millivolts_per_unit(written):
            raise MetadataMissing(f"unit {unit!r} contradicts the header", lead=name, value=unit)
        try:
            scale = 1.0 if written is None else millivolts_per_unit(written)
        except EcgError as error:
            error.lead = name
            raise
        gains.append(gain / scale)
        value = adc_zero if baseline is None else baseline
        if not -(2**31) <= value < 2**31:
            raise HeaderError("baseline does not fit 32 bits", lead=name, value=value)
        baselines.append(value)
    gain_array, baseline_array = np.array(gains, dtype=np.float64), np.array(baselines, dtype=np.int32)
    if not np.isfinite(gain_array).all():
        raise HeaderError("gain is out of range", lead=names[int(np.isfinite(gain_array).argmin())])
    gain_array.flags.writeable = baseline_array.flags.writeable = False
    return gain_array, baseline_array, tuple(notes)


def _missing_notes(samples: Samples, invalid: int, names: Sequence[str], path: str) -> list[Note]:
    """Notes on samples the device declared invalid.

    Raises:
        SignalError: if no sample is valid.
    """
    if samples.min() != invalid:
        return []
    counts = (samples == invalid).sum(axis=1)
    length = samples.shape[1]
    if (counts == length).all():
        raise SignalError("record has no valid sample", path=path)
    notes = []
    for name, count in zip(names, counts.tolist(), strict=True):
        if count == length:
            notes.append(Note("lead_missing", "no valid sample", name))
        elif count:
            notes.append(Note("samples_missing", f"{count} of {length} samples are invalid", name))
    return notes


def _read_segments(
    header: WfdbHeader,
    header_path: str,
    record_id: str,
    sampling_rate: float | None,
    unit: str | None,
    verify_checksum: bool,
    root: Root,
    max_samples: int,
) -> DigitalRecord:
    """Put the segments of a multi-segment record together; gaps and absent leads are NaN.

    Differs from official code: each segment passes the same checks as a record of its own, and a segment
    that is itself multi-segment (which header(5) forbids) is refused, so there is nothing to recurse into.
    """
    folder = os.path.dirname(header_path)
    total = sum(segment.length for segment in header.segments)
    if header.length is not None and header.length != total:
        raise HeaderError(f"segments add up to {total} samples, not {header.length}", path=header_path)
    if total < 1 or total * header.signal_count > max_samples:
        raise SignalError(f"record has {total * header.signal_count} values", path=header_path, value=total)
    rate, notes = _sampling_rate(header, header_path, sampling_rate)

    parts: list[tuple[int, int, DigitalRecord]] = []
    names: tuple[str, ...] | None = None
    start = 0
    for segment in header.segments:
        if segment.name != "~":
            path = os.path.join(folder, segment.name + ".hea")
            if read_header(path, root=root).segments:
                raise HeaderError("a segment must not itself have segments", path=header_path)
            if segment.length == 0 and start == 0 and names is None:
                layout = read_header(path, root=root)
                names = _lead_names(layout, path, None)
            elif segment.length:
                part = read_wfdb(
                    path,
                    sampling_rate=None,
                    unit=unit,
                    verify_checksum=verify_checksum,
                    root=root,
                    max_samples=max_samples,
                )
                if part.sampling_rate != rate or part.samples.shape[1] != segment.length:
                    raise HeaderError(
                        "a segment's length or sampling rate differs from what the record says", path=path
                    )
                names = part.lead_names if names is None else names
                parts.append((start, segment.length, part))
        start += segment.length
    if names is None or not parts:
        raise RecordNotFound("record consists of gaps only", path=header_path)
    if len(names) != header.signal_count:
        raise HeaderError(f"{header.signal_count} signals announced, {len(names)} named", path=header_path)

    signal = np.full((len(names), total), np.nan, dtype=np.float32)
    collected = list(notes)
    for start, length, part in parts:
        rows = [names.index(name) for name in part.lead_names if name in names]
        if len(rows) != len(part.lead_names):
            raise LeadError(
                "a segment has leads the record does not", path=header_path, value=part.lead_names
            )
        signal[rows, start : start + length] = to_millivolts(
            part.samples, part.gain, part.baseline, part.invalid
        )
        collected.extend(note for note in part.notes if note not in collected)
    counts = np.isnan(signal).sum(axis=1).tolist()
    collected = [note for note in collected if note.code not in ("lead_missing", "samples_missing")]
    for name, count in zip(names, counts, strict=True):
        if count == total:
            collected.append(Note("lead_missing", "no valid sample", name))
        elif count:
            collected.append(Note("samples_missing", f"{count} of {total} samples are invalid", name))
    return DigitalRecord(
        samples=signal,
        gain=np.ones(len(names)),
        baseline=np.zeros(len(names), dtype=np.int32),
        sampling_rate=rate,
        lead_names=names,
        record_id=record_id,
        notes=tuple(collected),
    )
