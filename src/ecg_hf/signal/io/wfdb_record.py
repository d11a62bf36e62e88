"""WFDB records: header and signal files become one :class:`DigitalRecord`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import EcgError, HeaderError, SamplingRateError, SignalError
from ecg_hf.signal.io.channels import Channels, choose_channels, stated_unit
from ecg_hf.signal.io.digital import DigitalRecord, Samples, to_millivolts
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.io.paths import inside_root, read_file
from ecg_hf.signal.io.wfdb_format16 import INVALID_16, is_plain_format16, read_format16
from ecg_hf.signal.io.wfdb_header import DEFAULT_GAIN, MAX_HEADER_BYTES, Calibration, WfdbHeader, parse_header
from ecg_hf.signal.io.wfdb_other import read_through_wfdb
from ecg_hf.signal.record import Note
from ecg_hf.signal.resampling import resample
from ecg_hf.signal.units import checked_sampling_rate, millivolts_per_unit

__all__ = [
    "missing_notes",
    "read_header",
    "read_single",
    "record_channels",
    "record_id_of",
]

Rows = Samples | list[npt.NDArray[np.int16] | npt.NDArray[np.int32]]


def read_header(path: str, *, root: str | os.PathLike[str] | None = None) -> WfdbHeader:
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


def record_id_of(header_path: str) -> str:
    """Name of the record of a header file."""
    return os.path.basename(header_path).removesuffix(".hea")


def record_channels(header: WfdbHeader, header_path: str, options: ReadOptions) -> Channels:
    """The signals to read of those that a header lists."""
    written = [signal.lead_name for signal in header.signals]
    units = [signal.calibration.unit for signal in header.signals]
    try:
        return choose_channels(
            written, units, lead_names=options.lead_names, leads=options.leads, unit=options.unit
        )
    except EcgError as error:
        error.path = header_path
        raise


def read_single(header: WfdbHeader, header_path: str, options: ReadOptions) -> DigitalRecord:
    """The record of a header without segments, at the rate of the fastest lead that is read.

    Slower leads are resampled to that rate, in float32 millivolts, with a note.
    """
    if all(signal.file_name == "~" for signal in header.signals):
        raise HeaderError("this is the layout of a record's segments: it has no samples", path=header_path)
    channels = record_channels(header, header_path, options)
    names = channels.names
    signals = [header.signals[row] for row in channels.rows]
    per_frame = [signal.storage.samples_per_frame for signal in signals]
    key = tuple([(signal.calibration, signal.adc_zero) for signal in signals])
    try:
        rate, notes = _sampling_rate(header, options.sampling_rate, max(per_frame))
        gain, baseline, gain_notes = _calibrate(key, names, options.unit)
    except EcgError as error:
        error.path = header_path
        raise

    samples: Samples
    invalid: int | None
    if is_plain_format16(header):
        samples, read_notes = read_format16(
            header,
            header_path,
            [signal.lead_name or f"signal {row}" for row, signal in enumerate(header.signals, 1)],
            verify_checksum=options.verify_checksum,
            root=options.root,
            max_samples=options.max_samples,
        )
        if channels.rows != tuple(range(len(header.signals))):
            samples = samples[list(channels.rows)]
        rows: Rows = samples
        invalid = INVALID_16
    else:
        rows, invalid, read_notes = read_through_wfdb(
            header,
            header_path,
            channels,
            verify_checksum=options.verify_checksum,
            root=options.root,
            max_samples=options.max_samples,
        )
        if len({row.size / count for row, count in zip(rows, per_frame, strict=True)}) != 1:
            raise HeaderError("signals have different numbers of samples", path=header_path)
    read_notes += missing_notes(rows, invalid, names, header_path)
    if len(set(per_frame)) > 1:
        if len(rows) * max(len(row) for row in rows) > options.max_samples:
            raise SignalError("leads at one rate have more values than max_samples", path=header_path)
        millivolts = []
        for row, lead in enumerate(rows):
            one = slice(row, row + 1)
            slow = to_millivolts(lead[None], gain[one], baseline[one], invalid)  # type: ignore[arg-type]
            own_rate = rate * per_frame[row] / max(per_frame)
            millivolts.append(resample(slow, own_rate, rate))
            if own_rate != rate:
                detail = f"sampled at {own_rate:g} Hz, brought to {rate:g} Hz"
                read_notes.append(Note("lead_resampled", detail, names[row]))
        samples, invalid = np.concatenate(millivolts), None
        gain, baseline = np.ones(len(names)), np.zeros(len(names), dtype=np.int32)
    elif not isinstance(rows, np.ndarray):
        samples = np.stack(rows)  # type: ignore[assignment]
    return DigitalRecord(
        samples=samples,
        gain=gain,
        baseline=baseline,
        sampling_rate=rate,
        lead_names=names,
        record_id=record_id_of(header_path),
        notes=(*notes, *channels.notes, *gain_notes, *read_notes),
        invalid=invalid,
    )


def _sampling_rate(header: WfdbHeader, given: float | None, per_frame: int) -> tuple[float, tuple[Note, ...]]:
    """Samples per second where a frame holds ``per_frame`` of them: the header's or, if it has none, the caller's."""
    stated = None if given is None else checked_sampling_rate(given)
    if header.sampling_rate is None:
        if stated is None:
            raise SamplingRateError("header gives no sampling rate; pass sampling_rate")
        return stated, (Note("sampling_rate_assumed", f"{stated:g} Hz, as given by the caller"),)
    rate = checked_sampling_rate(checked_sampling_rate(header.sampling_rate) * per_frame)
    # The header states the frame rate, which the caller may mean too.
    if stated is not None and stated not in (rate, header.sampling_rate):
        raise SamplingRateError(f"header says {rate:g} Hz, the caller {stated:g} Hz", value=rate)
    return rate, ()


@lru_cache(maxsize=512)
def _calibrate(
    calibrations: tuple[tuple[Calibration, int], ...], names: tuple[str, ...], unit: str | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32], tuple[Note, ...]]:
    """Gain per millivolt, baseline and notes. Cached, because the records of a dataset tend to share them."""
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
        try:
            written = stated_unit(calibration.unit, unit)
            scale = 1.0 if written is None else millivolts_per_unit(written)
            if written is None:
                notes.append(Note("unit_assumed", "no unit in the header; mV assumed", name))
            elif written != calibration.unit:
                notes.append(Note("unit_assumed", f"{written}, as given by the caller", name))
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


def missing_notes(rows: Rows, invalid: int | None, names: Sequence[str], path: str) -> list[Note]:
    """Notes on samples that are invalid (NaN where ``invalid`` is None).

    Raises:
        SignalError: if no sample is valid.
    """
    if invalid is not None and isinstance(rows, np.ndarray) and rows.min() != invalid:
        return []
    counts = [int((np.isnan(row) if invalid is None else row == invalid).sum()) for row in rows]
    lengths = [len(row) for row in rows]
    if counts == lengths:
        raise SignalError("record has no valid sample", path=path)
    notes = []
    for name, count, length in zip(names, counts, lengths, strict=True):
        if count == length:
            notes.append(Note("lead_missing", "no valid sample", name))
        elif count:
            notes.append(Note("samples_missing", f"{count} of {length} samples are invalid", name))
    return notes
