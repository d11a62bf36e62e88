"""PhysioNet/CinC Challenge 2020 and 2021: 88,253 12-lead ECGs of eight sets with SNOMED CT diagnoses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Unpack

from ecg_hf.data.schema import Entry
from ecg_hf.data.sources.base import FOLD_OPTIONS, FoldOptions, PhysioNetProject, Plan, SourceInfo
from ecg_hf.data.sources.headers import list_recordings
from ecg_hf.data.sources.wfdb_folder import HeaderSource
from ecg_hf.data.splits import hash_fold
from ecg_hf.errors import ConfigurationError, DatasetBuildError

__all__ = ["SUB_DATASETS", "Challenge2021", "sub_dataset_of"]

SUB_DATASETS: dict[str, str] = {
    "cpsc_2018": "WFDB_CPSC2018",
    "cpsc_2018_extra": "WFDB_CPSC2018_2",
    "st_petersburg_incart": "WFDB_StPetersburg",
    "ptb": "WFDB_PTB",
    "ptb-xl": "WFDB_PTBXL",
    "georgia": "WFDB_Ga",
    "chapman_shaoxing": "WFDB_ChapmanShaoxing",
    "ningbo": "WFDB_Ningbo",
}
"""Folder of each set on PhysioNet -> folder in the archives of the Challenge itself."""

NOT_BY_DEFAULT = "ptb-xl"

LAST_CHAPMAN = 10646
"""Highest number of a Chapman-Shaoxing recording; the Ningbo ones, named alike, lie above."""

_NUMBERED = re.compile(r"^([A-Z]+)(\d+)$")
_PREFIXES = {
    "A": "cpsc_2018",
    "Q": "cpsc_2018_extra",
    "I": "st_petersburg_incart",
    "S": "ptb",
    "HR": "ptb-xl",
    "E": "georgia",
}


def sub_dataset_of(record_id: str) -> str | None:
    """The set a recording belongs to, by its name: ``E00001`` is Georgia; ``None`` for names of no set."""
    match = _NUMBERED.match(record_id)
    if match is None:
        return None
    if match[1] == "JS":
        return "chapman_shaoxing" if int(match[2]) <= LAST_CHAPMAN else "ningbo"
    return _PREFIXES.get(match[1])


class Challenge2021(HeaderSource):
    """Training data of the PhysioNet/CinC Challenges 2020 and 2021.

    The set of a recording is the folder it is in (``georgia/g1/E00001.hea``; groups ``g1``, ``g2`` ... or flat;
    the archives' names such as ``WFDB_Ga`` are understood). Labels are SNOMED CT codes as the headers have them
    (``#Dx`` or ``# Dx``); headers that call the record ``E07500.mat``, as some of Georgia do, are read.

    Several sets are copies of other datasets: ``ptb-xl`` is PTB-XL (``HR00001`` is ``ecg_id`` 1),
    ``chapman_shaoxing`` and ``ningbo`` are ``csn`` (same names), ``cpsc_2018`` is ``cpsc2018`` (same names). Where
    names are the same so are the folds, and nothing leaks between two builds with the same seed. PTB-XL's folds
    can't be known from here, so ``ptb-xl`` is read only when it is asked for: never test on it beside PTB-XL.

    No patient is known, so ``patient_id`` is null. INCART has 74 recordings of 32 patients, PTB 516 of 262: for these
    two a split by recording is not one by patient.

    Args:
        data_dir: The folder, with the sets at any depth.
        seed: Seed of the folds.
        train_folds: Folds (of ten) to train on.
        validation_folds: Folds to validate on.
        test_folds: Folds to test on.
        datasets: Sets to read, comma-separated; ``"default"`` for all but ``ptb-xl``, ``"all"`` for all.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="challenge2021",
        title="PhysioNet Challenge 2020/2021: 88,253 12-lead ECGs of eight sets, SNOMED CT diagnoses",
        expects="the folders " + ", ".join(SUB_DATASETS) + " or some of them, with .hea and .mat files",
        labels="SNOMED CT codes of the headers' #Dx comments",
        drops=(
            "headers outside the known folders, sets and folds that were not selected (ptb-xl unless asked for), "
            "repeated names, unreadable recordings"
        ),
        licence="CC BY 4.0",
        options={
            **FOLD_OPTIONS,
            "datasets": "sets to read, comma-separated; all; or default: all but ptb-xl (default)",
        },
        physionet=PhysioNetProject(
            slug="challenge-2021",
            version="1.0.3",
            subsets={name: (f"training/{name}/*",) for name in SUB_DATASETS},
        ),
    )

    def __init__(
        self,
        data_dir: Path | None,
        *,
        datasets: str = "default",
        **folds: Unpack[FoldOptions],
    ) -> None:
        super().__init__(data_dir, **folds)
        self.datasets = _parse(datasets)

    def options(self) -> dict[str, Any]:
        """The options in force."""
        return {**super().options(), "datasets": ",".join(self.datasets)}

    @classmethod
    def reads_to_plan(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Headers."""
        return ("*.hea",)

    def plan(self) -> Plan:
        """Headers of the chosen sets, sorted by path.

        Raises:
            DatasetBuildError: if no known folder has one.
        """
        plan = Plan()
        seen: set[str] = set()
        known = False
        listing = list_recordings(self.data_dir, plan.tally)
        for path in listing.names:
            *folders, name = path.split("/")
            sub_dataset = _set_of(folders) or _set_of([self.data_dir.resolve().name])
            known |= sub_dataset is not None
            fold = hash_fold(listing.key(path).rpartition("/")[2], seed=self.seed)
            split = self.folds.split_of(fold)
            if sub_dataset is None:
                plan.tally.drop(path, "not_in_a_known_folder")
            elif sub_dataset not in self.datasets:
                plan.tally.drop(name, "set_not_selected")
            elif name in seen:
                plan.tally.drop(path, "repeated_name")
            elif split is None:
                plan.tally.drop(name, "fold_not_selected")
            else:
                seen.add(name)
                notes = ("recording_of_ptbxl",) if sub_dataset == NOT_BY_DEFAULT else ()
                plan.entries.append(Entry(name, path, fold=fold, split=split, notes=notes))
        if not known:
            raise DatasetBuildError(
                f"no header in a folder named {', '.join(SUB_DATASETS)}", path=self.data_dir
            )
        return plan


def _set_of(folders: list[str]) -> str | None:
    """The set that one of the folders of a path, the innermost first, is named after."""
    by_folder = {folder.lower(): name for name, other in SUB_DATASETS.items() for folder in (name, other)}
    return next((by_folder[f.lower()] for f in reversed(folders) if f.lower() in by_folder), None)


def _parse(datasets: str) -> tuple[str, ...]:
    if not isinstance(datasets, str):
        raise ConfigurationError(f"datasets must be names of sets, got {datasets!r}", value=datasets)
    if datasets in ("default", "all"):
        return tuple(name for name in SUB_DATASETS if datasets == "all" or name != NOT_BY_DEFAULT)
    names = {name for name in datasets.replace(" ", "").split(",") if name}
    unknown = sorted(names - SUB_DATASETS.keys())
    if unknown or not names:
        raise ConfigurationError(
            f"no set is named {(unknown or [datasets])[0]!r} (known: {', '.join(SUB_DATASETS)}, all, default)",
            value=datasets,
        )
    return tuple(name for name in SUB_DATASETS if name in names)
