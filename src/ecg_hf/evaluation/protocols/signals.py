"""What a protocol does to signals: settings of the feature extractor, and the part of a recording it looks at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_hf.evaluation.definitions import Benchmark
from ecg_hf.evaluation.protocols.definitions import Protocol

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["extractor_overrides", "keep_first", "protocol_signals"]


def extractor_overrides(protocol: Protocol, benchmark: Benchmark) -> dict[str, Any]:
    """Settings of :class:`ecg_hf.EcgFeatureExtractor` that replace the model's own; empty where a protocol has none.

    Where a protocol also looks at the beginning of recordings only (CPSC 2018 under ``merl``: 5 s, zeros after
    that), pass the dataset through :func:`protocol_signals` too.
    """
    return dict(protocol.extractor) if benchmark.kind == "multilabel" else {}


def protocol_signals(protocol: Protocol, benchmark: Benchmark, dataset: Dataset) -> Dataset:
    """The dataset with the part of each recording a protocol looks at; the same object where it is all of it."""
    seconds = protocol.first_s.get(benchmark.dataset)
    return dataset if seconds is None else keep_first(dataset, seconds)


def keep_first(dataset: Dataset, seconds: float, *, column: str = "ecg") -> Dataset:
    """Rows whose recordings end after some seconds at the latest; samples that stay keep their exact stored values.

    Args:
        dataset: Canonical rows.
        seconds: How much of the beginning to keep; shorter recordings stay as they are.
        column: Name of the ECG column.
    """
    from ecg_hf.data.feature import Ecg

    feature = dataset.features[column]
    peaks = "r_peaks" in dataset.column_names
    cut = dataset.cast_column(column, Ecg(decode=False)).map(
        _cut_batch,
        fn_kwargs={"seconds": seconds, "column": column, "peaks": peaks},
        batched=True,
        batch_size=256,
        writer_batch_size=256,
        desc=f"first {seconds:g} s",
    )
    return cut.cast_column(column, feature)


def _cut_batch(batch: Mapping[str, list[Any]], seconds: float, column: str, peaks: bool) -> dict[str, Any]:
    from ecg_hf.data.feature import STORAGE_DTYPES

    rows, kept = [], []
    for i, ecg in enumerate(batch[column]):
        leads, length = ecg["shape"]
        count = min(length, round(seconds * ecg["sampling_rate"]))
        if count < length:
            samples = np.frombuffer(ecg["samples"], STORAGE_DTYPES[ecg["dtype"]]).reshape(leads, length)
            part = np.ascontiguousarray(samples[:, :count])
            ecg = {**ecg, "samples": part.tobytes(), "shape": [leads, count]}
        rows.append(ecg)
        if peaks:
            kept.append([peak for peak in batch["r_peaks"][i] if peak < count])
    return {column: rows, "r_peaks": kept} if peaks else {column: rows}
