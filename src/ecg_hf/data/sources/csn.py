"""Chapman-Shaoxing-Ningbo: 45,152 ten-second 12-lead ECGs with SNOMED CT diagnoses (Zheng et al. 2020, 2022)."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Unpack

from ecg_hf.data.schema import Entry, SourceRow
from ecg_hf.data.sources.base import (
    FOLD_OPTIONS,
    Dropped,
    FoldOptions,
    PhysioNetProject,
    Plan,
    SourceInfo,
    is_plain_relative,
)
from ecg_hf.data.sources.filters import has_missing_samples, parse_filters, starts_with_zeros
from ecg_hf.data.sources.headers import is_storable, list_recordings, printable, read_index
from ecg_hf.data.sources.tables import identifier, read_table
from ecg_hf.data.sources.wfdb_folder import HeaderSource
from ecg_hf.data.splits import hash_fold
from ecg_hf.errors import ConfigurationError, DatasetBuildError
from ecg_hf.signal.io.digital import DigitalRecord

__all__ = ["CONDITION_NAMES", "Csn", "condition_acronyms"]

RECORDINGS = "WFDBRecords"
CONDITION_NAMES = "ConditionNames_SNOMED-CT.csv"
VOCABULARIES = ("auto", "acronym", "snomed")
FILTERS = ("nan", "zero_start")

ZERO_START_SAMPLES = 15
"""Samples at 500 Hz the authors of ECG-JEPA look at: 30 ms."""


def condition_acronyms(path: Path) -> dict[str, str]:
    """SNOMED CT code -> acronym, as ``ConditionNames_SNOMED-CT.csv`` has them.

    If the table lists a code twice the first row is used, so that every code has one label. Not every code in the
    headers has a row.

    Raises:
        DatasetBuildError: if the table is missing, unreadable, lacks a column or has no usable row.
    """
    table = read_table(path, ["Acronym Name", "Snomed_CT"])
    acronyms: dict[str, str] = {}
    for acronym, code in zip(table["Acronym Name"], table["Snomed_CT"], strict=True):
        number = identifier(code)
        if number is not None and isinstance(acronym, str) and acronym.strip():
            acronyms.setdefault(number, acronym.strip())
    if not acronyms:
        raise DatasetBuildError("the table names no condition", path=path)
    return acronyms


class Csn(HeaderSource):
    """Chapman-Shaoxing-Ningbo (PhysioNet ``ecg-arrhythmia``) in its official layout.

    No patient identifier is published, so ``patient_id`` is null and intervals are over recordings; splits are drawn
    by a hash of the record's name and never change when records are added. Recordings are named as in the published
    benchmark tables (``JS00001``).

    Labels are acronyms (``AFIB``) where the published table of conditions is in the folder, SNOMED CT codes
    otherwise; ``labels`` forces one of the two, and the build report says which it was. A code the table does not
    have stays a code (note ``code_without_acronym``). :func:`condition_acronyms` translates.

    By default every readable recording is kept, because published test splits name even the two that are zero
    throughout. What a filter would drop is noted, hence counted: ``missing_samples``, ``zero_start``, ``all_flat``.

    Args:
        data_dir: Folder with ``WFDBRecords/`` and, for acronyms, ``ConditionNames_SNOMED-CT.csv``.
        seed: Seed of the folds.
        train_folds: Folds (of ten) to train on.
        validation_folds: Folds to validate on.
        test_folds: Folds to test on.
        labels: ``"auto"``, ``"acronym"`` or ``"snomed"``.
        drop: Filters, comma-separated: ``nan`` (any sample declared missing), ``zero_start`` (the first 15
            samples of all leads are 0 mV); ``ecg-jepa`` for both, as ECG-JEPA's pretraining data were chosen.

    Differs from official code:
        ECG-JEPA looks at its eight leads only; the other four follow from them, so all twelve are looked at here.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="csn",
        title="Chapman-Shaoxing-Ningbo 1.0.0: 45,152 ten-second 12-lead ECGs with SNOMED CT diagnoses",
        expects="the folder WFDBRecords/ and ConditionNames_SNOMED-CT.csv, as published (ecg-arrhythmia)",
        labels="acronyms of the published table if it exists (else SNOMED CT codes)",
        drops=(
            "names in RECORDS without a header, recordings of folds that were not selected, unreadable ones, "
            "and what the option drop asks for"
        ),
        licence="CC BY 4.0",
        options={
            **FOLD_OPTIONS,
            "labels": "acronym, snomed, or auto: acronyms if the table exists (auto)",
            "drop": "nan, zero_start, ecg-jepa for both, or none (none)",
        },
        physionet=PhysioNetProject(
            slug="ecg-arrhythmia",
            version="1.0.0",
            subsets={"tables": ("*.csv", "*.txt", "RECORDS")},
        ),
    )

    def __init__(
        self,
        data_dir: Path | None,
        *,
        labels: str = "auto",
        drop: str = "none",
        **folds: Unpack[FoldOptions],
    ) -> None:
        super().__init__(data_dir, **folds)
        if labels not in VOCABULARIES:
            raise ConfigurationError(f"labels must be one of {', '.join(VOCABULARIES)}, got {labels!r}")
        self.drop = parse_filters(drop, FILTERS)
        table = self.data_dir / CONDITION_NAMES
        if labels == "snomed" or (labels == "auto" and not table.is_file()):
            self.acronyms: dict[str, str] | None = None
        else:
            self.acronyms = condition_acronyms(table)

    def options(self) -> dict[str, Any]:
        """The options in force; ``labels`` is resolved to the vocabulary used."""
        return {
            **super().options(),
            "labels": "snomed" if self.acronyms is None else "acronym",
            "drop": ",".join(self.drop) or "none",
        }

    @classmethod
    def reads_to_plan(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Headers, indices, and the names of conditions."""
        return ("*.hea", "*RECORDS", CONDITION_NAMES)

    def plan(self) -> Plan:
        """Records named in each folder's ``RECORDS``, or every header of folders that have none."""
        if not (self.data_dir / RECORDINGS).is_dir():
            raise DatasetBuildError(f"no folder {RECORDINGS}/", path=self.data_dir)
        plan = Plan()
        listing = list_recordings(self.data_dir / RECORDINGS, plan.tally)
        found: dict[str, dict[str, str]] = {}
        for path in listing.names:
            place, _, name = path.rpartition("/")
            # As published, two folders deep. Headers elsewhere belong to something else.
            if place.count("/") == 1:
                found.setdefault(f"{RECORDINGS}/{place}", {})[name] = listing.key(path).rpartition("/")[2]
            else:
                plan.tally.drop(f"{RECORDINGS}/{path}", "not_in_a_known_folder")
        self._count_missing_folders(plan, found)
        segments = {f"{RECORDINGS}/{path}" for path in listing.headers.difference(listing.names)}
        seen: set[str] = set()
        for folder, headers in sorted(found.items()):
            index = self.data_dir / folder / "RECORDS"
            for name in read_index(index) if index.is_file() else sorted(headers):
                fold = hash_fold(headers.get(name, name), seed=self.seed)
                split = self.folds.split_of(fold)
                if f"{folder}/{name}" in segments:
                    continue  # counted by the listing
                if not is_storable(name):
                    plan.tally.drop(printable(name), "odd_name")
                elif not is_plain_relative(name) or "/" in name:
                    plan.tally.drop(name, "UnsafePath")
                elif name not in headers:
                    plan.tally.drop(name, "file_not_there")
                elif name in seen:
                    plan.tally.drop(f"{folder}/{name}", "repeated_name")
                elif split is None:
                    plan.tally.drop(name, "fold_not_selected")
                else:
                    seen.add(name)
                    plan.entries.append(Entry(name, f"{folder}/{name}", fold=fold, split=split))
        return plan

    def _count_missing_folders(self, plan: Plan, there: Container[str]) -> None:
        """Count folders that only ``RECORDS`` knows (a partial download)."""
        index = self.data_dir / "RECORDS"
        listed = read_index(index) if index.is_file() else []
        for folder in (line.rstrip("/") for line in listed if line.endswith("/")):
            if folder not in there:
                plan.tally.drop(f"{printable(folder)}/", "folder_not_there")

    def read(self, entry: Entry) -> SourceRow | Dropped:
        """Samples, and the metadata in the header's comments."""
        row = super().read(entry)
        if isinstance(row, SourceRow) and self.acronyms is not None:
            known = self.acronyms
            labels = tuple(dict.fromkeys(known.get(code, code) for code in row.entry.labels))
            notes = row.entry.notes
            if any(code not in known for code in row.entry.labels):
                notes = (*notes, "code_without_acronym")
            row.entry = replace(row.entry, labels=labels, notes=notes)
        return row

    def check(self, entry: Entry, ecg: DigitalRecord) -> SourceRow | Dropped:
        """What the filters say: dropped if asked for, noted if not."""
        found = {
            "nan": has_missing_samples(ecg),
            "zero_start": starts_with_zeros(ecg.samples, ZERO_START_SAMPLES, ecg.baseline),
        }
        for name in self.drop:
            if found[name]:
                return Dropped(entry.record_id, NOTES[name])
        notes = tuple(NOTES[name] for name, true in found.items() if true)
        return super().check(replace(entry, notes=(*entry.notes, *notes)) if notes else entry, ecg)


NOTES = {"nan": "missing_samples", "zero_start": "zero_start"}
"""The name of a finding in the report."""
