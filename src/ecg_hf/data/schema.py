"""The canonical row: the columns every built dataset has, whatever its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Features, List, Value

from ecg_hf.data.feature import STORAGE_TYPE, Ecg, encode_digital
from ecg_hf.signal.io.digital import DigitalRecord

__all__ = ["SPLITS", "Entry", "SourceRow", "canonical_features", "rows_to_batch", "shard_schema"]

SPLITS = ("train", "validation", "test")
"""Values of the ``split`` column."""

UNKNOWN_FOLD = -1


def canonical_features() -> Features:
    """Columns and types of a built dataset, in order.

    ======================  ==========================================================================
    ``record_id``           name of the recording within its source
    ``patient_id``          shared by recordings of one person; null if the source does not tell
    ``age``                 years, NaN where unknown
    ``sex``                 ``"female"``, ``"male"`` or null
    ``report``              clinical text; ``""`` if missing
    ``labels``              codes of the source's own vocabulary (SCP-ECG, SNOMED CT ...)
    ``fold``                official or derived fold; -1 if none
    ``split``               ``"train"``, ``"validation"`` or ``"test"``
    ``source``              name of the source
    ``ecg``                 the recording (:class:`ecg_hf.data.Ecg`)
    ``r_peaks``             sample indices of known R peaks; empty if not annotated
    ======================  ==========================================================================
    """
    return Features(
        {
            "record_id": Value("string"),
            "patient_id": Value("string"),
            "age": Value("float32"),
            "sex": Value("string"),
            "report": Value("string"),
            "labels": List(Value("string")),
            "fold": Value("int32"),
            "split": Value("string"),
            "source": Value("string"),
            "ecg": Ecg(),
            "r_peaks": List(Value("int32")),
        }
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known about a recording before its samples are read.

    Attributes:
        record_id: Name of the recording within its source.
        path: Where it is, relative to the data folder, with forward slashes and without extension.
        patient_id: Identifier shared by recordings of one person, if known.
        age: Years; NaN where unknown.
        sex: ``"female"``, ``"male"`` or ``None``.
        report: Clinical text, empty if missing.
        labels: Codes in the source's vocabulary.
        fold: Official or derived fold, -1 if none.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        notes: Codes of repairs made to the metadata, counted in the build report.
    """

    record_id: str
    path: str
    patient_id: str | None = None
    age: float = float("nan")
    sex: str | None = None
    report: str = ""
    labels: tuple[str, ...] = ()
    fold: int = UNKNOWN_FOLD
    split: str = "train"
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class SourceRow:
    """One recording as a source passes it to the builder: its entry, its exact samples, its R peaks if known."""

    entry: Entry
    ecg: DigitalRecord
    r_peaks: npt.NDArray[np.integer[Any]] | None = None


def rows_to_batch(rows: Sequence[SourceRow], source: str) -> pa.RecordBatch:
    """One Arrow record batch of ``rows``, built column by column (a dictionary per row costs ten times more)."""
    entries = [row.entry for row in rows]
    stored = [encode_digital(row.ecg) for row in rows]
    peaks = [[] if row.r_peaks is None else row.r_peaks.tolist() for row in rows]
    columns = {
        "record_id": pa.array([e.record_id for e in entries], pa.string()),
        "patient_id": pa.array([e.patient_id for e in entries], pa.string()),
        "age": pa.array([e.age for e in entries], pa.float32()),
        "sex": pa.array([e.sex for e in entries], pa.string()),
        "report": pa.array([e.report for e in entries], pa.string()),
        "labels": pa.array([list(e.labels) for e in entries], pa.list_(pa.string())),
        "fold": pa.array([e.fold for e in entries], pa.int32()),
        "split": pa.array([e.split for e in entries], pa.string()),
        "source": pa.array([source] * len(rows), pa.string()),
        "ecg": pa.StructArray.from_arrays(
            [pa.array([s[f.name] for s in stored], type=f.type) for f in STORAGE_TYPE],
            fields=list(STORAGE_TYPE),
        ),
        "r_peaks": pa.array(peaks, pa.list_(pa.int32())),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in shard_schema().names], schema=shard_schema())


@cache
def shard_schema() -> pa.Schema:
    """Arrow schema of a shard: the canonical columns, without library metadata (see :class:`Ecg`)."""
    return pa.schema(canonical_features().type)
