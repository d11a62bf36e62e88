"""WFDB records of several segments: parts of one recording, with gaps and varying leads."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import HeaderError, LeadError, RecordNotFound, SamplingRateError, SignalError
from ecg_hf.signal.io.channels import Channels
from ecg_hf.signal.io.digital import DigitalRecord, to_millivolts
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.io.wfdb_header import WfdbHeader
from ecg_hf.signal.io.wfdb_record import (
    missing_notes,
    read_header,
    read_single,
    record_channels,
    record_id_of,
)
from ecg_hf.signal.leads import normalize_lead_name
from ecg_hf.signal.resampling import resample

__all__ = ["read_wfdb"]

# A record may be mostly gap (a monitor that was off for days), but a small file must not claim any amount of memory.
_FREE_GAP_VALUES = 1 << 22
_MOST_GAP = 100


class _Part(NamedTuple):
    """A segment that was read: its place and length in frames, and how many samples one frame holds."""

    start: int
    length: int
    per_frame: int
    record: DigitalRecord


def read_wfdb(header_path: str, options: ReadOptions) -> DigitalRecord:
    """Read the record of one header, which may consist of segments."""
    header = read_header(header_path, root=options.root)
    if header.segments:
        return _read_segments(header, header_path, options)
    return read_single(header, header_path, options)


def _read_segments(header: WfdbHeader, header_path: str, options: ReadOptions) -> DigitalRecord:
    """Join the segments of a multi-segment record; gaps and missing leads are NaN.

    Where a layout comes first (a segment of length 0), it names all leads and each segment has some of them;
    otherwise all segments have the same. The record is at the rate of the segment with most samples per frame.

    Differs from official code: each segment passes the same checks as a single record, and a segment
    that is itself multi-segment (which header(5) forbids) is refused, so reading never recurses.
    """
    total = sum(segment.length for segment in header.segments)
    if header.length is not None and header.length != total:
        raise HeaderError(f"segments add up to {total} samples, not {header.length}", path=header_path)
    if total < 1 or total * header.signal_count > options.max_samples:
        raise SignalError(f"record has {total * header.signal_count} values", path=header_path, value=total)

    first, *rest = header.segments
    headers = {
        name: _segment_header(header, header_path, name, options)
        for name in dict.fromkeys(segment.name for segment in header.segments if segment.name != "~")
    }
    layout = headers[first.name] if first.length == 0 and first.name != "~" else None
    stored = [s for s in (rest if layout else header.segments) if s.name != "~" and s.length]
    if not stored:
        raise RecordNotFound("record consists of gaps only", path=header_path)
    described, described_at = (layout, first.name) if layout else (headers[stored[0].name], stored[0].name)
    if len(described.signals) != header.signal_count:
        raise HeaderError(
            f"{header.signal_count} signals announced, {len(described.signals)} named", path=header_path
        )
    # The caller's rate is that of the whole record, so it is compared once that is known.
    options, given = replace(options, sampling_rate=None), options.sampling_rate
    channels = record_channels(described, _path_of(header_path, described_at), options)
    values = total * len(channels.names)
    if values > _FREE_GAP_VALUES and total > _MOST_GAP * sum(segment.length for segment in stored):
        raise SignalError(
            "record consists of gaps but for a hundredth or less", path=header_path, value=total
        )

    parts: list[_Part] = []
    start = 0
    for segment in header.segments:
        if segment.name != "~" and segment.length:
            path = _path_of(header_path, segment.name)
            wanted = _options_of_part(
                headers[segment.name], path, described, layout is not None, channels, options
            )
            if wanted is not None:
                record = read_single(headers[segment.name], path, wanted)
                per_frame, rest = divmod(record.samples.shape[1], segment.length)
                if rest or not per_frame:
                    raise HeaderError(
                        f"a segment has {record.samples.shape[1]} samples where the record says {segment.length}",
                        path=path,
                    )
                parts.append(_Part(start, segment.length, per_frame, record))
        start += segment.length
    if not parts:
        raise SignalError("record has no valid sample", path=header_path)
    joined = _joined(header_path, total, parts, channels, options)
    frames = described.sampling_rate
    if given is not None and given not in (joined.sampling_rate, frames):
        raise SamplingRateError(
            f"header says {joined.sampling_rate:g} Hz, the caller {given:g} Hz", path=header_path, value=given
        )
    return joined


def _path_of(header_path: str, segment: str) -> str:
    return os.path.join(os.path.dirname(header_path), segment + ".hea")


def _segment_header(record: WfdbHeader, header_path: str, name: str, options: ReadOptions) -> WfdbHeader:
    """Header of a segment, with the record's frame rate if it has none."""
    path = _path_of(header_path, name)
    header = read_header(path, root=options.root)
    if header.segments:
        raise HeaderError("a segment must not itself have segments", path=header_path)
    if header.sampling_rate is None:
        return replace(header, sampling_rate=record.sampling_rate or options.sampling_rate)
    if record.sampling_rate is not None and header.sampling_rate != record.sampling_rate:
        raise HeaderError(
            f"a segment is of {header.sampling_rate:g} Hz, the record of {record.sampling_rate:g} Hz",
            path=path,
        )
    return header


