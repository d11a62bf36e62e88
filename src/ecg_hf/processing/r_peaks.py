"""R peaks as a table: one row of sample indices per record, detected or known beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError, SignalError
from ecg_hf.processing.backend import ArrayBackend
from ecg_hf.processing.inputs import EcgStack
from ecg_hf.processing.windows import PaddingSide
from ecg_hf.signal.beats.heartbeats import Detector, detect_r_peaks_in_batch

__all__ = [
    "NO_PEAK",
    "KnownPeaks",
    "checked_known_peaks",
    "known_peaks_of_stacks",
    "max_peaks_in",
    "move_r_peaks",
    "peaks_as_table",
    "peaks_in_window",
    "r_peak_table",
]

KnownPeaks = Sequence[Sequence[int] | npt.NDArray[np.integer] | None]
"""Sample indices of each record's R peaks; ``None`` or empty for records to detect them in."""

NO_PEAK = -1
"""Fills a row after its last peak."""

# 240 beats per minute: faster rhythms are ventricular flutter, which has no distinct QRS complexes.
_PEAKS_PER_SECOND = 4


def max_peaks_in(n_samples: int, sampling_rate: float) -> int:
    """Width of a table that holds every beat of ``n_samples`` at up to 240 beats per minute."""
    return max(1, int(np.ceil(n_samples / sampling_rate * _PEAKS_PER_SECOND)))


def r_peak_table(
    signal: npt.NDArray[np.floating],
    sampling_rate: float,
    lead_names: Sequence[str],
    *,
    max_peaks: int,
    known: KnownPeaks | None = None,
    detector: Detector = "all_leads",
) -> npt.NDArray[np.int64]:
    """R peaks of a batch of records.

    Detection looks at all leads, see :func:`ecg_hf.signal.beats.beats.detect_beats_in_batch`: the same beats at any
    rate, hence those that ``data build --detect-r-peaks`` stores. About 1 ms per 10 s record on one core.

    Differs from official code: CLEAR-HUG runs XQRS at 100 Hz, tries leads by number, and accepts a single beat;
    ``detector="xqrs"`` runs it at 250 Hz or more, lead II first.

    Args:
        signal: float ``(batch, leads, samples)`` in millivolts or any proportional unit; a missing lead is
            zeros or NaN.
        sampling_rate: Hertz.
        lead_names: Names of the lead axis.
        max_peaks: Width of the table; later peaks are left out.
        known: Indices of each record at ``sampling_rate``, in any order; those outside the signal are left out. In
            a record with ``None`` or an empty list they are detected.
        detector: One of :data:`ecg_hf.signal.beats.heartbeats.DETECTORS`.

    Returns:
        int64 ``(batch, max_peaks)``: ascending sample indices, then :data:`NO_PEAK`. A row of a record without any
        beat is :data:`NO_PEAK` throughout.

    Raises:
        SignalError: if the signal is not ``(batch, leads, samples)``.
        ConfigurationError: if ``max_peaks`` is not positive, or ``known`` is not one list per record.

    Example:
        >>> r_peak_table(signal, 100.0, STANDARD_LEADS, max_peaks=40)[0, :4]
        array([ 46, 133, 218, 305])
    """
    if signal.ndim != 3:
        raise SignalError(f"expected (batch, leads, samples), got shape {signal.shape}", value=signal.shape)
    if max_peaks < 1:
        raise ConfigurationError(f"max_peaks must be positive, got {max_peaks}", value=max_peaks)
    given = checked_known_peaks(known, len(signal))
    unknown = np.flatnonzero([not peaks.size for peaks in given])
    if unknown.size:
        rest = signal if unknown.size == len(signal) else signal[unknown]
        detected = detect_r_peaks_in_batch(rest, sampling_rate, lead_names, detector=detector)
        for position, peaks in zip(unknown.tolist(), detected, strict=True):
            given[position] = peaks
    return peaks_as_table(given, signal.shape[2], max_peaks)


