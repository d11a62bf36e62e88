"""The run of probes over a benchmark: every encoder, every label fraction, intervals and pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.attention_probe import AttentionProbe
from ecg_hf.evaluation.benchmark_data import SPLITS, BenchmarkData
from ecg_hf.evaluation.bootstrap import paired_bootstrap
from ecg_hf.evaluation.definitions import BENCHMARKS, Benchmark, Protocol, get_benchmark, list_benchmarks
from ecg_hf.evaluation.fractions import nested_subsets
from ecg_hf.evaluation.metrics import BoolArray, FloatArray
from ecg_hf.evaluation.probe import DEFAULT_C_GRID, LinearProbe
from ecg_hf.evaluation.results import PairedRow, ProbeRow, finite
from ecg_hf.evaluation.rows import learnable, scored_row, unscored_row
from ecg_hf.evaluation.token_store import TokenFeatures

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

HEADS = ("linear", "attention")


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
            "untrained": ...}``; for the attention head :class:`~ecg_hf.evaluation.TokenFeatures`. The first is
            compared with each of the others.
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
        if not learnable(data.labels[chosen], data.labels[validation]):
            nothing = unscored_row(truth, data.class_names, subset, len(validation))
            shared = {"benchmark": benchmark.name, "head": head, "seed": seed}
            rows += [cast(ProbeRow, {**nothing, **shared, "encoder": name}) for name in frozen]
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
            row, _ = scored_row(
                truth,
                predicted,
                data.class_names,
                probe.unfitted,
                subset,
                patients=patients,
                n_resamples=resamples,
                seed=seed,
            )
            if isinstance(probe, LinearProbe):
                row.update({"c": probe.c, "c_at_edge": probe.c_at_edge, "converged": probe.converged})
            else:
                row.update({"epoch": probe.epoch, "epochs": probe.epochs})
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
                    interval=pair.method,
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
