"""Benchmarks: which labels, which records, which protocol; and the run of probes over one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.attention_probe import AttentionProbe
from ecg_hf.evaluation.bootstrap import DEFAULT_RESAMPLES, Interval, bootstrap_auroc, paired_bootstrap
from ecg_hf.evaluation.fractions import DEFAULT_FRACTIONS, LabelledSubset, nested_subsets
from ecg_hf.evaluation.metrics import BoolArray, FloatArray, auroc, score_classes
from ecg_hf.evaluation.probe import DEFAULT_C_GRID, LinearProbe
from ecg_hf.evaluation.results import PairedRow, ProbeRow, class_rows, finite
from ecg_hf.evaluation.token_store import TokenFeatures

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "BenchmarkData",
    "ProbeReport",
    "Protocol",
    "get_benchmark",
    "list_benchmarks",
    "run_probe_benchmark",
]

SPLITS = ("train", "validation", "test")
HEADS = ("linear", "attention")


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a benchmark is run unless its caller says otherwise.

    Attributes:
        train_folds: Folds to train on, e.g. ``"1-8"``; empty to use the dataset's own ``split`` column.
        validation_folds: Folds ``C`` is chosen on, whole at every label fraction.
        test_folds: Folds scored.
        fractions: Shares of the training labels.
        n_resamples: Bootstrap resamples. Patients are drawn where they are known, records otherwise.
    """

    train_folds: str = ""
    validation_folds: str = ""
    test_folds: str = ""
    fractions: tuple[float, ...] = DEFAULT_FRACTIONS
    n_resamples: int = DEFAULT_RESAMPLES


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A label task on a dataset.

    Attributes:
        name: Identifier, as the command line takes it.
        dataset: Source the recordings come from.
        task: Label group of :mod:`ecg_hf.data.labels`.
        description: One line.
        protocol: Defaults.
        drop_unlabelled: Leave out records without any label of the group (the published practice), instead of
            counting them as negatives.
        present_only: Keep only classes that occur in the training records.
    """

    name: str
    dataset: str
    task: str
    description: str
    protocol: Protocol
    drop_unlabelled: bool = True
    present_only: bool = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """Labels of the task (all of them, also where ``present_only`` will drop some)."""
        from ecg_hf.data.labels import label_names

        return tuple(label_names(self.task))


_PTBXL = Protocol(train_folds="1-8", validation_folds="9", test_folds="10")

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("ptbxl-super", "ptbxl", "super", "PTB-XL, 5 diagnostic superclasses", _PTBXL),
        Benchmark("ptbxl-sub", "ptbxl", "sub", "PTB-XL, 23 diagnostic subclasses", _PTBXL),
        Benchmark("ptbxl-form", "ptbxl", "form", "PTB-XL, 19 form statements", _PTBXL),
        Benchmark("ptbxl-rhythm", "ptbxl", "rhythm", "PTB-XL, 12 rhythm statements", _PTBXL),
        Benchmark("ptbxl-diag", "ptbxl", "diag", "PTB-XL, 44 diagnostic statements", _PTBXL),
        Benchmark("ptbxl-all", "ptbxl", "all", "PTB-XL, all 71 statements", _PTBXL),
        Benchmark(
            "synthetic-findings",
            "synthetic",
            "all",
            "synthetic records, every simulated rhythm and finding",
            Protocol(),
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


@dataclass(frozen=True, slots=True, eq=False)
class BenchmarkData:
    """The columns of a dataset a benchmark needs, one entry per record.

    Attributes:
        labels: bool ``(records, classes)``.
        class_names: Names of the classes.
        split: ``"train"``, ``"validation"``, ``"test"``, or ``""`` for records that take no part.
        patient_ids: Patient of every record, ``None`` where unknown; or ``None`` if nothing is known.
        dropped: How many records take no part, by reason.
    """

    labels: BoolArray
    class_names: tuple[str, ...]
    split: npt.NDArray[np.str_]
    patient_ids: tuple[str | None, ...] | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)

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
    ) -> BenchmarkData:
        """Labels and splits of a benchmark.

        Args:
            benchmark: Defines the labels and, through its folds, the splits.
            codes: Label codes of every record.
            folds: Fold of every record; used where the benchmark names folds.
            split: Split of every record; used where it does not.
            patient_ids: Patient of every record.

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
        data.check()
        return data

    @classmethod
    def from_dataset(cls, benchmark: Benchmark, dataset: Dataset) -> BenchmarkData:
        """The same from a built dataset's ``labels``, ``fold``, ``split`` and ``patient_id`` columns."""
        wanted = [c for c in ("labels", "fold", "split", "patient_id") if c in dataset.column_names]
        if "labels" not in wanted:
            raise ConfigurationError("the dataset has no column named 'labels'")
        columns = dataset.select_columns(wanted).with_format("arrow")[:].to_pydict()
        patients = columns.get("patient_id")
        if patients is not None and all(patient is None for patient in patients):
            patients = None
        return cls.from_columns(
            benchmark,
            columns["labels"],
            folds=columns.get("fold"),
            split=columns.get("split"),
            patient_ids=patients,
        )

    def check(self) -> None:
        """Raise unless every split has records and no patient is in the test split and in another."""
        for name in SPLITS:
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
    protocol = benchmark.protocol
    assigned = np.full(n, "", dtype="<U10")
    if protocol.test_folds:
        from ecg_hf.data.splits import parse_folds

        if folds is None:
            raise ConfigurationError(f"{benchmark.name} is defined by folds, which the dataset does not have")
        numbers = np.asarray(folds)
        chosen = (protocol.train_folds, protocol.validation_folds, protocol.test_folds)
        for name, text in zip(SPLITS, chosen, strict=True):
            assigned[np.isin(numbers, parse_folds(text))] = name
        return assigned
    if split is None:
        raise ConfigurationError(f"{benchmark.name} uses the split column, which the dataset does not have")
    given = np.asarray(split, dtype=str)
    for name in SPLITS:
        assigned[given == name] = name
    return assigned