def peaks_as_table(
    peaks: Sequence[npt.NDArray[np.int64]], n_samples: int, max_peaks: int
) -> npt.NDArray[np.int64]:
    """Peaks within ``n_samples`` as int64 ``(records, max_peaks)``, ascending, then :data:`NO_PEAK`."""
    table = np.full((len(peaks), max_peaks), NO_PEAK, dtype=np.int64)
    for row, own in zip(table, peaks, strict=True):
        kept = np.unique(own[(own >= 0) & (own < n_samples)])[:max_peaks]
        row[: kept.size] = kept
    return table


def checked_known_peaks(known: KnownPeaks | None, n_records: int) -> list[npt.NDArray[np.int64]]:
    """One int64 array per record, empty if nothing is known.

    Raises:
        ConfigurationError: if the numbers of entries and records differ, or an entry is not a list of integers.
    """
    if known is None:
        return [np.zeros(0, np.int64)] * n_records
    if len(known) != n_records:
        raise ConfigurationError(
            f"r_peaks must have one entry per record, got {len(known)} for {n_records} records",
            value=len(known),
        )
    rows = []
    for position, peaks in enumerate(known):
        row = np.asarray([] if peaks is None else peaks)
        if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
            raise ConfigurationError(
                f"r_peaks of record {position} must be sample indices, got {row.dtype} of shape {row.shape}",
                value=position,
            )
        # Tables are accepted too; their padding is negative.
        rows.append(row[row >= 0].astype(np.int64) if row.size else np.zeros(0, np.int64))
    return rows


def move_r_peaks(
    peaks: npt.NDArray[np.int64], rate_in: float, rate_out: float, offset: int = 0
) -> npt.NDArray[np.int64]:
    """Indices at ``rate_in`` as indices at ``rate_out``, counted from sample ``offset`` of the latter."""
    moved = peaks if rate_in == rate_out else np.rint(peaks * (rate_out / rate_in)).astype(np.int64)
    return moved - offset


def known_peaks_of_stacks(
    stacks: Sequence[EcgStack],
    known: KnownPeaks | None,
    n_records: int,
    *,
    detector: Detector,
    backend: ArrayBackend,
) -> list[npt.NDArray[np.int64]]:
    """R peaks of every record in samples of the recording: those given, else detected.

    Detection uses the recording's own rate and all its leads, as building a dataset does, so the beats are the same.

    Args:
        stacks: The records, cut to their windows.
        known: Sample indices of each record at its own rate, in the caller's order.
        n_records: Records of the caller's batch.
        detector: One of :data:`ecg_hf.signal.beats.heartbeats.DETECTORS`.
        backend: Array library of the stacks.

    Raises:
        ConfigurationError: if ``known`` is not one list of integers per record.
    """
    peaks = checked_known_peaks(known, n_records)
    for stack in stacks:
        rows = [row for row, position in enumerate(stack.positions) if not peaks[position].size]
        if not rows:
            continue
        signal = backend.to_numpy(stack.signal)
        found = detect_r_peaks_in_batch(
            signal if len(rows) == len(signal) else signal[rows],
            stack.sampling_rate,
            stack.lead_names,
            detector=detector,
        )
        for row, detected in zip(rows, found, strict=True):
            peaks[stack.positions[row]] = detected + stack.window.first
    return peaks


def peaks_in_window(
    known: Sequence[npt.NDArray[np.int64]],
    stack: EcgStack,
    *,
    sampling_rate: float,
    n_real: int,
    n_samples: int,
    padding_side: PaddingSide,
) -> npt.NDArray[np.int64]:
    """Table of the R peaks of one stack in samples of the output.

    Args:
        known: Peaks of every record of the batch, see :func:`known_peaks_of_stacks`.
        stack: The records of the table.
        sampling_rate: Rate of the output in Hz.
        n_real: Samples of the output that are recorded; the others are padding.
        n_samples: Samples of the output.
        padding_side: End at which the padding is.

    Returns:
        int64 ``(records, 4 per second)``: ascending sample indices, then :data:`NO_PEAK`.
    """
    own = [
        move_r_peaks(known[position], stack.sampling_rate, sampling_rate, stack.window.start)
        for position in stack.positions
    ]
    table = peaks_as_table(own, n_real, max_peaks_in(n_samples, sampling_rate))
    before = max(n_samples - n_real, 0) if padding_side == "left" else 0
    return np.where(table >= 0, table + before, table)
