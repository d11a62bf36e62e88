"""LUDB: 200 ten-second 12-lead ECGs with P, QRS and T delineated lead by lead (Kalyakulina et al. 2020)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ecg_hf.data.schema import Entry, SourceRow
from ecg_hf.data.sources.base import FOLD_OPTIONS, Dropped, HashedSource, PhysioNetProject, Plan, SourceInfo
from ecg_hf.data.sources.headers import find_headers
from ecg_hf.data.sources.ptbxl import OVER_89
from ecg_hf.data.sources.tables import identifier, read_table
from ecg_hf.data.splits import hash_fold
from ecg_hf.errors import DatasetBuildError, EcgError, RecordNotFound, UnsafePath
from ecg_hf.signal.io.wfdb_annotations import read_annotations
from ecg_hf.signal.leads import STANDARD_LEADS

__all__ = ["LUDB_LABEL_COLUMNS", "WAVES", "Ludb", "Wave", "read_ludb_delineations"]

TABLE = "ludb.csv"
FOLDER = "data"

LUDB_LABEL_COLUMNS = (
    "Rhythms",
    "Electric axis of the heart",
    "Conduction abnormalities",
    "Extrasystolies",
    "Hypertrophies",
    "Cardiac pacing",
    "Ischemia",
    "Non-specific repolarization abnormalities",
    "Other states",
)
"""Columns of ``ludb.csv`` with diagnoses, in its order."""

WAVES: dict[str, str] = {"p": "P", "N": "QRS", "t": "T"}
"""Annotation symbol -> wave."""

PEAK_LEAD = "II"


@dataclass(frozen=True, slots=True, eq=False)
class Wave:
    """The marked waves of one kind in one lead, in order of time.

    Attributes:
        onset: int64 ``(waves,)`` samples at 500 Hz; -1 where no onset was marked.
        peak: int64 ``(waves,)`` samples.
        offset: int64 ``(waves,)`` samples; -1 where no end was marked.
    """

    onset: npt.NDArray[np.int64]
    peak: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.peak)


def read_ludb_delineations(
    data_dir: str | os.PathLike[str], record_id: str
) -> Mapping[str, Mapping[str, Wave]]:
    """Delineations of one recording of LUDB, which have no column in a built dataset.

    The first and last beats of a recording are not annotated: score only between the first and the last mark.

    Args:
        data_dir: The folder of LUDB, with ``data/1.i``, ``data/1.ii`` ...
        record_id: Its name, as in the ``record_id`` column: ``"1"`` to ``"200"``.

    Returns:
        Lead (``"I"`` ... ``"V6"``) -> wave (``"P"``, ``"QRS"``, ``"T"``) -> onsets, peaks and offsets in samples at
        500 Hz. All twelve leads and three waves are present; a wave that was never marked has length 0.

    Raises:
        RecordNotFound: if a lead has no annotation file.
        TruncatedSignal: if one ends too early.
        UnsafePath: if ``record_id`` is not a plain name.
    """
    if not record_id.isalnum():
        raise UnsafePath(f"{record_id!r} is not a name of a recording", value=record_id)
    root = Path(data_dir)
    stem = root / FOLDER / record_id
    if not stem.with_suffix(".hea").is_file() and root.joinpath(f"{record_id}.hea").is_file():
        stem = root / record_id
    return {lead: _waves(*read_annotations(f"{stem}.{lead.lower()}", root=root)) for lead in STANDARD_LEADS}


def _waves(samples: npt.NDArray[np.int64], symbols: tuple[str, ...]) -> dict[str, Wave]:
    """Peaks with the brackets directly before and after them; a peak without one has -1 there."""
    found: dict[str, list[tuple[int, int, int]]] = {wave: [] for wave in WAVES.values()}
    at = samples.tolist()
    for i, symbol in enumerate(symbols):
        if symbol not in WAVES:
            continue
        onset = at[i - 1] if i and symbols[i - 1] == "(" else -1
        offset = at[i + 1] if i + 1 < len(at) and symbols[i + 1] == ")" else -1
        found[WAVES[symbol]].append((onset, at[i], offset))
    return {
        wave: Wave(*np.array(sorted(rows, key=lambda row: row[1]), np.int64).reshape(-1, 3).T)
        for wave, rows in found.items()
    }


class Ludb(HashedSource):
    """Lobachevsky University Electrocardiography Database 1.0.1 in its official layout.

    Labels are the phrases of ``ludb.csv`` (``"Sinus rhythm"``, ``"Left ventricular hypertrophy"``), those of its nine
    columns one after the other. ``r_peaks`` are the QRS marks of lead II; the first and last beats of a recording
    are not annotated. Onsets, peaks and offsets of every wave in every lead are read by
    :func:`read_ludb_delineations`.

    One recording per patient; splits are drawn by a hash of the recording's number.

    Args:
        data_dir: Folder with ``ludb.csv`` and ``data/``.
        seed: Seed of the folds.
        train_folds: Folds (of ten) to train on.
        validation_folds: Folds to validate on.
        test_folds: Folds to test on.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="ludb",
        title="LUDB 1.0.1: 200 ten-second 12-lead ECGs at 500 Hz with P, QRS and T delineated in every lead",
        expects="ludb.csv and the folder data/ with .hea, .dat and annotation files (.i ... .v6), as published",
        labels="diagnosis phrases of ludb.csv (rhythm, axis, conduction, extrasystoles, hypertrophy, ischemia ...)",
        drops="rows whose files are missing, recordings of folds that were not selected, unreadable recordings",
        licence="ODC-By 1.0",
        options=FOLD_OPTIONS,
        physionet=PhysioNetProject(slug="ludb", version="1.0.1"),
    )

    @classmethod
    def reads_to_plan(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """The table."""
        return (TABLE,)

    def plan(self) -> Plan:
        """Rows of ``ludb.csv`` whose recordings exist, in its order."""
        table = read_table(self.data_dir / TABLE, ["ID", "Sex", "Age", *LUDB_LABEL_COLUMNS])
        plan = Plan()
        there = set(find_headers(self.data_dir, plan.tally))
        for row in table.to_dict("records"):
            name = identifier(row["ID"]) or ""
            path = f"{FOLDER}/{name}"
            fold = hash_fold(name, seed=self.seed)
            split = self.folds.split_of(fold)
            if path not in there:
                plan.tally.drop(name, "file_not_there")
            elif split is None:
                plan.tally.drop(name, "fold_not_selected")
            else:
                age, notes = _age(row["Age"])
                plan.entries.append(
                    Entry(
                        record_id=name,
                        path=path,
                        patient_id=name,
                        age=age,
                        sex={"F": "female", "M": "male"}.get(str(row["Sex"]).strip()),
                        labels=_phrases(row),
                        fold=fold,
                        split=split,
                        notes=notes,
                    )
                )
        if not plan.entries and not plan.tally.dropped:
            raise DatasetBuildError("the table lists no recording", path=self.data_dir / TABLE)
        return plan

    def read(self, entry: Entry) -> SourceRow | Dropped:
        """Samples, and the R peaks of lead II; without annotations the recording is kept and noted."""
        row = self.check(entry, self.read_samples(entry))
        if isinstance(row, SourceRow):
            path = self.data_dir / f"{entry.path}.{PEAK_LEAD.lower()}"
            try:
                peaks = _waves(*read_annotations(path, root=self.data_dir))["QRS"].peak
            except RecordNotFound:
                note = "annotations_not_there"
            except EcgError:
                note = "annotations_unreadable"
            else:
                inside = (peaks >= 0) & (peaks < row.ecg.samples.shape[1])
                row.r_peaks = peaks[inside]
                note = "" if inside.all() else "annotations_outside_signal"
            if note:
                row.entry = replace(row.entry, notes=(*row.entry.notes, note))
        return row


def _phrases(row: Mapping[Any, Any]) -> tuple[str, ...]:
    """Phrases of all diagnosis columns, each once; a cell has one per line."""
    cells = (row[column] for column in LUDB_LABEL_COLUMNS)
    lines = (line.strip() for cell in cells if isinstance(cell, str) for line in cell.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line))


def _age(value: object) -> tuple[float, tuple[str, ...]]:
    """Years; ``>89`` is stored as 90 and counted."""
    text = str(value).strip()
    if text.startswith(">"):
        return OVER_89, ("age_over_89",)
    try:
        age = float(text)
    except ValueError:
        return math.nan, ()
    return (age, ()) if 0 <= age <= 120 else (math.nan, ("age_implausible",))
