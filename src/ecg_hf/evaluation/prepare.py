"""From a benchmark, a protocol and a built dataset to labels, splits and subsets: the one way there is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_hf.data.leaks import check_leaks
from ecg_hf.data.splits import FoldSelection, parse_folds
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import (
    SPLITS,
    Benchmark,
    BenchmarkData,
    LabelledSubset,
    get_benchmark,
    merl_subset,
    nested_subsets,
)
from ecg_hf.evaluation.cache import array_digest, fingerprint_dataset
from ecg_hf.evaluation.merl import (
    MERL_TABLES,
    MerlTable,
    exact_csn_labels,
    read_merl_table,
    stack_merl_tables,
)
from ecg_hf.evaluation.protocols import Protocol, get_protocol, protocol_signals
from ecg_hf.metrics.ranking import BoolArray
from ecg_hf.training.finetuning_data import FineTuningData, Task

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Folds", "PreparedBenchmark", "Recordings", "fraction_subsets", "prepare", "prepare_benchmark"]

Folds = tuple[str | None, str | None, str | None]

COLUMNS = ("record_id", "labels", "fold", "split", "patient_id", "source")

SAME_NAMES = {"cpsc2018": {"challenge2021"}, "csn": {"challenge2021"}}
"""Sources whose records are called as those of a benchmark's own: published tables fit them too."""


def prepare_benchmark(
    benchmark: str | Benchmark,
    protocol: str | Protocol,
    dataset: Dataset,
    *,
    train_folds: str | None = None,
    validation_folds: str | None = None,
    test_folds: str | None = None,
    tables: str | os.PathLike[str] | None = None,
) -> BenchmarkData:
    """Labels and splits of every record of a built dataset.

    Args:
        benchmark: What is to be predicted.
        protocol: How.
        dataset: Rows of :func:`ecg_hf.data.load_built`; not all published records need be there.
        train_folds: Folds to train on instead of the protocol's, e.g. ``"1-7"``.
        validation_folds: The same for choosing settings.
        test_folds: The same for scoring. Under published tables, folds are PTB-XL's own (which the tables have) or,
            for CPSC 2018 and CSN, those of the dataset; then all three must be given.
        tables: Folder with MERL's published tables (see :func:`~ecg_hf.evaluation.protocols.download_merl_tables`).

    Returns:
        One entry per row of the dataset. ``dropped`` counts rows that take no part, ``missing`` the published
        records the dataset does not have.

    Raises:
        ConfigurationError: if the protocol does not fit the benchmark or the dataset, tables are needed and were not
            given, folds overlap, a split is empty, or a patient is in the test split and in another.
    """
    benchmark = get_benchmark(benchmark) if isinstance(benchmark, str) else benchmark
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    if benchmark.kind != "multilabel":
        raise ConfigurationError(
            f"{benchmark.name} is a {benchmark.kind} task and has no label group to prepare",
            value=benchmark.name,
        )
    columns = _columns(dataset, benchmark)
    given = (train_folds, validation_folds, test_folds)
    published = protocol.splits == "tables" and benchmark.name in MERL_TABLES
    # The default protocol stands for "correct labels, validation-selected" where MERL published nothing.
    if protocol.splits == "tables" and not published and protocol.labels != "name-exact":
        raise ConfigurationError(
            f"protocol {protocol.name} is defined by published tables, of which there are none for {benchmark.name}",
            value=benchmark.name,
        )
    if published and (tables is not None or benchmark.dataset != "ptbxl" or protocol.labels == "position"):
        if tables is None:
            raise ConfigurationError(
                f"{benchmark.name} under {protocol.name} is defined by MERL's published tables: give their folder "
                "as tables (download_merl_tables() gets them)",
                value=benchmark.name,
            )
        return _from_tables(benchmark, protocol, columns, tables, given)
    if benchmark.column:
        return _from_column(benchmark, protocol, dataset, columns, given)
    return _from_codes(benchmark, protocol, dataset, columns, given, ranked=published)


