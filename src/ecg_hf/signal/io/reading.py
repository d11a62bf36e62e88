"""One door for every kind of file: :func:`read_record` in millivolts, :func:`read_digital` as stored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from ecg_hf.errors import EcgError, RecordNotFound, UnsupportedFormat
from ecg_hf.signal.io.array_files import read_array_file
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.io.paths import local_path
from ecg_hf.signal.io.wfdb_segments import read_wfdb
from ecg_hf.signal.leads import lead_notes
from ecg_hf.signal.quality import check_quality
from ecg_hf.signal.record import EcgRecord

__all__ = ["MAX_SAMPLES", "read_digital", "read_record"]

MAX_SAMPLES = 1 << 28
"""Most values (leads times samples) one record may have; 13 hours of 12 leads at 500 Hz."""

_WFDB_SUFFIXES = (".hea", ".dat", ".mat")
_ARRAY_SUFFIXES = (".npy", ".csv")


def read_record(
    path: str | os.PathLike[str],
    *,
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    leads: Sequence[str] | None = None,
    unit: str | None = None,
    layout: str | None = None,
    verify_checksum: bool = True,
    root: str | os.PathLike[str] | None = None,
    max_samples: int = MAX_SAMPLES,
    thorough: bool = False,
) -> EcgRecord:
    """Read one recording.

    WFDB records (any storage format, multi-segment ones too) and Challenge ``.mat`` + ``.hea`` pairs
    describe themselves. ``.npy``, ``.csv`` and ``.mat`` files without a header do not: they need
    ``sampling_rate``, ``unit`` and ``lead_names``, except for what a CSV says in its column names, unit row or
    time column.

    Signals that are not voltages (pressures), or are named as something else (EEG, respiration), are left out with
    a note unless ``leads`` asks for them. Leads of several rates come at the highest.

    Args:
        path: The record, with or without ``.hea``, ``.dat`` or ``.mat``; or a ``.npy`` or ``.csv`` file.
        sampling_rate: Hertz, where the file does not say. Contradicting the file is an error.
        lead_names: One name per lead, where the file does not say: for absent, repeated (``ECG``, ``ECG``) or generic
            names (``ECG1``). Contradicting any other name in the file is an error.
        leads: Leads to read, in this order; all by default.
        unit: Voltage unit, where the file does not say. Contradicting the file is an error.
        layout: ``"leads_first"`` or ``"samples_first"`` for bare arrays; inferred where unambiguous.
        verify_checksum: Compare each lead's samples with the checksum and the initial value in the header.
        root: Folder that neither the path nor any link may leave. Without it, links may not leave the
            record's own folder.
        max_samples: Most values (leads times samples) to accept.
        thorough: Run the slower quality checks too (see :func:`~ecg_hf.signal.quality.check_quality`).

    Returns:
        Float32 millivolts ``(leads, samples)``; ``notes`` say what was assumed, left out or looks odd.

    Raises:
        EcgError: in one of its subclasses, and nothing else, for whatever is wrong with the file or an argument.

    Example:
        >>> record = read_record("records500/00000/00001_hr")  # doctest: +SKIP
        >>> record.signal.shape, record.sampling_rate, record.lead_names[:4]  # doctest: +SKIP
        ((12, 5000), 500.0, ('I', 'II', 'III', 'aVR'))
    """
    options = ReadOptions(sampling_rate, lead_names, leads, unit, verify_checksum, root, max_samples)
    digital = _read(path, options, layout)
    try:
        record = digital.to_record()
    except EcgError as error:
        error.path = os.fspath(path)
        raise
    quality = check_quality(record.signal, record.sampling_rate, record.lead_names, thorough=thorough)
    return record.with_notes(*quality) if quality else record


def read_digital(
    path: str | os.PathLike[str],
    *,
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    leads: Sequence[str] | None = None,
    unit: str | None = None,
    layout: str | None = None,
    verify_checksum: bool = True,
    root: str | os.PathLike[str] | None = None,
    max_samples: int = MAX_SAMPLES,
) -> DigitalRecord:
    """Read one recording as stored: exact digital samples with gain and baseline, no quality checks.

    Samples are float32 millivolts where leads of several rates or segments were put together.

    Arguments and errors are those of :func:`read_record`.
    """
    options = ReadOptions(sampling_rate, lead_names, leads, unit, verify_checksum, root, max_samples)
    return _read(path, options, layout)


def _read(path: str | os.PathLike[str], options: ReadOptions, layout: str | None) -> DigitalRecord:
    text = local_path(path)
    try:
        record = _read_any(text, options, layout)
    except EcgError as error:
        error.path = error.path or text
        raise
    notes = lead_notes(record.lead_names)
    return replace(record, notes=(*record.notes, *notes)) if notes else record


def _read_any(path: str, options: ReadOptions, layout: str | None) -> DigitalRecord:
    stem, suffix = path, path[-4:]
    if suffix in _ARRAY_SUFFIXES or (suffix == ".mat" and not os.path.lexists(path[:-4] + ".hea")):
        return read_array_file(path, options, layout)
    if suffix in _WFDB_SUFFIXES:
        stem = path[:-4]
    try:
        return read_wfdb(stem + ".hea", options)
    except RecordNotFound:
        if os.path.isfile(path) and suffix not in _WFDB_SUFFIXES:
            raise UnsupportedFormat(
                "file type is not read here; WFDB (.hea), .mat, .npy and .csv are. Read it with a library for it and "
                "make an ecg_hf.EcgRecord(signal, sampling_rate, lead_names) of the array",
                path=path,
            ) from None
        raise