@dataclass(frozen=True, slots=True, eq=False)
class ProbeReport:
    """What :func:`run_probe_benchmark` found.

    Attributes:
        rows: One per encoder and fraction, for the ``probe`` list of a results file.
        paired: One per fraction and pair of encoders, the first encoder against each other one.
        scores: ``(encoder, fraction)`` -> float64 ``(test records, classes)`` log-odds.
        test_rows: Row numbers of the test records in the dataset.
    """

    rows: list[ProbeRow]
    paired: list[PairedRow]
    scores: dict[tuple[str, float], FloatArray]
    test_rows: npt.NDArray[np.intp]


def run_probe_benchmark(
    benchmark: Benchmark,
    embeddings: Mapping[str, npt.ArrayLike | TokenFeatures],
    data: BenchmarkData,
    *,
    head: Literal["linear", "attention"] = "linear",
    fractions: Sequence[float] | None = None,
    seed: int = 0,
    c_grid: Sequence[float] = DEFAULT_C_GRID,
    attention: AttentionProbe | None = None,
    n_resamples: int | None = None,
) -> ProbeReport:
    """Probe every encoder at every label fraction, on the same records and the same resamples.

    A class without a positive among the labelled training records is left out of the macro mean of that
    fraction, for all encoders alike; the row says so. A fraction too small to learn any class from gives rows
    without a score.

    Args:
        benchmark: The benchmark; its protocol gives the defaults.
        embeddings: Encoder name -> ``(records, dim)`` in the order of the dataset, e.g. ``{"pretrained": ...,
            "random": ...}``; for the attention head :class:`~ecg_hf.evaluation.TokenFeatures`. The first is compared
            with each of the others.
        data: Labels and splits.
        head: ``linear``: logistic regression on embeddings; ``attention``: a learnable query over tokens.
        fractions: Shares of the training labels; the protocol's by default.
        seed: Seed of the labelled subsets, of the resamples, and of the attention head.
        c_grid: Candidates for the linear probe's ``C``.
        attention: Settings of the attention probe, its seed apart.
        n_resamples: Bootstrap resamples; the protocol's by default.

    Raises:
        ConfigurationError: if embeddings do not fit the head or the dataset, or hold values that are not finite.
    """
    if not embeddings:
        raise ConfigurationError("there are no embeddings to probe")
    if head not in HEADS:
        raise ConfigurationError(f"head must be one of {', '.join(HEADS)}, got {head!r}", value=head)
    frozen = {name: _features(name, values, head, len(data.labels)) for name, values in embeddings.items()}
    shares = benchmark.protocol.fractions if fractions is None else tuple(fractions)
    resamples = benchmark.protocol.n_resamples if n_resamples is None else n_resamples
    train, validation, test = (data.rows(split) for split in SPLITS)
    patients = None if data.patient_ids is None else [data.patient_ids[i] for i in test]
    truth = data.labels[test]

    rows: list[ProbeRow] = []
    paired: list[PairedRow] = []
    scores: dict[tuple[str, float], FloatArray] = {}
    for subset in nested_subsets(data.labels[train], shares, seed=seed):
        chosen = train[subset.indices]
        if not _learnable(data.labels[chosen], data.labels[validation]):
            rows += [
                _unscored_row(benchmark, name, data, truth, subset, len(validation), seed, head)
                for name in frozen
            ]
            continue
        include: BoolArray | None = None
        for name, features in frozen.items():
            probe: LinearProbe | AttentionProbe
            if head == "linear":
                probe = LinearProbe(c_grid=c_grid)
            else:
                probe = replace(attention or AttentionProbe(), seed=seed)
            probe.fit(
                _take(features, chosen),
                data.labels[chosen],
                _take(features, validation),
                data.labels[validation],
                class_names=data.class_names,
            )
            predicted = probe.decision_function(_take(features, test))
            scores[name, subset.fraction] = predicted
            include = np.array([label not in probe.unfitted for label in data.class_names])
            row = _probe_row(data, truth, predicted, probe, subset, patients, include, resamples, seed)
            row.update(
                {
                    "encoder": name,
                    "benchmark": benchmark.name,
                    "head": head,
                    "seed": seed,
                    "n_validation": len(validation),
                }
            )
            rows.append(row)
        first, *others = frozen
        for other in others:
            pair = paired_bootstrap(
                truth,
                scores[first, subset.fraction],
                scores[other, subset.fraction],
                groups=patients,
                include=include,
                n_resamples=resamples,
                seed=seed,
            )
            paired.append(
                PairedRow(
                    first=first,
                    second=other,
                    fraction=subset.fraction,
                    difference=finite(pair.difference.estimate),
                    ci95=[finite(pair.difference.low), finite(pair.difference.high)],
                    p_value=finite(pair.p_value),
                    benchmark=benchmark.name,
                    head=head,
                    seed=seed,
                )
            )
    return ProbeReport(rows, paired, scores, test)


