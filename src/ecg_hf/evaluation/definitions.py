"""Benchmarks by name: which labels of which source, and how they are run unless asked otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ecg_hf.errors import ConfigurationError

__all__ = ["BENCHMARKS", "Benchmark", "get_benchmark", "list_benchmarks"]

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
    kind: Kind = "multilabel"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Labels of the task (all of them, also where ``present_only`` will drop some)."""
        from ecg_hf.data.labels import label_names

        return tuple(label_names(self.task)) if self.task else ()


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
