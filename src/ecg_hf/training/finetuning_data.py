"""What a classifier is fine-tuned on: labels, splits by column or folds, a validation split drawn where none is."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from ecg_hf.data.label_columns import ColumnLabels, read_labels
from ecg_hf.data.opening import open_rows
from ecg_hf.data.schema import SPLITS
from ecg_hf.data.sources.challenge2021 import sub_dataset_of
from ecg_hf.data.splits import FoldSelection, assign_splits
from ecg_hf.errors import ConfigurationError

__all__ = ["FineTuningData", "Task"]

logger = logging.getLogger(__name__)

DRAWN_SHARE = 0.15
"""Share of the training patients that a validation split takes where the dataset has none."""

DRAWN_SEED = 42
"""Not the run's seed: runs with several seeds choose their epochs on the same records."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to learn, and from which records.

    Attributes:
        labels: A column of the dataset or a label group, see :func:`ecg_hf.data.label_columns.read_labels`.
        train_folds: Folds to train on, such as ``"1-8"``; without any, the column ``split`` decides.
        validation_folds: Folds the epoch and the thresholds are chosen on.
        test_folds: Folds scored at the end.
        present_only: Drop classes that no training record has.
        subset: One set of the Challenge's recordings; empty for all records.
    """

    labels: str
    train_folds: str = ""
    validation_folds: str = ""
    test_folds: str = ""
    present_only: bool = False
    subset: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class FineTuningData:
    """Rows of a dataset with their labels, by split.

    Attributes:
        dataset: All rows.
        labels: Labels of all rows.
        rows: ``train``, ``validation`` and ``test`` -> row numbers, in the order of the dataset.
        patients: Patient of every row, None where unknown.
        sources: Names of the sources the rows are from.
        left_out: Reason -> rows that take no part.
        notes: What was decided on the way, in sentences.
    """

    dataset: Dataset
    labels: ColumnLabels
    rows: dict[str, npt.NDArray[np.intp]]
    patients: tuple[str | None, ...]
    sources: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: str | Path, task: Task) -> FineTuningData:
        """Read a dataset's labels and divide its labelled rows.

        Raises:
            DatasetBuildError: if there is no such dataset.
            ConfigurationError: as :meth:`of`.
        """
        return cls.of(open_rows(path), task, path)

    @classmethod
    def of(cls, dataset: Dataset, task: Task, path: str | Path | None = None) -> FineTuningData:
        """The same of rows that are open.

        Args:
            dataset: Rows.
            task: What to learn.
            path: Where the rows are from, for messages.

        Raises:
            ConfigurationError: if the task does not fit it: no such labels or folds, a split without labelled
                records, a patient of the test split in another.
        """
        labels = read_labels(dataset, task.labels)
        columns = _columns(dataset, ("split", "fold", "patient_id", "record_id", "source"))
        n = len(dataset)
        patients = tuple(patient or None for patient in columns.get("patient_id", [None] * n))
        left_out = dict(labels.left_out)
        taking_part = labels.labelled.copy()
        if task.subset:
            other = np.array(
                [sub_dataset_of(name) != task.subset for name in columns.get("record_id", [""] * n)]
            )
            left_out[f"of another set than {task.subset}"] = int((other & taking_part).sum())
            taking_part &= ~other
        split, notes = _assigned(task, columns, n)
        left_out["in no split"] = int((taking_part & (split == "")).sum())
        split = np.where(taking_part, split, "")
        if not (split == "validation").any():
            split, note = _with_drawn_validation(split, patients)
            notes += [note] if note else []
        rows = {name: np.flatnonzero(split == name) for name in SPLITS}
        _check(rows, patients, path, task, notes)
        if task.present_only:
            labels = _present_only(labels, rows["train"])
        left_out = {reason: count for reason, count in left_out.items() if count}
        notes[:0] = [f"{count:,} records left out: {reason}" for reason, count in left_out.items()]
        sources = tuple(sorted({source for source in columns.get("source", ()) if source}))
        data = cls(dataset, labels, rows, patients, sources, left_out, tuple(notes))
        return replace(data, notes=(*notes, *data._absent_classes(path)))

    def take(self, fraction: float, seed: int) -> FineTuningData:
        """With a share of the training rows, drawn with the seed; smaller ones are contained in larger ones.

        Raises:
            ConfigurationError: unless ``fraction`` is in (0, 1].
        """
        if not 0.0 < fraction <= 1.0:
            raise ConfigurationError("fraction must be in (0, 1]", value=fraction)
        train = self.rows["train"]
        order = np.random.RandomState(seed).permutation(len(train))
        chosen = np.sort(order[: max(1, round(fraction * len(train)))])
        return replace(self, rows={**self.rows, "train": train[chosen]})

    def splits(self) -> dict[str, tuple[npt.NDArray[np.intp], npt.NDArray[Any]]]:
        """Rows and targets by split, as :func:`ecg_hf.training.finetuning.train_classifier` takes them."""
        return {name: (rows, self.labels.targets[rows]) for name, rows in self.rows.items()}

    def positives(self, split: str) -> dict[str, int]:
        """Class -> records of a split that have it."""
        counts = self.labels.matrix(self.rows[split]).sum(axis=0)
        return dict(zip(self.labels.names, counts.tolist(), strict=True))

    def digest(self) -> str:
        """Of all that a training reads from here but the signals: which records, which labels, which split."""
        names = _columns(self.dataset, ("record_id",)).get("record_id")
        found = hashlib.sha256(repr(self.labels.names).encode())
        for split, (rows, targets) in self.splits().items():
            found.update(f"{split} {len(rows)}".encode())
            found.update(
                np.ascontiguousarray(rows, np.int64).tobytes() + np.ascontiguousarray(targets).tobytes()
            )
            if names is not None:
                found.update(repr([names[row] for row in rows]).encode())
        return found.hexdigest()

    def _absent_classes(self, path: str | Path | None) -> list[str]:
        """A note on classes that can't be learnt; none is left to score if all are."""
        notes = []
        for split, what in (("train", "can't be learnt"), ("validation", "can't be scored on validation")):
            positives = self.positives(split)
            absent = [name for name, count in positives.items() if count == 0]
            if absent:
                notes.append(
                    f"{len(absent)} classes without a record for {split} {what}: {', '.join(absent)}"
                )
            if not any(0 < count < len(self.rows[split]) for count in positives.values()):
                raise ConfigurationError(
                    f"no class of the labels tells two {split} records apart: every one has it or none has",
                    path=path,
                )
        return notes


