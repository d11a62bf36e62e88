"""Splitting recordings so that no known patient is in two splits, and checking that none is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset

from ecg_hf.errors import ConfigurationError, DatasetBuildError

__all__ = [
    "FoldSelection",
    "PatientLeak",
    "assign_splits",
    "check_patient_leak",
    "hash_fold",
    "parse_folds",
    "record_split",
]

_RANGE = re.compile(r"^(\d{1,4})(?:-(\d{1,4}))?$")


def parse_folds(folds: str | int | Sequence[int]) -> tuple[int, ...]:
    """Fold numbers of a selection such as ``"1-7,9"``, sorted and unique.

    Args:
        folds: Comma-separated numbers and ranges, one number, or the numbers themselves. ``""`` selects none.

    Raises:
        ConfigurationError: if the text is not of that form or a range runs backwards.
    """
    if isinstance(folds, int):
        return (folds,)
    if not isinstance(folds, str):
        return tuple(sorted({int(fold) for fold in folds}))
    numbers: set[int] = set()
    for part in folds.replace(" ", "").split(","):
        if not part and not folds.strip():
            continue
        match = _RANGE.match(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ConfigurationError(f"folds must look like '1-7' or '1-7,9', got {folds!r}", value=folds)
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


@dataclass(frozen=True, slots=True)
class FoldSelection:
    """Which folds make up which split.

    Args:
        train: Folds to train on, as :func:`parse_folds` reads them.
        validation: Folds to choose settings on.
        test: Folds to report on.

    Raises:
        ConfigurationError: if a fold is in two splits.
    """

    train: str
    validation: str
    test: str
    _split_of: dict[int, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        split_of: dict[int, str] = {}
        for split in ("train", "validation", "test"):
            for fold in parse_folds(getattr(self, split)):
                if fold in split_of:
                    raise ConfigurationError(f"fold {fold} is in {split_of[fold]} and in {split}", value=fold)
                split_of[fold] = split
        object.__setattr__(self, "_split_of", split_of)

    def split_of(self, fold: int) -> str | None:
        """The split ``fold`` belongs to, ``None`` if it was not selected."""
        return self._split_of.get(fold)


def hash_fold(patient_id: str, *, seed: int = 42, n_folds: int = 10) -> int:
    """A fold from 1 to ``n_folds`` that depends on the patient and the seed alone.

    Adding or removing other patients never moves one to another fold.
    """
    digest = hashlib.sha256(f"{seed}:{patient_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % n_folds + 1


def assign_splits(patient_ids: Sequence[str], fractions: Mapping[str, float], *, seed: int = 42) -> list[str]:
    """Split of each recording, patient by patient.

    The distinct patients are shuffled with ``seed`` and dealt out in the proportions wanted, so each split has
    its share of patients to the nearest one; shares of recordings follow roughly.

    Args:
        patient_ids: One identifier per recording.
        fractions: Share of patients per split, adding up to one.
        seed: Seed of the shuffle.

    Raises:
        ConfigurationError: if the fractions are negative or do not add up to one.
    """
    if any(share < 0 for share in fractions.values()) or abs(sum(fractions.values()) - 1.0) > 1e-9:
        raise ConfigurationError(f"split fractions must be positive and add up to 1, got {dict(fractions)}")
    patients = sorted(set(patient_ids))
    order = np.random.default_rng(seed).permutation(len(patients))
    borders = np.rint(np.cumsum([0.0, *fractions.values()]) * len(patients)).astype(int)
    split_of: dict[str, str] = {}
    for split, start, stop in zip(fractions, borders[:-1], borders[1:], strict=True):
        for position in order[start:stop]:
            split_of[patients[position]] = split
    return [split_of[patient] for patient in patient_ids]


def record_split(
    n: int, test_fraction: float, *, seed: int = 42
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which of ``n`` recordings go to the smaller side, patients ignored (published MERL protocol).

    The same recordings as ``sklearn.model_selection.train_test_split(test_size=test_fraction, random_state=seed)``.
    """
    held_out = np.zeros(n, dtype=bool)
    n_test = int(np.ceil(n * test_fraction))
    held_out[np.random.RandomState(seed).permutation(n)[:n_test]] = True
    return held_out


@dataclass(frozen=True, slots=True)
class PatientLeak:
    """How many patients and recordings are on both sides of a split.

    Attributes:
        patients: Patients with recordings in more than one split.
        records: Their recordings.
        pairs: Patients shared by each pair of splits, ``"train/test"`` and so on.
        unknown_patients: Recordings without a patient identifier, which can't be checked.
        distinct_patients: Known patients in the dataset.
    """

    patients: int
    records: int
    pairs: dict[str, int]
    unknown_patients: int
    distinct_patients: int


def check_patient_leak(
    dataset: Dataset, *, patient_column: str = "patient_id", split_column: str = "split", strict: bool = True
) -> PatientLeak:
    """Look for patients with recordings in more than one split.

    Recordings without a patient identifier are counted but can't be checked for leaks.

    Args:
        dataset: Dataset with a patient and a split column.
        patient_column: Name of the column of patient identifiers.
        split_column: Name of the column of splits.
        strict: Raise if a leak is found; ``False`` only counts.

    Raises:
        DatasetBuildError: if a leak is found and ``strict`` is set. Names no patient.
        ConfigurationError: if a column is missing.
    """
    for column in (patient_column, split_column):
        if column not in dataset.column_names:
            raise ConfigurationError(f"the dataset has no column named {column!r}")
    plain = dataset.select_columns([patient_column, split_column]).with_format("arrow")[:]
    patients, splits = plain[patient_column].to_pylist(), plain[split_column].to_pylist()
    seen: dict[str, set[str]] = {}
    for patient, split in zip(patients, splits, strict=True):
        if patient:
            seen.setdefault(patient, set()).add(split)
    leaking = {patient for patient, where in seen.items() if len(where) > 1}
    pairs: dict[str, int] = {}
    names = [name for name in ("train", "validation", "test") if name in set(splits)]
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            shared = sum(1 for patient in leaking if {first, second} <= seen[patient])
            if shared:
                pairs[f"{first}/{second}"] = shared
    leak = PatientLeak(
        patients=len(leaking),
        records=sum(1 for patient in patients if patient in leaking),
        pairs=pairs,
        unknown_patients=sum(1 for patient in patients if not patient),
        distinct_patients=len(seen),
    )
    if strict and leak.patients:
        counts = ", ".join(f"{count} in {pair}" for pair, count in pairs.items())
        raise DatasetBuildError(f"{leak.patients} patients have recordings in more than one split ({counts})")
    return leak