def fraction_subsets(
    protocol: str | Protocol,
    data: BenchmarkData,
    fractions: Sequence[float] | None = None,
    seed: int = 0,
) -> list[LabelledSubset]:
    """Training records whose labels a head may see, one subset per fraction.

    Args:
        protocol: Decides the rule. By ``"merl"`` there is one subset per fraction, the published one, whatever the
            seed; of a dataset that lacks records it has those that are there.
        data: What :func:`prepare_benchmark` gave.
        fractions: Shares in (0, 1]; the protocol's by default.
        seed: Seed of drawn subsets.

    Raises:
        ConfigurationError: for a share outside (0, 1], or one of which no record is there.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    shares = protocol.fractions if fractions is None else tuple(fractions)
    train = data.rows("train")
    labels = data.labels[train]
    if protocol.subset_rule == "nested" or data.published is None:
        return list(nested_subsets(labels, shares, seed=seed))
    subsets = []
    for share in shares:
        chosen = merl_subset(data.n_published, share)
        indices = np.flatnonzero(np.isin(data.published[train], chosen)).astype(np.int64)
        if not len(indices):
            raise ConfigurationError(
                f"the dataset has none of the {len(chosen)} published records at {share:g}", value=share
            )
        subsets.append(LabelledSubset(float(share), indices, labels[indices].sum(axis=0)))
    return subsets


def _columns(dataset: Dataset, benchmark: Benchmark) -> dict[str, list[Any]]:
    wanted = [name for name in COLUMNS if name in dataset.column_names]
    needed = ("record_id", "fold") if benchmark.column else ("record_id", "labels")
    missing = [name for name in needed if name not in wanted]
    if missing:
        raise ConfigurationError(f"the dataset has no column named {missing[0]!r}", value=missing[0])
    columns: dict[str, list[Any]] = dataset.select_columns(wanted).with_format("arrow")[:].to_pydict()
    known = {benchmark.dataset} | SAME_NAMES.get(benchmark.name, set())
    sources = set(columns.get("source", ())) - {None}
    if sources and not sources & known and not benchmark.column:
        raise ConfigurationError(
            f"{benchmark.name} is about {benchmark.dataset}, the dataset is {', '.join(sorted(sources))}",
            value=benchmark.name,
        )
    patients = columns.get("patient_id")
    if patients is not None and not any(patients):
        del columns["patient_id"]
    return columns


def _folds(
    benchmark: Benchmark, protocol: Protocol, given: tuple[str | None, str | None, str | None]
) -> tuple[str, str, str]:
    own = benchmark
    usual = protocol.folds.get(benchmark.dataset, (own.train_folds, own.validation_folds, own.test_folds))
    train, validation, test = (new if new is not None else old for new, old in zip(given, usual, strict=True))
    # Folds given for one split must not stay in another: that would be asked for by accident.
    FoldSelection(train, validation, test)
    return train, validation, test


def _from_codes(
    benchmark: Benchmark,
    protocol: Protocol,
    dataset: Dataset,
    columns: dict[str, list[Any]],
    given: tuple[str | None, str | None, str | None],
    *,
    ranked: bool,
) -> BenchmarkData:
    """Labels from the dataset's codes, splits from its folds."""
    train, validation, test = _folds(benchmark, protocol, given)
    rules = replace(
        benchmark,
        train_folds=train,
        validation_folds=validation,
        test_folds=test,
        drop_unlabelled=benchmark.drop_unlabelled and protocol.drop_unlabelled,
    )
    known = {fold for text in (train, validation, test) for fold in parse_folds(text)}
    foreign = set(columns.get("fold", ())) - known - {-1}
    if benchmark.dataset in protocol.folds and given == (None, None, None) and foreign:
        raise ConfigurationError(
            f"the dataset has folds {', '.join(map(str, sorted(foreign)))}, which {protocol.name} does not know: "
            "was it built with the folds its description asks for?",
            value=benchmark.name,
        )
    folds, split = columns.get("fold"), columns.get("split")
    out, reasons = _left_out(benchmark, protocol, dataset, columns)
    if out.any():
        if folds is not None:
            folds = [-1 if skip else fold for skip, fold in zip(out, folds, strict=True)]
        if split is not None:
            split = ["" if skip else name for skip, name in zip(out, split, strict=True)]
    data = BenchmarkData.from_columns(
        rules,
        columns["labels"],
        folds=folds,
        split=split,
        patient_ids=columns.get("patient_id"),
        splits=SPLITS if validation or not test else ("train", "test"),
    )
    if out.any():
        dropped = dict(data.dropped)
        dropped["no split"] = dropped.get("no split", 0) - int(out.sum())
        data = replace(data, dropped={reason: n for reason, n in {**dropped, **reasons}.items() if n})
    if not ranked:
        return data
    # PTB-XL's published training tables are sorted by ecg_id, so a complete dataset has their order.
    rows = data.rows("train")
    published = np.full(len(data.labels), -1, dtype=np.int64)
    published[rows[np.argsort([int(columns["record_id"][row]) for row in rows])]] = np.arange(len(rows))
    return replace(data, published=published, n_published=len(rows))


def _from_column(
    benchmark: Benchmark,
    protocol: Protocol,
    dataset: Dataset,
    columns: dict[str, list[Any]],
    given: Folds,
) -> BenchmarkData:
    """Labels of a column and the dataset's own splits, read as fine-tuning reads them."""
    train, validation, test = (folds or "" for folds in given)
    found = FineTuningData.of(dataset, Task(benchmark.column, train, validation, test))
    split = np.full(len(dataset), "", dtype="<U10")
    for name, rows in found.rows.items():
        split[rows] = name
    out, reasons = _left_out(benchmark, protocol, dataset, columns)
    split[out] = ""
    data = BenchmarkData(
        labels=found.labels.matrix(np.arange(len(dataset), dtype=np.intp)),
        class_names=found.labels.names,
        split=split,
        patient_ids=found.patients if any(found.patients) else None,
        dropped={reason: count for reason, count in {**found.left_out, **reasons}.items() if count},
        notes=found.notes,
    )
    data.check()
    return data