def _options_of_part(
    header: WfdbHeader,
    path: str,
    described: WfdbHeader,
    is_layout: bool,
    channels: Channels,
    options: ReadOptions,
) -> ReadOptions | None:
    """How to read the wanted leads of one segment, None if it has none of them."""
    theirs = [normalize_lead_name(signal.lead_name or "") for signal in described.signals]
    own = [normalize_lead_name(signal.lead_name or "") for signal in header.signals]
    if own == theirs:
        # The same signals in the same order: names that are repeated or absent mean the same in both.
        return replace(options, leads=channels.names)
    if not is_layout or not set(own) <= set(theirs):
        raise LeadError("a segment has other leads than the record", path=path, value=own)
    if len(set(theirs)) != len(theirs):
        raise LeadError("the leads of a segment can't be told from each other", path=path, value=own)
    called = {theirs[row]: lead for row, lead in zip(channels.rows, channels.names, strict=True)}
    there = [lead for label, lead in called.items() if label in own]
    if not there:
        return None
    names = None if options.lead_names is None else [called.get(label, label) for label in own]
    return replace(options, lead_names=names, leads=there)


def _joined(
    header_path: str, total: int, parts: Sequence[_Part], channels: Channels, options: ReadOptions
) -> DigitalRecord:
    names = channels.names
    rate = max(part.record.sampling_rate for part in parts)
    most = max(part.per_frame for part in parts)
    if total * most * len(names) > options.max_samples:
        raise SignalError("record has more values than max_samples", path=header_path, value=total * most)
    signal: npt.NDArray[np.float32] = np.full((len(names), total * most), np.nan, dtype=np.float32)
    collected = list(channels.notes)
    for part in parts:
        record = part.record
        if not math.isclose(record.sampling_rate * most, rate * part.per_frame, rel_tol=1e-9):
            raise HeaderError("segments differ in samples per second", path=header_path)
        rows = [names.index(name) for name in record.lead_names]
        millivolts = to_millivolts(record.samples, record.gain, record.baseline, record.invalid)
        columns = slice(part.start * most, (part.start + part.length) * most)
        signal[rows, columns] = resample(millivolts, float(part.per_frame), float(most))
        collected += [note for note in record.notes if note not in collected]
    collected = [note for note in collected if note.code not in ("lead_missing", "samples_missing")]
    return DigitalRecord(
        samples=signal,
        gain=np.ones(len(names)),
        baseline=np.zeros(len(names), dtype=np.int32),
        sampling_rate=rate,
        lead_names=names,
        record_id=record_id_of(header_path),
        notes=(*collected, *missing_notes(signal, None, names, header_path)),
    )
