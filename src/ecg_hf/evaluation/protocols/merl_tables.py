"""MERL's published tables: which records, which labels, as written and as they should have been."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.metrics import BoolArray
from ecg_hf.evaluation.protocols.merl_files import merl_table_file

__all__ = ["LabelRule", "MerlTable", "exact_csn_labels", "read_merl_table", "stack_merl_tables"]

LabelRule = Literal["position", "name"]

META_COLUMNS: dict[str, tuple[str, ...]] = {
    **{
        f"ptbxl-{task}": ("ecg_id", "patient_id", "strat_fold", "filename_lr", "filename_hr", column)
        for task, column in (
            ("super", "super_class"),
            ("sub", "sub_class"),
            ("form", "form"),
            ("rhythm", "rhythm"),
        )
    },
    "cpsc2018": ("patient_id", "ecg_id", "filename", "validation", "age", "sex", "scp_codes"),
    "csn": ("ecg_path", "age", "diagnose"),
}
"""Columns before the labels. ``age`` of ``csn`` is the number of leads, ``scp_codes`` of ``cpsc2018`` is empty."""

RECORD_COLUMN = {"cpsc2018": "filename", "csn": "ecg_path"}


@dataclass(frozen=True, slots=True, eq=False)
class MerlTable:
    """One or more published tables of a benchmark, one below the other.

    Attributes:
        benchmark: Name of the benchmark.
        record_ids: Names of the records as the sources have them: ``"1"`` (PTB-XL), ``"A0001"``, ``"JS00001"``.
        labels: bool ``(rows, classes)``.
        class_names: Names of the columns of ``labels``, in the published spelling.
        splits: ``"train"``, ``"validation"`` or ``"test"`` of every row.
        folds: int64 ``(rows,)`` PTB-XL's ``strat_fold``; -1 where there is none.
        diagnoses: Acronyms of every row (CSN only, otherwise empty).
    """

    benchmark: str
    record_ids: tuple[str, ...]
    labels: BoolArray
    class_names: tuple[str, ...]
    splits: npt.NDArray[np.str_]
    folds: npt.NDArray[np.int64]
    diagnoses: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.record_ids)


def read_merl_table(
    folder: str | os.PathLike[str], benchmark: str, split: str, *, verify: bool = True
) -> MerlTable:
    """One published table, columns in the order of its file.

    Raises:
        ConfigurationError: if it is missing, another one, or not laid out as published.
    """
    path = merl_table_file(folder, benchmark, split, verify=verify)
    meta = META_COLUMNS[benchmark]
    table = pd.read_csv(path, dtype=dict.fromkeys(meta, str), encoding="utf-8")
    names = tuple(str(name) for name in table.columns[len(meta) :])
    if tuple(table.columns[: len(meta)]) != meta or not names:
        raise ConfigurationError("the table does not have the published columns", path=path)
    values = table.iloc[:, len(meta) :].to_numpy()
    if values.dtype.kind not in "iu" or not np.isin(values, (0, 1)).all():
        raise ConfigurationError("the labels of the table are not zeros and ones", path=path)
    given = table[RECORD_COLUMN.get(benchmark, "ecg_id")].astype(str)
    # "/chapman/WFDBRecords/18/186/JS18048.mat", "A0001", "15709".
    ids = tuple(name.rpartition("/")[2].removesuffix(".mat") for name in given)
    folds = table["strat_fold"].astype(np.int64).to_numpy() if "strat_fold" in meta else np.full(len(ids), -1)
    diagnoses = tuple(tuple(text.split(",")) for text in table["diagnose"]) if "diagnose" in meta else ()
    return MerlTable(
        benchmark=benchmark,
        record_ids=ids,
        labels=values.astype(bool),
        class_names=names,
        splits=np.full(len(ids), split, dtype="<U10"),
        folds=folds.astype(np.int64),
        diagnoses=diagnoses,
    )


def stack_merl_tables(tables: Sequence[MerlTable], rule: LabelRule) -> MerlTable:
    """Tables of one benchmark, one below the other.

    MERL takes the labels of all splits by position, but the training table of ``ptbxl-sub`` has AVB, RAO/RAE, ISC
    where the other two have ISC, AVB, RAO/RAE: its probes learn three of 23 classes from the labels of others.

    Args:
        tables: Training, validation and test table.
        rule: ``"position"`` repeats this; ``"name"`` puts every column where its name belongs.

    Returns:
        The rows in the order given, columns and names those of the last table.

    Raises:
        ConfigurationError: if the tables name different classes.
    """
    names = tables[-1].class_names
    parts = []
    for table in tables:
        if set(table.class_names) != set(names) or len(table.class_names) != len(names):
            raise ConfigurationError(
                f"the published tables of {table.benchmark} name different classes", value=table.class_names
            )
        order = [table.class_names.index(name) for name in names]
        parts.append(table.labels if rule == "position" else table.labels[:, order])
    return MerlTable(
        benchmark=tables[0].benchmark,
        record_ids=tuple(name for table in tables for name in table.record_ids),
        labels=np.concatenate(parts),
        class_names=names,
        splits=np.concatenate([table.splits for table in tables]),
        folds=np.concatenate([table.folds for table in tables]),
        diagnoses=tuple(row for table in tables for row in table.diagnoses),
    )


def exact_csn_labels(table: MerlTable) -> BoolArray:
    """Labels of CSN by membership of the acronym in the record's diagnoses.

    The published columns were made by a substring test, so that ``AFIB`` also counts as ``AF``, ``STTC`` as ``ST``
    and ``1AVB`` as both ``AVB`` and ``VB``: seven of 38 classes hold 5,125 positives that are none.

    Returns:
        bool ``(rows, classes)`` in the order of ``table.class_names``.

    Raises:
        ConfigurationError: if the table has no diagnoses.
    """
    if len(table.diagnoses) != len(table):
        raise ConfigurationError(f"the tables of {table.benchmark} have no diagnoses to derive labels from")
    position = {name: i for i, name in enumerate(table.class_names)}
    labels = np.zeros((len(table), len(position)), dtype=bool)
    for row, diagnoses in enumerate(table.diagnoses):
        for name in diagnoses:
            if name in position:
                labels[row, position[name]] = True
    return labels