def _left_out(
    benchmark: Benchmark, protocol: Protocol, dataset: Dataset, columns: dict[str, list[Any]]
) -> tuple[BoolArray, dict[str, int]]:
    """Rows of another set of the Challenge, and recordings that are too short."""
    out = np.zeros(len(columns["record_id"]), dtype=bool)
    reasons: dict[str, int] = {}
    if benchmark.subset:
        from ecg_hf.data.sources.challenge2021 import sub_dataset_of

        out |= np.array([sub_dataset_of(name) != benchmark.subset for name in columns["record_id"]])
        reasons["another set"] = int(out.sum())
    seconds = protocol.min_duration_s.get(benchmark.dataset)
    if seconds is not None:
        short = _durations_s(dataset) < seconds
        reasons[f"shorter than {seconds:g} s"] = int((short & ~out).sum())
        out |= short
    return out, reasons


def _durations_s(dataset: Dataset, column: str = "ecg") -> npt.NDArray[np.float64]:
    """Length of every recording in seconds, in batches: samples are not decoded."""
    from ecg_hf.data.feature import Ecg

    stored = dataset.select_columns([column]).cast_column(column, Ecg(decode=False)).with_format("arrow")
    found: list[float] = []
    for batch in stored.iter(batch_size=512):
        ecg = batch[column].combine_chunks()
        shapes, rates = ecg.field("shape").to_pylist(), ecg.field("sampling_rate").to_pylist()
        found += [shape[1] / rate for shape, rate in zip(shapes, rates, strict=True)]
    return np.array(found)


def _from_tables(
    benchmark: Benchmark,
    protocol: Protocol,
    columns: dict[str, list[Any]],
    folder: str | os.PathLike[str],
    given: tuple[str | None, str | None, str | None],
) -> BenchmarkData:
    """Records, labels and splits of the published tables, laid over the rows of the dataset."""
    parts = [read_merl_table(folder, benchmark.name, split) for split in SPLITS]
    table = stack_merl_tables(parts, "position" if protocol.labels == "position" else "name")
    labels, names = _labels(benchmark, protocol, table)
    row_of = {name: row for row, name in enumerate(columns["record_id"])}
    if len(row_of) < len(columns["record_id"]):
        raise ConfigurationError("the dataset has two records of one name")
    rows = np.array([row_of.get(name, -1) for name in table.record_ids], dtype=np.int64)
    there = rows >= 0
    splits = _table_splits(benchmark, protocol, table, columns, rows, given)

    n = len(columns["record_id"])
    matrix = np.zeros((n, len(names)), dtype=bool)
    matrix[rows[there]] = labels[there]
    assigned = np.full(n, "", dtype="<U10")
    assigned[rows[there]] = splits[there]
    training = splits == "train"
    ranks = np.where(training, np.cumsum(training) - 1, -1)
    published = np.full(n, -1, dtype=np.int64)
    published[rows[there]] = ranks[there]
    unselected = int((splits[there] == "").sum())
    dropped = {"not in the published tables": n - int(there.sum()), "no split": unselected}
    data = BenchmarkData(
        labels=matrix,
        class_names=names,
        split=assigned,
        patient_ids=tuple(columns["patient_id"]) if "patient_id" in columns else None,
        dropped={reason: count for reason, count in dropped.items() if count},
        missing={split: int((~there & (splits == split)).sum()) for split in SPLITS},
        published=published,
        n_published=int(training.sum()),
    )
    data.check()
    return data


def _labels(benchmark: Benchmark, protocol: Protocol, table: MerlTable) -> tuple[BoolArray, tuple[str, ...]]:
    """Labels and class names: the published spelling by position, the package's own by name."""
    if protocol.labels == "position":
        return table.labels, table.class_names
    labels = table.labels
    if protocol.labels == "name-exact" and benchmark.name == "csn":
        labels = exact_csn_labels(table)
    column = {name.strip("_"): i for i, name in enumerate(table.class_names)}
    names = benchmark.class_names
    if {name.strip("_") for name in names} != column.keys():
        raise ConfigurationError(f"the published tables of {benchmark.name} have other classes")
    return labels[:, [column[name.strip("_")] for name in names]], names


def _table_splits(
    benchmark: Benchmark,
    protocol: Protocol,
    table: MerlTable,
    columns: dict[str, list[Any]],
    rows: npt.NDArray[np.int64],
    given: tuple[str | None, str | None, str | None],
) -> npt.NDArray[np.str_]:
    """The published splits, or those of the folds asked for."""
    if given == (None, None, None):
        return table.splits
    folds = table.folds
    if (folds < 0).all():
        if None in given or "fold" not in columns:
            raise ConfigurationError(
                f"{benchmark.name} has no published folds: give train, validation and test folds of the dataset"
            )
        folds = np.where(rows >= 0, np.asarray(columns["fold"])[rows], -1)
    selection = FoldSelection(*_folds(benchmark, protocol, given))
    return np.array([selection.split_of(int(fold)) or "" for fold in folds], dtype="<U10")


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
