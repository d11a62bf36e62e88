"""One door for every kind of file: :func:`read_record` in millivolts, :func:`read_digital` as stored."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ecg_hf.errors import EcgError, RecordNotFound, UnsupportedFormat
from ecg_hf.signal.array_files import read_array_file
from ecg_hf.signal.digital import DigitalRecord
from ecg_hf.signal.paths import local_path
from ecg_hf.signal.quality import check_quality
from ecg_hf.signal.record import EcgRecord
from ecg_hf.signal.wfdb_record import read_wfdb

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
    ``sampling_rate``, ``unit`` and ``lead_names`` (a CSV may name its columns instead).

    Args:
        path: The record, with or without ``.hea``, ``.dat`` or ``.mat``; or a ``.npy`` or ``.csv`` file.
        sampling_rate: Hertz, where the file does not say. Contradicting the file is an error.
        lead_names: One name per lead, where the file does not say.
        unit: Voltage unit, where the file does not say.
        layout: ``"leads_first"`` or ``"samples_first"`` for bare arrays; inferred where unambiguous.
        verify_checksum: Compare each lead's samples with the checksum in the header.
        root: Folder that neither the path nor any link may leave. Without it, links may not leave the
            record's own folder.
        max_samples: Most values (leads times samples) to accept.
        thorough: Run the slower quality checks too (see :func:`~ecg_hf.signal.quality.check_quality`).

    Returns:
        Float32 millivolts ``(leads, samples)``; ``notes`` say what was assumed or looks odd.

    Raises:
        EcgError: in one of its subclasses, and nothing else, for whatever is wrong with the file.

    Example:
        >>> record = read_record("records500/00000/00001_hr")  # doctest: +SKIP
        >>> record.signal.shape, record.sampling_rate, record.lead_names[:4]  # doctest: +SKIP
        ((12, 5000), 500.0, ('I', 'II', 'III', 'aVR'))
    """
    digital = _read(path, sampling_rate, lead_names, unit, layout, verify_checksum, root, max_samples)
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
    unit: str | None = None,
    layout: str | None = None,
    verify_checksum: bool = True,
    root: str | os.PathLike[str] | None = None,
    max_samples: int = MAX_SAMPLES,
) -> DigitalRecord:
    """Read one recording as stored: exact digital samples with gain and baseline, no quality checks.

    Arguments and errors are those of :func:`read_record`.
    """
    return _read(path, sampling_rate, lead_names, unit, layout, verify_checksum, root, max_samples)


def _read(
    path: str | os.PathLike[str],
    sampling_rate: float | None,
    lead_names: Sequence[str] | None,
    unit: str | None,
    layout: str | None,
    verify_checksum: bool,
    root: str | os.PathLike[str] | None,
    max_samples: int,
) -> DigitalRecord:
    text = local_path(path)
    stem, suffix = text, text[-4:]
    if suffix in _ARRAY_SUFFIXES or (suffix == ".mat" and not os.path.lexists(text[:-4] + ".hea")):
        return read_array_file(
            text,
            sampling_rate=sampling_rate,
            lead_names=lead_names,
            unit=unit,
            layout=layout,
            root=root,
            max_samples=max_samples,
        )
    if suffix in _WFDB_SUFFIXES:
        stem = text[:-4]
    try:
        return read_wfdb(
            stem + ".hea",
            sampling_rate=sampling_rate,
            lead_names=lead_names,
            unit=unit,
            verify_checksum=verify_checksum,
            root=root,
            max_samples=max_samples,
        )
    except RecordNotFound:
        if os.path.isfile(text) and suffix not in _WFDB_SUFFIXES:
            raise UnsupportedFormat(
                "file type is not read here; WFDB (.hea), .mat, .npy and .csv are", path=text
            ) from None
        raise
    except EcgError as error:
        error.path = error.path or text
        raise
