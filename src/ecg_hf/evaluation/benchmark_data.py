"""Labels and splits of a benchmark, one entry per record of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.definitions import Benchmark
from ecg_hf.evaluation.metrics import BoolArray

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["SPLITS", "BenchmarkData"]

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, eq=False)
class BenchmarkData:
    """The columns of a dataset a benchmark needs, one entry per record.

    Attributes:
        labels: bool ``(records, classes)``.
        class_names: Names of the classes.
        split: ``"train"``, ``"validation"``, ``"test"``, or ``""`` for records that take no part.
        patient_ids: Patient of every record, ``None`` where unknown; or ``None`` if nothing is known.
        dropped: How many records take no part, by reason.
        missing: Records of published tables that are not in the dataset, by split.
        published: int64 ``(records,)``: row of each training record within the published training table, -1 for
            others; ``None`` where nothing is published.
        n_published: Rows of the published training table.
    """

    labels: BoolArray
    class_names: tuple[str, ...]
    split: npt.NDArray[np.str_]
    patient_ids: tuple[str | None, ...] | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)
    published: npt.NDArray[np.int64] | None = None
    n_published: int = 0

    def rows(self, split: str) -> npt.NDArray[np.intp]:
        """Row numbers of a split, in the order of the dataset."""
        return np.flatnonzero(self.split == split)

    @classmethod
    def from_columns(
        cls,
        benchmark: Benchmark,
        codes: Sequence[Sequence[str]],
        *,
        folds: Sequence[int] | None = None,
        split: Sequence[str] | None = None,
        patient_ids: Sequence[str | None] | None = None,
        splits: Sequence[str] = SPLITS,
    ) -> BenchmarkData:
        """Labels and splits of a benchmark.

        Args:
            benchmark: Defines the labels and, through its folds, the splits.
            codes: Label codes of every record.
            folds: Fold of every record; used where the benchmark names folds.
            split: Split of every record; used where it does not.
            patient_ids: Patient of every record.
            splits: Splits that must hold a labelled record.

        Raises:
            ConfigurationError: if columns are missing or of different lengths, a split is empty, or a patient is
                on both sides of the test split.
        """
        from ecg_hf.data.labels import label_matrix

        n = len(codes)
        for name, column in (("folds", folds), ("split", split), ("patient_ids", patient_ids)):
            if column is not None and len(column) != n:
                raise ConfigurationError(f"{len(column)} {name} for {n} records", value=name)
        counts, labelled = label_matrix(codes, benchmark.task)
        matrix = counts.astype(bool)
        assigned = _assign(benchmark, n, folds, split)
        dropped = {"no split": int((assigned == "").sum())}
        if benchmark.drop_unlabelled:
            unlabelled = ~labelled & (assigned != "")
            dropped["no label of the group"] = int(unlabelled.sum())
            assigned = np.where(unlabelled, "", assigned)
        names = benchmark.class_names
        if benchmark.present_only:
            present = matrix[assigned == "train"].any(axis=0)
            matrix = matrix[:, present]
            names = tuple(name for name, there in zip(names, present, strict=True) if there)
        data = cls(
            labels=matrix,
            class_names=names,
            split=assigned,
            patient_ids=None if patient_ids is None else tuple(patient_ids),
            dropped={reason: count for reason, count in dropped.items() if count},
        )
        data.check(splits)
        return data

    @classmethod
    def from_dataset(cls, benchmark: Benchmark, dataset: Dataset) -> BenchmarkData:
        """The same from a built dataset's ``labels``, ``fold``, ``split`` and ``patient_id`` columns."""
        wanted = [c for c in ("labels", "fold", "split", "patient_id") if c in dataset.column_names]
        if "labels" not in wanted:
            raise ConfigurationError("the dataset has no column named 'labels'")
        columns = dataset.select_columns(wanted).with_format("arrow")[:].to_pydict()
        patients = columns.get("patient_id")
        if patients is not None and not any(patients):
            patients = None
        return cls.from_columns(
            benchmark,
            columns["labels"],
            folds=columns.get("fold"),
            split=columns.get("split"),
            patient_ids=patients,
        )

    def check(self, splits: Sequence[str] = SPLITS) -> None:
        """Raise unless every split has records and no patient is in the test split and in another."""
        for name in splits:
            if not (self.split == name).any():
                raise ConfigurationError(f"the {name} split holds no labelled record", value=name)
        if self.patient_ids is None:
            return
        known = np.array([patient is not None and patient != "" for patient in self.patient_ids])
        patients = np.array([str(patient) for patient in self.patient_ids])
        test = set(patients[known & (self.split == "test")])
        others = set(patients[known & ((self.split == "train") | (self.split == "validation"))])
        if test & others:
            raise ConfigurationError(
                f"{len(test & others)} patients of the test split also are in another",
                value=len(test & others),
            )


def _assign(
    benchmark: Benchmark, n: int, folds: Sequence[int] | None, split: Sequence[str] | None
) -> npt.NDArray[np.str_]:
    assigned = np.full(n, "", dtype="<U10")
    if benchmark.test_folds:
        from ecg_hf.data.splits import parse_folds

        if folds is None:
            raise ConfigurationError(f"{benchmark.name} is defined by folds, which the dataset does not have")
        numbers = np.asarray(folds)
        chosen = (benchmark.train_folds, benchmark.validation_folds, benchmark.test_folds)
        for name, text in zip(SPLITS, chosen, strict=True):
            assigned[np.isin(numbers, parse_folds(text))] = name
        return assigned
    if split is None:
        raise ConfigurationError(f"{benchmark.name} uses the split column, which the dataset does not have")
    given = np.asarray(split, dtype=str)
    for name in SPLITS:
        assigned[given == name] = name
    return assigned
