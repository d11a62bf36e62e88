"""Annotated waves in milliseconds, and the recordings they belong to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ecg_hf.data.sources.ludb import read_ludb_delineations
from ecg_hf.errors import ConfigurationError, DatasetBuildError
from ecg_hf.signal.io.reading import read_record
from ecg_hf.signal.record import EcgRecord

__all__ = ["WAVES", "AnnotatedRecord", "Delineation", "WaveTimes", "annotated_span", "read_ludb"]

FloatArray = npt.NDArray[np.float64]

WAVES = ("P", "QRS", "T")
"""Waves in the order of their class numbers 1, 2, 3; 0 is background."""

LUDB_RATE_HZ = 500.0


@dataclass(frozen=True, slots=True, eq=False)
class WaveTimes:
    """Waves of one kind in one lead, in order of time. NaN stands for a boundary that is not known.

    Attributes:
        onset: float64 ``(waves,)``: milliseconds from the first sample of the recording.
        peak: Likewise.
        offset: Likewise; the last moment of the wave.
    """

    onset: FloatArray
    peak: FloatArray
    offset: FloatArray

    def __post_init__(self) -> None:
        """Check that the parts are equally long."""
        if not self.onset.shape == self.peak.shape == self.offset.shape or self.onset.ndim != 1:
            raise ConfigurationError(
                f"onset {self.onset.shape}, peak {self.peak.shape}, offset {self.offset.shape} must be equally long",
                value=self.peak.shape,
            )

    def __len__(self) -> int:
        return len(self.peak)


Delineation = Mapping[str, Mapping[str, WaveTimes]]
"""Lead -> wave (``"P"``, ``"QRS"``, ``"T"``) -> times. A lead or wave that is absent has nothing marked."""


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedRecord:
    """A recording with its manual delineation.

    Attributes:
        record: Signal in millivolts, with ``record_id`` and ``patient_id``.
        delineation: Annotated waves of every lead.
    """

    record: EcgRecord
    delineation: Delineation


def annotated_span(waves: Mapping[str, WaveTimes]) -> tuple[float, float] | None:
    """First and last mark (ms) of one lead over all its waves; None if nothing is marked.

    LUDB leaves the first and last beats of every recording unmarked: what a delineator finds before the first mark or
    behind the last one is neither right nor wrong.
    """
    marks = [np.concatenate([w.onset, w.peak, w.offset]) for w in waves.values()]
    known = np.concatenate(marks) if marks else np.zeros(0)
    known = known[np.isfinite(known)]
    return (float(known.min()), float(known.max())) if known.size else None


def read_ludb(
    data_dir: str | os.PathLike[str], record_ids: Sequence[str] | None = None
) -> list[AnnotatedRecord]:
    """Recordings of LUDB with their annotations.

    Args:
        data_dir: Folder of LUDB, with ``data/1.hea``, ``data/1.i`` ...
        record_ids: Names of the recordings; by default all that are there, by number.

    Raises:
        DatasetBuildError: if there is no recording.
        EcgError: if one can't be read.
    """
    root = Path(data_dir)
    folder = root / "data" if (root / "data").is_dir() else root
    if record_ids is None:
        names = [file.stem for file in folder.glob("*.hea")]
        record_ids = sorted(names, key=lambda name: (len(name), name))
    if not record_ids:
        raise DatasetBuildError("no recordings of LUDB here", path=root)
    return [_read_one(root, folder, name) for name in record_ids]


def _read_one(root: Path, folder: Path, name: str) -> AnnotatedRecord:
    marks = read_ludb_delineations(root, name)
    record = read_record(folder / name, root=root)
    named = EcgRecord(record.signal, record.sampling_rate, record.lead_names, record_id=name, patient_id=name)
    return AnnotatedRecord(
        named,
        {
            lead: {
                wave: WaveTimes(*(_milliseconds(part) for part in (found.onset, found.peak, found.offset)))
                for wave, found in waves.items()
            }
            for lead, waves in marks.items()
        },
    )


def _milliseconds(samples: npt.NDArray[np.int64]) -> FloatArray:
    return np.where(samples >= 0, samples * (1000.0 / LUDB_RATE_HZ), np.nan)
