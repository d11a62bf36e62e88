"""CODE-15%: 345,779 12-lead ECGs of 233,770 patients at 400 Hz in HDF5 parts (Ribeiro et al. 2021)."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np
import numpy.typing as npt

from ecg_hf.data.schema import Entry, SourceRow
from ecg_hf.data.sources.base import (
    FOLD_OPTIONS,
    Dropped,
    FoldOptions,
    HashedSource,
    Plan,
    SourceInfo,
    is_plain_relative,
)
from ecg_hf.data.sources.filters import has_missing_samples, parse_filters, starts_with_zeros
from ecg_hf.data.sources.hdf5_parts import READ_ERRORS, open_part
from ecg_hf.data.sources.tables import identifier, read_table
from ecg_hf.data.splits import hash_fold
from ecg_hf.errors import DatasetBuildError, UnknownUnit
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.leads import STANDARD_LEADS
from ecg_hf.signal.units import millivolts_per_unit

__all__ = ["LABELS", "Code15", "parse_scale"]

TABLE = "exams.csv"
LABELS = ("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF")
"""The six published labels, as their columns are called."""

NORMAL = "normal_ecg"
FILTERS = ("nan", "zero_start")
RATE_HZ = 400.0
ZERO_START_SAMPLES = 10

FILLER_ID = "0"
"""Exam id of the all-zero row every published part ends with."""

PLAUSIBLE_MV = (0.3, 10.0)
"""Median over leads of the peak-to-peak amplitude. Read as millivolts, 90 % of 127 recordings of the dataset lie
between 1.3 and 4.4; a unit wrong by ten in either direction puts most recordings outside."""

ROWS_AT_ONCE = 64
"""Rows read in one HDF5 access: 12.6 MB as published."""

BYTES_AT_ONCE = 1 << 25
"""Fewer rows are read at once where they are longer."""

_SCALED_UNIT = re.compile(r"^\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)?\s*([^\W\d]+)\s*$")
_PART_NUMBER = re.compile(r"(\d+)\D*$")
_TRUE, _FALSE = {"true", "1", "1.0"}, {"false", "0", "0.0"}


def parse_scale(unit: str) -> float:
    """Millivolts of one stored unit, written as a voltage unit with an optional factor: ``"mV"``, ``"1e-4V"``.

    Raises:
        UnknownUnit: if the text is not of that form, or the factor is not positive and finite.
    """
    match = _SCALED_UNIT.match(unit) if isinstance(unit, str) else None
    if match is None:
        raise UnknownUnit(f"unit must look like 'mV' or '1e-4V', got {unit!r}", value=unit)
    try:
        scale = float(match[1] or 1.0) * millivolts_per_unit(match[2])
    except UnknownUnit:
        raise
    except ValueError:
        scale = math.nan
    if not 0.0 < scale < math.inf:
        raise UnknownUnit(f"unit must look like 'mV' or '1e-4V', got {unit!r}", value=unit)
    return scale


class Code15(HashedSource):
    """CODE-15% as published on Zenodo: ``exams.csv`` and ``exams_part0.hdf5`` to ``exams_part17.hdf5``.

    Samples are kept as they are stored (float32), the unit folded into the gain. Parts are read in slices of a few
    rows, in the order they are stored; rows of the table whose part is missing are counted instead of an error, so
    that a few parts can be used alone. Splits follow patients, by a hash of the patient id.

    Recordings of about seven seconds are centred in 4,096 rows of zeros: samples at the ends where all leads are
    exactly zero are trimmed, and what is left keeps its own length (mostly 2,934 or 4,096 samples); cropping
    is left to the feature extractor. Nothing else is changed; a recording without any sample is dropped.

    The unit is documented inconsistently: the authors' code says tenths of a millivolt and, in the same line, a
    factor that means millivolts; the PhysioNet Challenge 2025 took millivolts. ``unit`` decides. Taken as
    millivolts, amplitudes of the 127 recordings at hand are 1.6 times those of PTB-XL, taken as tenths a sixth.
    Recordings with an implausible amplitude under the chosen unit are noted (``amplitude_low``, ``amplitude_high``):
    when most recordings are, the unit is wrong.

    Args:
        data_dir: Folder with ``exams.csv`` and the unpacked parts.
        seed: Seed of the folds.
        train_folds: Folds (of ten) to train on.
        validation_folds: Folds to validate on.
        test_folds: Folds to test on.
        unit: What one stored unit is: ``"mV"``, ``"uV"``, ``"1e-4V"``, ``"0.5mV"`` ...
        drop: Filters, comma-separated: ``nan`` (any missing sample), ``zero_start`` (the first 10 stored rows are
            zero: leaves out the recordings of seven seconds); ``ecg-jepa`` for both.

    Differs from official code:
        ECG-JEPA keeps stored rows whole and squeezes 4,096 samples into 2,500; here the rate stays 400 Hz.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="code15",
        title="CODE-15%: 345,779 12-lead ECGs of 7 to 10 s at 400 Hz from Minas Gerais, six diagnoses",
        expects="exams.csv and at least one of exams_part0.hdf5 ... exams_part17.hdf5 (Zenodo 4916206, unpacked)",
        labels="1dAVb, RBBB, LBBB, SB, ST, AF and normal_ecg, where true",
        drops=(
            "rows of the table whose part or tracing is missing, tracings the table does not list, all-zero "
            "tracings, recordings of folds that were not selected, and what the option drop asks for"
        ),
        licence="CC BY 4.0",
        options={
            **FOLD_OPTIONS,
            "unit": "what one stored unit is, as in mV or 1e-4V (mV)",
            "drop": "nan, zero_start, ecg-jepa for both, or none (none)",
        },
    )

    def __init__(
        self,
        data_dir: Path | None,
        *,
        unit: str = "mV",
        drop: str = "none",
        **folds: Unpack[FoldOptions],
    ) -> None:
        super().__init__(data_dir, **folds)
        self.unit, self.scale_mv = unit, parse_scale(unit)
        self.drop = parse_filters(drop, FILTERS)

    def options(self) -> dict[str, Any]:
        """The options in force."""
        return {
            **super().options(),
            "unit": self.unit,
            "drop": ",".join(self.drop) or "none",
        }

    @classmethod
    def reads_to_plan(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """The table; exam ids are read from the parts where they lie."""
        return (TABLE,)

    def plan(self) -> Plan:
        """Tracings that the table lists, part by part in the order they are stored.

        Raises:
            DatasetBuildError: if the table or a part can't be understood, or all parts are missing.
        """
        exams = self._exams()
        plan = Plan()
        parts = sorted({part for part, _ in exams.values()}, key=_part_order)
        there = [part for part in parts if is_plain_relative(part) and os.path.isfile(self.data_dir / part)]
        if not there:
            raise DatasetBuildError(
                f"none of the parts that {TABLE} names exists ({', '.join(parts[:3]) or 'it names none'})",
                path=self.data_dir,
            )
        found: set[str] = set()
        for part in there:
            for row, exam_id in enumerate(self._exam_ids(part)):
                listed = exams.get(exam_id)
                if exam_id == FILLER_ID and listed is None:
                    plan.tally.drop(f"{part}#{row}", "filler_row")
                elif listed is None:
                    plan.tally.drop(exam_id, "not_in_table")
                elif exam_id in found:
                    plan.tally.drop(exam_id, "repeated_exam")
                else:
                    found.add(exam_id)
                    self._plan_exam(plan, replace(listed[1], path=f"{part}#{row}"))
        present = set(there)
        for exam_id, (part, _) in exams.items():
            if exam_id not in found:
                plan.tally.drop(exam_id, "tracing_not_there" if part in present else "part_not_there")
        return plan

    def _exam_ids(self, part: str) -> list[str]:
        """Exam ids of a part in the order of its tracings."""
        path = self.data_dir / part
        with (
            nullcontext() if self.remote is None else self.remote.open(part) as file,
            open_part(path, self.data_dir, file) as (_, ids),
        ):
            try:
                return [str(exam_id) for exam_id in ids[:].tolist()]
            except READ_ERRORS:
                raise DatasetBuildError("the exam ids can't be read", path=path) from None

    def _plan_exam(self, plan: Plan, entry: Entry) -> None:
        fold = hash_fold(entry.patient_id or entry.record_id, seed=self.seed)
        split = self.folds.split_of(fold)
        if split is None:
            plan.tally.drop(entry.record_id, "fold_not_selected")
        else:
            plan.entries.append(replace(entry, fold=fold, split=split))

    def _exams(self) -> dict[str, tuple[str, Entry]]:
        """Part and metadata of every exam of the table."""
        table = read_table(
            self.data_dir / TABLE,
            ["exam_id", "age", "is_male", "patient_id", "trace_file", *LABELS],
            optional=[NORMAL],
        )
        columns = [name for name in (*LABELS, NORMAL) if name in table.columns]
        flags = {name: table[name].astype(str).str.strip().str.lower().isin(_TRUE) for name in columns}
        # One text per row is enough: half a million rows pass through here.
        labels = zip(*(flags[name] for name in columns), strict=True)
        rows = zip(
            *(table[name] for name in ("exam_id", "age", "is_male", "patient_id", "trace_file")),
            labels,
            strict=True,
        )
        exams: dict[str, tuple[str, Entry]] = {}
        for exam, age, male, patient, part, marks in rows:
            exam_id = identifier(exam)
            if exam_id is None or exam_id in exams:
                continue
            years, notes = _age(age)
            exams[exam_id] = (
                part.strip() if isinstance(part, str) else "",
                Entry(
                    record_id=exam_id,
                    path="",
                    patient_id=identifier(patient),
                    age=years,
                    sex=_sex(male),
                    labels=tuple(name for name, mark in zip(columns, marks, strict=True) if mark),
                    notes=notes,
                ),
            )
        if not exams:
            raise DatasetBuildError("the table lists no exam", path=self.data_dir / TABLE)
        return exams

    def file_of(self, entry: Entry) -> str:
        """The part that holds the recording."""
        return entry.path.rpartition("#")[0]

    def read(self, entry: Entry) -> SourceRow | Dropped:
        """Read one recording."""
        return next(iter(self.read_many([entry])))

    def read_many(self, entries: Sequence[Entry]) -> Iterator[SourceRow | Dropped]:
        """Read recordings, a few rows of a part at a time."""
        for part, members in groupby(entries, key=lambda entry: entry.path.rpartition("#")[0]):
            with open_part(self.data_dir / part, self.data_dir) as (tracings, _):
                row_bytes = tracings.dtype.itemsize * tracings.shape[1] * tracings.shape[2]
                rows = max(1, min(ROWS_AT_ONCE, BYTES_AT_ONCE // row_bytes))
                for run in _runs(list(members), rows):
                    yield from self._read_run(tracings, run)

    def _read_run(self, tracings: Any, run: list[tuple[int, Entry]]) -> Iterator[SourceRow | Dropped]:
        """Recordings that lie close together in one part."""
        first, last = run[0][0], run[-1][0]
        try:
            block = np.asarray(tracings[first : last + 1])
        except READ_ERRORS:
            # Row by row, so that one damaged chunk does not lose its neighbours.
            for row, entry in run:
                try:
                    tracing = np.asarray(tracings[row])
                except READ_ERRORS:
                    yield Dropped(entry.record_id, "unreadable_tracing")
                else:
                    yield self._record(entry, tracing)
            return
        for row, entry in run:
            yield self._record(entry, block[row - first])

    def _record(self, entry: Entry, stored: npt.NDArray[np.floating[Any]]) -> SourceRow | Dropped:
        """One recording of its stored rows ``(samples, 12)``."""
        tracing = stored.astype(np.float32, copy=False)
        if np.isinf(tracing).any():
            return Dropped(entry.record_id, "NonFiniteSignal")
        alive = np.flatnonzero((tracing != 0).any(axis=1))
        if not alive.size:
            return Dropped(entry.record_id, "all_zero")
        notes = list(entry.notes)
        if tracing.dtype != stored.dtype and bool((tracing != stored).any()):
            notes.append("rounded_to_float32")
        padded = starts_with_zeros(tracing.T, ZERO_START_SAMPLES)
        if padded and "zero_start" in self.drop:
            return Dropped(entry.record_id, "zero_start")
        start, stop = int(alive[0]), int(alive[-1]) + 1
        if stop - start < len(tracing):
            notes.append("zero_padding_trimmed")
        samples = np.ascontiguousarray(tracing[start:stop].T)
        ecg = DigitalRecord(
            samples=samples,
            gain=np.full(len(STANDARD_LEADS), 1.0 / self.scale_mv),
            baseline=np.zeros(len(STANDARD_LEADS), np.int32),
            sampling_rate=RATE_HZ,
            lead_names=STANDARD_LEADS,
            record_id=entry.record_id,
        )
        if has_missing_samples(ecg):
            if "nan" in self.drop:
                return Dropped(entry.record_id, "missing_samples")
            notes.append("missing_samples")
        spread = np.fmax.reduce(samples, axis=1) - np.fmin.reduce(samples, axis=1)
        amplitude = float(np.nanmedian(spread)) * self.scale_mv
        if amplitude < PLAUSIBLE_MV[0]:
            notes.append("amplitude_low")
        elif amplitude > PLAUSIBLE_MV[1]:
            notes.append("amplitude_high")
        return self.check(replace(entry, notes=tuple(notes)), ecg)


def _runs(entries: Sequence[Entry], rows: int) -> Iterator[list[tuple[int, Entry]]]:
    """Entries of one part, with their rows, in runs that span at most ``rows`` rows."""
    run: list[tuple[int, Entry]] = []
    for entry in entries:
        row = int(entry.path.rpartition("#")[2])
        if run and not run[-1][0] < row < run[0][0] + rows:
            yield run
            run = []
        run.append((row, entry))
    if run:
        yield run


def _part_order(part: str) -> tuple[int, str]:
    """``exams_part10`` after ``exams_part9``."""
    match = _PART_NUMBER.search(part.removesuffix(".hdf5"))
    return (int(match[1]) if match else -1, part)


def _sex(value: object) -> str | None:
    text = str(value).strip().lower()
    return "male" if text in _TRUE else "female" if text in _FALSE else None


def _age(value: object) -> tuple[float, tuple[str, ...]]:
    try:
        age = float(str(value))
    except ValueError:
        return math.nan, ()
    if math.isnan(age):
        return math.nan, ()
    return (age, ()) if 0 <= age <= 130 else (math.nan, ("age_implausible",))
