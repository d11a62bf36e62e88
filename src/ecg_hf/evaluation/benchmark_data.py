"""Labels and splits of a benchmark, one entry per record of a dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.metrics.intervals import unit_numbers
from ecg_hf.metrics.ranking import BoolArray

if TYPE_CHECKING:
    from datasets import Dataset


__all__ = [
    "BENCHMARKS",
    "DEFAULT_FRACTIONS",
    "SPLITS",
    "Benchmark",
    "BenchmarkData",
    "LabelledSubset",
    "get_benchmark",
    "list_benchmarks",
    "merl_subset",
    "nested_subsets",
    "own_benchmark",
    "patient_folds",
]

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
        notes: What was decided about labels and splits on the way, in sentences.
    """

    labels: BoolArray
    class_names: tuple[str, ...]
    split: npt.NDArray[np.str_]
    patient_ids: tuple[str | None, ...] | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)
    published: npt.NDArray[np.int64] | None = None
    n_published: int = 0
    notes: tuple[str, ...] = ()

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


Kind = Literal["multilabel", "delineation", "measurement"]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A label task on a dataset.

    Attributes:
        name: Identifier, as the command line takes it.
        dataset: Source the recordings come from.
        task: Label group of :mod:`ecg_hf.data.labels`.
        description: One line.
        train_folds: Folds to train on, e.g. ``"1-8"``; empty to use the dataset's own ``split`` column.
        validation_folds: Folds that settings are chosen on, whole at every label fraction.
        test_folds: Folds scored.
        drop_unlabelled: Leave out records without any label of the group (the published practice), instead of
            counting them as negatives.
        present_only: Keep only classes that occur in the training records.
        subset: Set of the Challenge the records come from; empty for all records of the dataset.
        column: Column of the dataset that holds the labels, in place of a label group; splits are then the dataset's
            own. See :func:`own_benchmark`.
        kind: ``"multilabel"``; ``"delineation"`` and ``"measurement"`` have no label group and are run by their own
            evaluation.
    """

    name: str
    dataset: str
    task: str
    description: str
    train_folds: str = "1-8"
    validation_folds: str = "9"
    test_folds: str = "10"
    drop_unlabelled: bool = True
    present_only: bool = False
    subset: str = ""
    column: str = ""
    kind: Kind = "multilabel"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Labels of the task (all of them, also where ``present_only`` will drop some)."""
        from ecg_hf.data.labels import label_names

        return tuple(label_names(self.task)) if self.task else ()


def own_benchmark(column: str, dataset: str) -> Benchmark:
    """A benchmark of one's own labels; its name begins with ``own-``, as that of no published one does.

    Args:
        column: Column of the dataset, or label group; see :func:`ecg_hf.data.label_columns.read_labels`.
        dataset: Source of the recordings.
    """
    # The name is part of the names of files.
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", column).strip("-.") or "labels"
    return Benchmark(
        f"own-{slug}", dataset, "", f"labels of column {column}", train_folds="", validation_folds="", test_folds="",
        column=column,
    )  # fmt: skip


def _challenge(name: str, subset: str, title: str) -> Benchmark:
    return Benchmark(
        name,
        "challenge2021",
        "challenge2021",
        f"{title}, scored diagnoses (26 classes, those that occur)",
        present_only=True,
        subset=subset,
    )


def _ludb(task: str, description: str) -> Benchmark:
    return Benchmark(f"ludb-{task}", "ludb", f"ludb-{task}", description, present_only=True)


BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("ptbxl-super", "ptbxl", "super", "PTB-XL, 5 diagnostic superclasses"),
        Benchmark("ptbxl-sub", "ptbxl", "sub", "PTB-XL, 23 diagnostic subclasses"),
        Benchmark("ptbxl-form", "ptbxl", "form", "PTB-XL, 19 form statements"),
        Benchmark("ptbxl-rhythm", "ptbxl", "rhythm", "PTB-XL, 12 rhythm statements"),
        Benchmark("ptbxl-diag", "ptbxl", "diag", "PTB-XL, 44 diagnostic statements"),
        Benchmark("ptbxl-all", "ptbxl", "all", "PTB-XL, all 71 statements"),
        Benchmark("cpsc2018", "cpsc2018", "cpsc2018", "CPSC 2018, 9 classes"),
        Benchmark("csn", "csn", "csn", "Chapman-Shaoxing-Ningbo, 38 acronyms"),
        _challenge("cpsc-extra", "cpsc_2018_extra", "CPSC 2018, unpublished part"),
        _challenge("georgia", "georgia", "Georgia"),
        _challenge("chapman", "chapman_shaoxing", "Chapman-Shaoxing"),
        _challenge("ningbo", "ningbo", "Ningbo"),
        _challenge("challenge2021", "", "all sets of the Challenge 2021"),
        _ludb("rhythm", "LUDB, 8 rhythms (200 records: intervals are wide)"),
        _ludb("conduction", "LUDB, 8 conduction disorders (200 records: intervals are wide)"),
        _ludb("hypertrophy", "LUDB, 7 hypertrophies and overloads (200 records: intervals are wide)"),
        Benchmark(
            "ludb-delineation",
            "ludb",
            "",
            "LUDB, onset, peak and end of P, QRS, T",
            kind="delineation",
        ),
        Benchmark(
            "ludb-measurements",
            "ludb",
            "",
            "LUDB, heart rate, PR, QRS, QT from its marks",
            kind="measurement",
        ),
        Benchmark(
            "synthetic-findings",
            "synthetic",
            "all",
            "synthetic records, every simulated rhythm and finding",
            train_folds="",
            validation_folds="",
            test_folds="",
            present_only=True,
        ),
    )
}


