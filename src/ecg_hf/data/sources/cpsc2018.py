"""CPSC 2018: 6,877 12-lead ECGs of 6 to 60 s with nine classes (Liu et al. 2018), in both published layouts."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Unpack

from ecg_hf.data.label_groups import CPSC_CLASSES, CPSC_SNOMED
from ecg_hf.data.schema import Entry, SourceRow
from ecg_hf.data.sources.base import FOLD_OPTIONS, Dropped, FoldOptions, Plan, SourceInfo
from ecg_hf.data.sources.headers import Listing, list_recordings
from ecg_hf.data.sources.tables import identifier, read_table
from ecg_hf.data.sources.wfdb_folder import HeaderSource
from ecg_hf.data.splits import hash_fold
from ecg_hf.errors import ConfigurationError, DatasetBuildError
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.reading import read_digital
from ecg_hf.signal.leads import STANDARD_LEADS

__all__ = ["Cpsc2018"]

VOCABULARIES = ("name", "snomed")
FOLDS_BY = ("hash", "group")
RATE_HZ = 500.0

_NAME = re.compile(r"^A\d{4}$")
_GROUP = re.compile(r"(?:^|/)g([1-9])/")


class Cpsc2018(HeaderSource):
    """The public training set of the China Physiological Signal Challenge 2018.

    Two layouts are read: the original one (``REFERENCE*.csv`` and ``A0001.mat`` ... with
    float64 millivolts, stored as float32), and the ``cpsc_2018`` folder of the PhysioNet Challenges 2020 and 2021
    (``.mat`` with ``.hea``, int16 microvolts; groups ``g1`` to ``g7`` or flat). Names, hence folds, are the same in
    both (``A0001``), and so are labels: up to three of nine per recording. Headers of other recordings
    below the folder are counted and ignored.

    No patient is known, so ``patient_id`` is null; splits are drawn by a hash of the name.

    Args:
        data_dir: The folder.
        seed: Seed of the folds.
        train_folds: Folds (of ten) to train on.
        validation_folds: Folds to validate on.
        test_folds: Folds to test on.
        labels: ``"name"`` for the spelling of MERL's label files (``CRBBB``), ``"snomed"`` for codes.
        fold_by: ``"hash"``, or ``"group"`` for the number of the Challenge's folder (``g7``: 7), by which ECG-JEPA
            splits; choose the folds to match.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="cpsc2018",
        title="CPSC 2018: 6,877 12-lead ECGs of 6 to 60 s at 500 Hz, nine classes",
        expects="REFERENCE*.csv and A0001.mat ... as published, or the Challenges' cpsc_2018 folder (.mat with .hea)",
        labels="NORM, AFIB, 1AVB, CLBBB, CRBBB, PAC, VPC, STD, STE (or their SNOMED CT codes)",
        drops=(
            "rows of the table without a recording and recordings without a row, headers of other sets, recordings "
            "of folds that were not selected, unreadable ones"
        ),
        licence="CC BY 4.0 (as part of the PhysioNet Challenges)",
        options={
            **FOLD_OPTIONS,
            "labels": "name or snomed (name)",
            "fold_by": "hash of the name, or group: number of the Challenge's folder g1-g7 (hash)",
        },
    )

    def __init__(
        self,
        data_dir: Path | None,
        *,
        labels: str = "name",
        fold_by: str = "hash",
        **folds: Unpack[FoldOptions],
    ) -> None:
        super().__init__(data_dir, **folds)
        if labels not in VOCABULARIES:
            raise ConfigurationError(
                f"labels must be one of {', '.join(VOCABULARIES)}, got {labels!r}", value=labels
            )
        if fold_by not in FOLDS_BY:
            raise ConfigurationError(
                f"fold_by must be one of {', '.join(FOLDS_BY)}, got {fold_by!r}", value=fold_by
            )
        self.labels, self.fold_by = labels, fold_by
        self.tables = sorted([*self.data_dir.glob("REFERENCE*.csv"), *self.data_dir.glob("*/REFERENCE*.csv")])
        if fold_by == "group" and self.tables:
            raise ConfigurationError("fold_by=group needs the Challenge's folders g1 to g7", value=fold_by)

    def options(self) -> dict[str, Any]:
        """The options in force, and which layout was found."""
        return {
            **super().options(),
            "labels": self.labels,
            "fold_by": self.fold_by,
            "layout": "original" if self.tables else "challenge",
        }

    @classmethod
    def reads_to_plan(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Tables and headers."""
        return ("REFERENCE*.csv", "*/REFERENCE*.csv", "*.hea")

    def plan(self) -> Plan:
        """Recordings of the tables, or headers with a name of this set, sorted by name.

        Raises:
            DatasetBuildError: if the folder has neither a table nor such a header.
        """
        plan = Plan()
        listing = None if self.tables else list_recordings(self.data_dir, plan.tally)
        entries = self._original(plan) if listing is None else self._challenge(plan, listing)
        for entry in sorted(entries, key=lambda entry: entry.record_id):
            key = entry.path if listing is None else listing.key(entry.path)
            fold = self._fold(entry, key.rpartition("/")[2])
            split = None if fold is None else self.folds.split_of(fold)
            if fold is None:
                plan.tally.drop(entry.record_id, "no_group_folder")
            elif split is None:
                plan.tally.drop(entry.record_id, "fold_not_selected")
            else:
                plan.entries.append(replace(entry, fold=fold, split=split))
        return plan

    def _fold(self, entry: Entry, key: str) -> int | None:
        if self.fold_by == "hash":
            return hash_fold(key, seed=self.seed)
        group = _GROUP.search(entry.path)
        return int(group[1]) if group else None

    def _challenge(self, plan: Plan, listing: Listing) -> list[Entry]:
        entries: dict[str, Entry] = {}
        for path in listing.names:
            name = path.rpartition("/")[2]
            if not _NAME.match(name):
                plan.tally.drop(path, "other_dataset")
            elif name in entries:
                plan.tally.drop(path, "repeated_name")
            else:
                entries[name] = Entry(name, path)
        if not entries:
            raise DatasetBuildError(
                "neither a REFERENCE*.csv nor a header named like A0001.hea", path=self.data_dir
            )
        return list(entries.values())

    def _original(self, plan: Plan) -> list[Entry]:
        files = _matlab_files(self.data_dir)
        entries: dict[str, Entry] = {}
        absent: set[str] = set()
        for path in self.tables:
            table = read_table(
                path,
                ["Recording", "First_label"],
                optional=["Second_label", "Third_label", "sex", "age"],
            )
            for row in table.to_dict("records"):
                name = identifier(row["Recording"]) or ""
                labels = _classes(row)
                if name in entries:
                    # The validation table names recordings of the training set again.
                    if entries[name].labels != labels:
                        entries[name] = replace(entries[name], notes=("tables_disagree",))
                elif name not in files:
                    absent.add(name)
                elif not labels:
                    plan.tally.drop(name, "labels_unreadable")
                else:
                    entries[name] = Entry(name, files[name], age=_age(row), sex=_sex(row), labels=labels)
        for name in sorted(absent):
            plan.tally.drop(name, "file_not_there")
        for name in sorted(files.keys() - entries.keys()):
            plan.tally.drop(name, "not_in_table")
        return list(entries.values())

    def read_samples(self, entry: Entry) -> DigitalRecord:
        """Samples of a header's record, or of a bare MATLAB file of this set."""
        if not self.tables:
            return super().read_samples(entry)
        return read_digital(
            self.data_dir / f"{entry.path}.mat",
            sampling_rate=RATE_HZ,
            lead_names=STANDARD_LEADS,
            unit="mV",
            layout="leads_first",
            root=self.data_dir,
        )

    def read(self, entry: Entry) -> SourceRow | Dropped:
        """Samples, and labels in the vocabulary asked for."""
        row = self.check(entry, self.read_samples(entry)) if self.tables else super().read(entry)
        if isinstance(row, SourceRow):
            given = row.entry.labels
            names = given if self.tables else tuple(CPSC_SNOMED.get(code, code) for code in given)
            notes = row.entry.notes
            if any(name not in CPSC_CLASSES for name in names):
                notes = (*notes, "code_of_no_class")
            if self.labels == "snomed":
                codes = {name: code for code, name in CPSC_SNOMED.items()}
                names = tuple(codes.get(name, name) for name in names)
            row.entry = replace(row.entry, labels=names, notes=notes)
        return row


def _matlab_files(root: Path) -> dict[str, str]:
    """Name -> path without extension of the MATLAB files of this set below a folder."""
    found: dict[str, str] = {}
    for folder, _, files in os.walk(root):
        place = Path(folder).relative_to(root)
        for file in files:
            name = file.removesuffix(".mat")
            if file.endswith(".mat") and _NAME.match(name):
                path = (place / name).as_posix()
                found[name] = min(found.get(name, path), path)
    return found


def _classes(row: dict[Any, Any]) -> tuple[str, ...]:
    """Names of the up to three class numbers of a row; none if one can't be read."""
    names: dict[str, None] = {}
    for column in ("First_label", "Second_label", "Third_label"):
        number = identifier(row.get(column))
        if number is None:
            continue
        if not number.isdecimal() or not 1 <= int(number) <= len(CPSC_CLASSES):
            return ()
        names[CPSC_CLASSES[int(number) - 1]] = None
    return tuple(names)


def _age(row: dict[Any, Any]) -> float:
    """Years; -1 stands for unknown in the published table."""
    try:
        age = float(str(row.get("age")))
    except ValueError:
        return math.nan
    return age if 0 <= age < math.inf else math.nan


def _sex(row: dict[Any, Any]) -> str | None:
    return {"male": "male", "female": "female"}.get(str(row.get("sex")).strip().lower())
