"""One door for every kind of file: :func:`read_record` in millivolts, :func:`read_digital` as stored."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

from ecg_hf.errors import ConfigurationError, EcgError, HeaderError, RecordNotFound, UnsupportedFormat
from ecg_hf.signal.io.apple_health import is_apple_health, read_apple_health
from ecg_hf.signal.io.array_files import MATLAB_MAGIC, NPY_MAGIC, read_array_file
from ecg_hf.signal.io.containers import container_reader
from ecg_hf.signal.io.csv_files import read_csv, text_lines
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.io.sources import Source, open_source
from ecg_hf.signal.io.wfdb_objects import is_wfdb_record, read_wfdb_record
from ecg_hf.signal.io.wfdb_segments import read_wfdb
from ecg_hf.signal.leads import is_frank_lead, is_modified_lead
from ecg_hf.signal.quality import check_quality
from ecg_hf.signal.record import EcgRecord, Note

if TYPE_CHECKING:
    import wfdb

__all__ = ["MAX_SAMPLES", "read_digital", "read_record"]

MAX_SAMPLES = 1 << 28
"""Most values (leads times samples) one record may have; 13 hours of 12 leads at 500 Hz."""

_WFDB_SUFFIXES = (".hea", ".dat", ".mat")
_WFDB_HEADER = re.compile(rb"^(?:#[^\n]*\n)*[\w./-]+ \d+[^\n]*\n[^\n]*\.(?:dat|mat) ", re.M)


def read_record(
    path: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | wfdb.Record,
    *,
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    leads: Sequence[str] | None = None,
    units: str | None = None,
    unit: str | None = None,
    layout: str | None = None,
    verify_checksum: bool = True,
    root: str | os.PathLike[str] | None = None,
    max_samples: int = MAX_SAMPLES,
    thorough: bool = False,
) -> EcgRecord:
    """Read one recording; its content says which format it is of, its name does not matter.

    WFDB records (any storage format, multi-segment ones too), Challenge ``.mat`` + ``.hea`` pairs, HL7 aECG, GE MUSE,
    Philips Sierra, Schiller and Mortara XML, ISHNE, Kardia ATC and Apple Health exports describe themselves. So do
    DICOM waveforms, EDF and BDF (``pip install 'ecg-hf[clinical]'``) and SCP-ECG (``'ecg-hf[scp]'``). ``.npy``,
    ``.csv`` and ``.mat`` files without a header do not: they need ``sampling_rate``, ``units`` and ``lead_names``,
    except for what a CSV says in its column names, unit row or time column.

    Leads come as stored and in stored order; the eight of a MUSE file stay eight. Median and average beats are left
    out. Signals that are not voltages (pressures), or are named as something else (EEG, respiration), are left out
    with a note unless ``leads`` asks for them. Leads of several rates come at the highest. Nothing of a person is
    read: names, dates and numbers reach neither the record nor its notes nor an error.

    Args:
        path: A file (a WFDB record with or without ``.hea``, ``.dat`` or ``.mat``); the content of one as bytes; a
            binary file object; or a ``wfdb.Record``.
        sampling_rate: Hertz, where the file does not say. Contradicting the file is an error.
        lead_names: One name per lead, where the file does not say: for absent, repeated (``ECG``, ``ECG``) or generic
            names (``ECG1``). Contradicting any other name in the file is an error.
        leads: Leads to read, in this order; all by default.
        units: Voltage unit, where the file does not say. Contradicting the file is an error.
        unit: Another name of ``units``.
        layout: ``"leads_first"`` or ``"samples_first"`` for bare arrays; inferred where unambiguous.
        verify_checksum: Compare samples with the checksums (and initial values) that WFDB headers, MUSE leads and ATC
            blocks state.
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
    unit = _one_unit(units, unit)
    options = ReadOptions(sampling_rate, lead_names, leads, unit, verify_checksum, root, max_samples)
    digital = _read(path, options, layout)
    try:
        record = digital.to_record()
    except EcgError as error:
        error.path = _name(path)
        raise
    quality = check_quality(record.signal, record.sampling_rate, record.lead_names, thorough=thorough)
    return record.with_notes(*quality) if quality else record