def _columns(dataset: Dataset, names: Sequence[str]) -> dict[str, list[Any]]:
    present = [name for name in names if name in dataset.column_names]
    columns: dict[str, list[Any]] = {}
    if present:
        columns = dataset.select_columns(present).with_format("arrow")[:].to_pydict()
    return columns


def _assigned(task: Task, columns: Mapping[str, list[Any]], n: int) -> tuple[npt.NDArray[np.str_], list[str]]:
    """Split of every row, ``""`` for none, and what to say about it."""
    folds = FoldSelection(task.train_folds, task.validation_folds, task.test_folds)
    if task.train_folds or task.validation_folds or task.test_folds:
        if "fold" not in columns:
            raise ConfigurationError("folds were asked for, but the dataset has no column 'fold'")
        if not task.train_folds:
            raise ConfigurationError("folds were asked for, but none to train on: give train_folds")
        numbers = [None if fold is None else folds.split_of(int(fold)) for fold in columns["fold"]]
        return np.array([split or "" for split in numbers], dtype="<U10"), []
    if "split" not in columns:
        return np.full(n, "train", dtype="<U10"), ["the dataset has no column 'split': all records train"]
    given = [split if split in SPLITS else "" for split in columns["split"]]
    return np.array(given, dtype="<U10"), []


def _with_drawn_validation(
    split: npt.NDArray[np.str_], patients: Sequence[str | None]
) -> tuple[npt.NDArray[np.str_], str]:
    """Part of the training patients as validation split; a record of an unknown patient is a patient by itself."""
    train = np.flatnonzero(split == "train").tolist()
    if len(train) < 2:
        return split, ""
    units = [f"record {row}" if patients[row] is None else f"patient {patients[row]}" for row in train]
    share = max(DRAWN_SHARE, 1 / len(set(units)))
    drawn = assign_splits(units, {"train": 1 - share, "validation": share}, seed=DRAWN_SEED)
    split = split.copy()
    split[train] = drawn
    count = int((split == "validation").sum())
    unknown = sum(patients[row] is None for row in train)
    by = "patient by patient" if not unknown else "record by record where the patient is unknown"
    return (
        split,
        f"no validation records: {count:,} of {len(train):,} training records were drawn for it, {by}",
    )


def _check(
    rows: Mapping[str, npt.NDArray[np.intp]],
    patients: Sequence[str | None],
    path: str | Path | None,
    task: Task,
    notes: list[str],
) -> None:
    for split in ("train", "validation"):
        if not len(rows[split]):
            raise ConfigurationError(f"no {split} records with a label of {task.labels!r}", path=path)
    if not len(rows["test"]):
        notes.append("no test records: scores are those of the validation records the epoch was chosen on")
    known = {split: {patients[row] for row in rows[split]} - {None} for split in SPLITS}
    leaking = known["test"] & (known["train"] | known["validation"])
    if leaking:
        raise ConfigurationError(
            f"{len(leaking)} patients of the test split also are in another", path=path, value=len(leaking)
        )
    shared = known["train"] & known["validation"]
    if shared:
        notes.append(
            f"{len(shared):,} patients are in training and in validation records: validation flatters"
        )


def _present_only(labels: ColumnLabels, train: npt.NDArray[np.intp]) -> ColumnLabels:
    present = np.asarray(labels.matrix(train).any(axis=0))
    names = tuple(name for name, there in zip(labels.names, present.tolist(), strict=True) if there)
    return replace(labels, names=names, targets=labels.targets[:, present])