def _features(name: str, values: npt.ArrayLike | TokenFeatures, head: str, records: int) -> Any:
    """Features as the head takes them, checked against the dataset."""
    if head == "attention":
        tokens = values if isinstance(values, TokenFeatures) else TokenFeatures(np.asarray(values))
        if len(tokens) != records:
            raise ConfigurationError(
                f"tokens {name!r} must be of {records} records, got {len(tokens)}", value=tokens.shape
            )
        return tokens
    if isinstance(values, TokenFeatures):
        raise ConfigurationError(
            f"the linear head reads pooled embeddings, {name!r} holds tokens", value=values.shape
        )
    matrix = np.asarray(values)
    if matrix.ndim != 2 or len(matrix) != records:
        raise ConfigurationError(
            f"embeddings {name!r} must be ({records}, dim), got {matrix.shape}", value=matrix.shape
        )
    return matrix


def _take(features: Any, rows: npt.NDArray[np.intp]) -> Any:
    return features.select(rows) if isinstance(features, TokenFeatures) else features[rows]


def _learnable(train: BoolArray, validation: BoolArray) -> bool:
    """Whether some class has both label values in training and in validation records."""
    both = [labels.any(axis=0) & ~labels.all(axis=0) for labels in (train, validation)]
    return bool((both[0] & both[1]).any())


def _unscored_row(
    benchmark: Benchmark,
    encoder: str,
    data: BenchmarkData,
    truth: BoolArray,
    subset: LabelledSubset,
    n_validation: int,
    seed: int,
    head: str,
) -> ProbeRow:
    """The row of a fraction too small to learn anything from: no score, and every class says why."""
    reason = (
        f"{subset.n} training and {n_validation} validation records are too few to fit and choose a probe"
    )
    everything = dict.fromkeys(data.class_names, reason)
    score = score_classes(truth, np.zeros(truth.shape), data.class_names, excluded=everything)
    nothing = [Interval(np.nan, np.nan, np.nan)] * len(data.class_names)
    return ProbeRow(
        encoder=encoder,
        fraction=subset.fraction,
        macro_auroc=None,
        ci95=[None, None],
        n_train=subset.n,
        n_test=len(truth),
        positives=score.positives,
        benchmark=benchmark.name,
        head=head,
        seed=seed,
        n_validation=n_validation,
        undefined=list(data.class_names),
        classes=class_rows(score, nothing),
    )


def _probe_row(
    data: BenchmarkData,
    truth: BoolArray,
    predicted: FloatArray,
    probe: LinearProbe | AttentionProbe,
    subset: LabelledSubset,
    patients: Sequence[str | None] | None,
    include: BoolArray,
    n_resamples: int,
    seed: int,
) -> ProbeRow:
    score = score_classes(truth, predicted, data.class_names, excluded=probe.unfitted)
    interval = bootstrap_auroc(
        truth, predicted, groups=patients, include=include, n_resamples=n_resamples, seed=seed
    )
    # What a constant output scores, wherever the test set defines a score at all.
    areas = auroc(truth, np.where(include, predicted, 0.0))
    at_chance = float(np.nanmean(areas)) if np.isfinite(areas).any() else None
    train_positives = dict(zip(data.class_names, (int(p) for p in subset.positives), strict=True))
    row = ProbeRow(
        encoder="",
        fraction=subset.fraction,
        macro_auroc=score.macro_auroc,
        ci95=[finite(interval.macro.low), finite(interval.macro.high)],
        n_train=subset.n,
        n_test=score.n,
        positives=score.positives,
        macro_auroc_unlearnt_at_chance=at_chance,
        macro_auprc=score.macro_auprc,
        resampled=interval.unit,
        undefined=list(score.undefined),
        classes=class_rows(score, interval.classes, train_positives),
    )
    if isinstance(probe, LinearProbe):
        row.update({"c": probe.c, "c_at_edge": probe.c_at_edge, "converged": probe.converged})
    else:
        row.update({"epoch": probe.epoch, "epochs": probe.epochs})
    return row
