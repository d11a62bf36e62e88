"""A benchmark laid over a built dataset, with the digests its cells are named by."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import SPLITS, BenchmarkData
from ecg_hf.evaluation.cells import array_digest
from ecg_hf.evaluation.definitions import Benchmark
from ecg_hf.evaluation.fingerprints import fingerprint_dataset
from ecg_hf.evaluation.leaks import check_leaks
from ecg_hf.evaluation.protocols import Protocol, prepare_benchmark, protocol_signals

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Folds", "PreparedBenchmark", "Recordings", "prepare"]

Folds = tuple[str | None, str | None, str | None]


@dataclass(slots=True, eq=False)
class Recordings:
    """Built rows, and what of them is only computed once however many benchmarks share them.

    Attributes:
        dataset: Rows of :func:`ecg_hf.data.load_built`.
        source: Name of their source.
    """

    dataset: Dataset
    source: str
    _views: dict[float | None, tuple[Dataset, str]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, dataset: Dataset) -> Recordings:
        """Rows of one source.

        Raises:
            ConfigurationError: if they are of several.
        """
        sources = sorted(
            set(dataset.select_columns(["source"]).with_format("arrow")[:].column("source").to_pylist())
        )
        if len(sources) != 1:
            raise ConfigurationError(f"a dataset of one source is wanted, got {', '.join(map(str, sources))}")
        return cls(dataset, str(sources[0]))

    def view(self, protocol: Protocol, benchmark: Benchmark) -> tuple[Dataset, str]:
        """The recordings as a protocol sees them, and their fingerprint."""
        seconds = protocol.first_s.get(benchmark.dataset)
        if seconds not in self._views:
            view = protocol_signals(protocol, benchmark, self.dataset)
            self._views[seconds] = view, fingerprint_dataset(view, r_peaks=True)
        return self._views[seconds]


@dataclass(frozen=True, slots=True, eq=False)
class PreparedBenchmark:
    """Labels, splits and recordings of a benchmark, one entry per row.

    Attributes:
        benchmark: Its definition.
        protocol: How it is evaluated.
        dataset: The recordings as the protocol sees them.
        recordings: Their fingerprint.
        data: Labels and splits.
        record_ids: Name of every row.
        folds: Folds asked for, ``None`` for the protocol's.
        fit_rows: Rows baselines may learn from without labels: the training split, records without a label of the
            task included, so that tasks on the same recordings share features.
        leaks: Account of the check over splits.
    """

    benchmark: Benchmark
    protocol: Protocol
    dataset: Dataset
    recordings: str
    data: BenchmarkData
    record_ids: npt.NDArray[np.str_]
    folds: Folds
    fit_rows: npt.NDArray[np.intp]
    leaks: Mapping[str, Any]

    def test_patients(self) -> tuple[str | None, ...] | None:
        """Patients of the test records, where any is known."""
        if self.data.patient_ids is None:
            return None
        return tuple(self.data.patient_ids[row] for row in self.data.rows("test"))

    def digest(self, train: npt.NDArray[np.intp] | None) -> dict[str, str]:
        """What a cell on these records depends on.

        Args:
            train: Rows trained on; ``None`` where nothing is.
        """
        data = self.data
        parts: list[npt.ArrayLike] = [np.asarray(data.class_names, dtype=object)]
        rows = {name: data.rows(name) for name in SPLITS[1:]}
        rows["train"] = np.empty(0, dtype=np.intp) if train is None else train
        for name in SPLITS:
            parts += [self.record_ids[rows[name]].astype(object), rows[name], data.labels[rows[name]]]
        patients = self.test_patients()
        parts.append(np.asarray([] if patients is None else patients, dtype=object))
        return {"recordings": self.recordings, "labels": array_digest(*parts)}


def prepare(
    benchmark: Benchmark,
    protocol: Protocol,
    recordings: Recordings,
    folds: Folds,
    tables: str | os.PathLike[str] | None = None,
) -> PreparedBenchmark:
    """Lay a benchmark over built rows and check that its splits are apart, before anything is scored.

    Raises:
        ConfigurationError: if benchmark, protocol and dataset do not fit, a split is empty, or patients are shared.
    """
    dataset, fingerprint = recordings.view(protocol, benchmark)
    train, validation, test = folds
    data = prepare_benchmark(
        benchmark,
        protocol,
        dataset,
        train_folds=train,
        validation_folds=validation,
        test_folds=test,
        tables=tables,
    )
    columns = dataset.select_columns(["record_id", "fold"]).with_format("arrow")[:].to_pydict()
    leaks = check_leaks(dataset, data.split)
    return PreparedBenchmark(
        benchmark,
        protocol,
        dataset,
        fingerprint,
        data,
        np.asarray(columns["record_id"], dtype=str),
        folds,
        _fit_rows(data, np.asarray(columns["fold"])),
        leaks.as_dict(),
    )


def _fit_rows(data: BenchmarkData, folds: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Every row of the folds trained on, if splits follow folds; the training split otherwise."""
    train = data.rows("train")
    others = np.concatenate([data.rows("validation"), data.rows("test")])
    numbers = np.unique(folds[train])
    if (numbers < 0).any() or np.isin(folds[others], numbers).any():
        return train
    return np.flatnonzero(np.isin(folds, numbers))