def list_benchmarks() -> tuple[Benchmark, ...]:
    """All benchmarks, in the order of their registration."""
    return tuple(BENCHMARKS.values())


def get_benchmark(name: str) -> Benchmark:
    """The benchmark called ``name``.

    Raises:
        ConfigurationError: naming those there are.
    """
    if name not in BENCHMARKS:
        raise ConfigurationError(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}", value=name)
    return BENCHMARKS[name]


DEFAULT_FRACTIONS: tuple[float, ...] = (0.01, 0.1, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSubset:
    """Training records whose labels a probe may see.

    Attributes:
        fraction: Share of the training records, in (0, 1].
        indices: Ascending row numbers within the training records.
        positives: int64 ``(classes,)``: positive records per class within the subset.
    """

    fraction: float
    indices: npt.NDArray[np.int64]
    positives: npt.NDArray[np.int64]

    @property
    def n(self) -> int:
        """Number of records."""
        return len(self.indices)


def nested_subsets(
    labels: npt.ArrayLike, fractions: Sequence[float] = DEFAULT_FRACTIONS, *, seed: int = 0
) -> tuple[LabelledSubset, ...]:
    """Uniform random subsets, each containing all smaller ones.

    ``numpy.random.RandomState(seed)`` permutes the records once and every fraction takes its beginning:
    1 % lies inside 10 %, which lies inside 100 %. Subsets are not stratified: a class may have no positive,
    which :attr:`LabelledSubset.positives` shows.

    Args:
        labels: 0/1 ``(training records, classes)``.
        fractions: Shares in (0, 1]; at least one record is kept for each.
        seed: Seed of the permutation.

    Returns:
        One subset per fraction, in the order given.

    Raises:
        ConfigurationError: for a share outside (0, 1] or labels without records.
    """
    y = np.asarray(labels)
    if y.ndim != 2 or len(y) == 0:
        raise ConfigurationError(f"labels must be (records, classes), got {y.shape}", value=y.shape)
    order = np.random.RandomState(seed).permutation(len(y))
    subsets = []
    for fraction in fractions:
        _check_fraction(fraction)
        indices = np.sort(order[: max(1, _floor(fraction, len(y)))]).astype(np.int64)
        subsets.append(LabelledSubset(float(fraction), indices, y[indices].astype(bool).sum(axis=0)))
    return tuple(subsets)


def merl_subset(n: int, fraction: float) -> npt.NDArray[np.int64]:
    """Row numbers MERL trains on at a label fraction, in MERL's order.

    Source: ``finetune_dataset.py`` (scikit-learn's ``train_test_split`` with ``random_state=42``), which is
    the end of one seeded permutation.

    Args:
        n: Rows of the training table.
        fraction: 0.01, 0.1 or 1.

    Raises:
        ConfigurationError: for a share outside (0, 1] or one that keeps no row.
    """
    _check_fraction(fraction)
    if fraction == 1.0:
        return np.arange(n, dtype=np.int64)
    kept = _floor(fraction, n)
    if kept < 1:
        raise ConfigurationError(f"{fraction:g} of {n} rows is none", value=fraction)
    return np.random.RandomState(42).permutation(n)[n - kept :].astype(np.int64)


def _floor(fraction: float, n: int) -> int:
    # 0.1 * 30 is 3.0000000000000004 and 0.29 * 100 is 28.999999999999996: both mean the whole number.
    return int(np.floor(round(fraction * n, 9)))


def _check_fraction(fraction: float) -> None:
    if not 0.0 < fraction <= 1.0:
        raise ConfigurationError(f"a label fraction must lie in (0, 1], got {fraction}", value=fraction)


def patient_folds(
    n: int, n_folds: int, *, groups: Sequence[object] | None = None, seed: int = 0
) -> npt.NDArray[np.intp]:
    """Fold ``(n,)`` of every record: patients shuffled, then dealt out in turn, all records of one to the same fold.

    Args:
        n: Records.
        n_folds: Folds.
        groups: Patient of every record, see :func:`ecg_hf.metrics.intervals.unit_numbers`.
        seed: Of the order of patients.

    Raises:
        ConfigurationError: if there are fewer patients than folds, or fewer than two folds.
    """
    units, count = unit_numbers(n, groups)
    if not 2 <= n_folds <= count:
        raise ConfigurationError(f"{count} patients cannot make {n_folds} folds (at least 2)", value=n_folds)
    fold_of_unit = np.empty(count, dtype=np.intp)
    fold_of_unit[np.random.default_rng(seed).permutation(count)] = np.arange(count) % n_folds
    return fold_of_unit[units]