def read_digital(
    path: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | wfdb.Record,
    *,
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    leads: Sequence[str] | None = None,
    units: str | None = None,
    unit: str | None = None,
    layout: str | None = None,
    verify_checksum: bool = True,
    root: str | os.PathLike[str] | None = None,
    max_samples: int = MAX_SAMPLES,
) -> DigitalRecord:
    """Read one recording as stored: exact digital samples with gain and baseline, no quality checks.

    Samples are float32 millivolts where leads of several rates or segments were put together, or where the value of
    0 mV lies between two digital values.

    Arguments and errors are those of :func:`read_record`.
    """
    unit = _one_unit(units, unit)
    options = ReadOptions(sampling_rate, lead_names, leads, unit, verify_checksum, root, max_samples)
    record = _read(path, options, layout)
    flags = record.samples.flags
    # A view of the file's bytes would do for a conversion to millivolts, not for keeping.
    return (
        record
        if flags.c_contiguous and flags.writeable
        else replace(record, samples=record.samples.copy("C"))
    )


def _one_unit(units: str | None, unit: str | None) -> str | None:
    if units is not None and unit is not None and units != unit:
        raise ConfigurationError(
            f"units {units!r:.40} and unit {unit!r:.40} differ; pass units alone", value=units
        )
    return unit if units is None else units


def _name(source: object) -> str | None:
    """The path to name in errors, None for what has none."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else None


def _read(source: object, options: ReadOptions, layout: str | None) -> DigitalRecord:
    try:
        if is_wfdb_record(source):
            record = read_wfdb_record(source, options)
        else:
            record = _read_opened(open_source(source, options), layout)
    except EcgError as error:
        error.path = error.path or _name(source)
        raise
    notes = _lead_notes(record.lead_names)
    return replace(record, notes=(*record.notes, *notes)) if notes else record


@lru_cache(maxsize=1024)
def _lead_notes(names: tuple[str, ...]) -> tuple[Note, ...]:
    """A note on each lead that resembles a standard lead and is kept under its own name."""
    notes = []
    for name in names:
        if is_modified_lead(name):
            detail = "a modified lead: kept under its name, never used as a standard lead"
            notes.append(Note("lead_modified", detail, name))
        elif is_frank_lead(name):
            detail = "an orthogonal (Frank) lead: kept under its name, never used as a standard lead"
            notes.append(Note("lead_frank", detail, name))
    return tuple(notes)


def _read_opened(source: Source, layout: str | None) -> DigitalRecord:
    path = source.path
    if path is None:
        return _read_content(source, layout)
    suffix = path[-4:]
    header = (path[:-4] if suffix in _WFDB_SUFFIXES else path) + ".hea"
    try:
        return read_wfdb(header, source.options)
    except RecordNotFound:
        if os.path.lexists(header) or not os.path.isfile(path):
            raise
    except HeaderError:
        # Any format may come under any name.
        if not os.path.isfile(path) or not _describes_itself(source.head()):
            raise
    return _read_content(source, layout)


def _describes_itself(head: bytes) -> bool:
    return container_reader(head) is not None or _is_apple_health(head)


def _is_apple_health(head: bytes) -> bool:
    return b"\0" not in head and is_apple_health(head.decode("utf-8", "replace").splitlines())


def _read_content(source: Source, layout: str | None) -> DigitalRecord:
    head = source.head()
    reader = container_reader(head)
    if reader is not None:
        return reader(source.content(), source.options, source.record_id)
    if _is_apple_health(head):
        return read_apple_health(text_lines(source.content()), source.options, source.record_id)
    if head.startswith(NPY_MAGIC) or source.suffix == ".npy":
        return read_array_file(source, "npy", layout)
    if head.startswith(MATLAB_MAGIC) or source.suffix == ".mat":
        return read_array_file(source, "mat", layout)
    if _WFDB_HEADER.search(head):
        raise UnsupportedFormat("this is the header of a WFDB record, which is several files: give its path")
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnsupportedFormat(
            "file type is not read here; WFDB, DICOM, EDF, SCP-ECG, ISHNE, ATC, ECG XML, .mat, .npy and .csv are. "
            "Read it with its own library and make an ecg_hf.EcgRecord(signal, sampling_rate, lead_names) of it"
        )
    return read_csv(text_lines(source.content()), source.options, layout, source.record_id)
