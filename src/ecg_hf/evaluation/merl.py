"""Where MERL's published tables are, what they must be, and how to get them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecg_hf.data.downloading import DownloadReport, download_files
from ecg_hf.errors import ConfigurationError
from ecg_hf.metrics.ranking import BoolArray

__all__ = [
    "MERL_COMMIT",
    "MERL_PROMPTS",
    "MERL_TABLES",
    "LabelRule",
    "MerlTable",
    "download_merl_tables",
    "exact_csn_labels",
    "merl_prompts_file",
    "merl_table_file",
    "read_merl_table",
    "stack_merl_tables",
]

MERL_COMMIT = "38799b7deb1c9958f41badcfacc6a95192787cc4"
"""Commit of github.com/cheliu-computation/MERL-ICML2024 the checksums are of."""

MERL_URL = "https://raw.githubusercontent.com/cheliu-computation/MERL-ICML2024"
SPLIT_FOLDERS = ("finetune/data_split", "data_split", ".")

MERL_TABLES: dict[str, dict[str, tuple[str, str]]] = {
    "ptbxl-super": {
        "train": (
            "ptbxl/super_class/ptbxl_super_class_train.csv",
            "81c0b53f7500107cfcf3433ad7cfcbc4622d300171f9cfc8ddeeccd5e6ee53a5",
        ),
        "validation": (
            "ptbxl/super_class/ptbxl_super_class_val.csv",
            "d852fcc62edcdd4785f64cddeb24ef1c84435350bc34ccbef9b3fedfc3bd63b1",
        ),
        "test": (
            "ptbxl/super_class/ptbxl_super_class_test.csv",
            "1646fae11e3fad3f7a98a34f4af5ab0c86e64ad06eba6861cad26831a5f0f617",
        ),
    },
    "ptbxl-sub": {
        "train": (
            "ptbxl/sub_class/ptbxl_sub_class_train.csv",
            "6df73dd4a5f638525c8a346614dbf5a8992d8862efeacc8d2b11efc6addcce9a",
        ),
        "validation": (
            "ptbxl/sub_class/ptbxl_sub_class_val.csv",
            "b79acabc92088e400273392adb87e16be3c74695572a174efe7359f97eca1c8c",
        ),
        "test": (
            "ptbxl/sub_class/ptbxl_sub_class_test.csv",
            "2394d07f10150a9853fa985d30959a348c2553207367860042d48d3108a4c013",
        ),
    },
    "ptbxl-form": {
        "train": (
            "ptbxl/form/ptbxl_form_train.csv",
            "4b2b1d0c3398b897f15a4902f993137ecb24563a223251b6319fb64ac4fd2da7",
        ),
        "validation": (
            "ptbxl/form/ptbxl_form_val.csv",
            "50c614246753bda0e123528e4d79fad861e870ae17105c136c6a0776996ff6c5",
        ),
        "test": (
            "ptbxl/form/ptbxl_form_test.csv",
            "533fc6f96c4dde42cd7e1722a0180ee405a8b22ca75225f5700fd7012049b17c",
        ),
    },
    "ptbxl-rhythm": {
        "train": (
            "ptbxl/rhythm/ptbxl_rhythm_train.csv",
            "ed76e6459be242953504d2a702a383bd0593b53bc2fffa941aadb11c6d192d32",
        ),
        "validation": (
            "ptbxl/rhythm/ptbxl_rhythm_val.csv",
            "a6386ab392844d7cccd358f2fac8aeb0dcff0240be0a3b0e1188807d2e3ad390",
        ),
        "test": (
            "ptbxl/rhythm/ptbxl_rhythm_test.csv",
            "da18b3ecf6c8260a9986437d3a38dd522eb1aab8f5e4439d7bbaf28d172240b0",
        ),
    },
    "cpsc2018": {
        "train": (
            "icbeb/icbeb_train.csv",
            "013fa62513598e7a141d5ea810f73b6b75cdddbab25e11bcbbcdf84a18f000de",
        ),
        "validation": (
            "icbeb/icbeb_val.csv",
            "17fc4f6f95aa818e147ff3b6d5c314c9ae4301989469a0488aaa19638d3e44c8",
        ),
        "test": (
            "icbeb/icbeb_test.csv",
            "ef85abba57aedba8bf857cf843457b5732f68adfd27b0f45af408870d4210a7f",
        ),
    },
    "csn": {
        "train": (
            "chapman/chapman_train.csv",
            "8cb268dd4a1e87ea527c4ad57f23baafc4ba72c08edf0ffe2d13cbf6aa299572",
        ),
        "validation": (
            "chapman/chapman_val.csv",
            "2f611e3447008d36eaa10a33675127d57c90a156894577167a7932057a7ef8a8",
        ),
        "test": (
            "chapman/chapman_test.csv",
            "a51df50676226bd7697845fc15036356a56af9379c3efaa917f1dbff274d1236",
        ),
    },
}
"""Benchmark -> split -> file below ``data_split`` and its SHA-256."""

MERL_PROMPTS = (
    "zeroshot/CKEPE_prompt.json",
    "468b9b23220bbc6190618db6e0138ae34d95097456214a1b12cd0d1ad30e233c",
)
"""The zero-shot prompts (131 labels, one text each) and their SHA-256."""


def download_merl_tables(
    folder: str | os.PathLike[str], *, base_url: str | None = None, progress: bool = True
) -> DownloadReport:
    """Fetch the eighteen tables and the prompts from the official repository, at a pinned commit.

    Every file is checked; one that is there already is not fetched again. MIT licence; the tables derive from
    PTB-XL, CPSC 2018 and Chapman-Shaoxing-Ningbo (CC BY 4.0).

    Args:
        folder: Folder to fill with ``finetune/data_split/...`` and ``zeroshot/CKEPE_prompt.json``.
        base_url: Server to fetch from instead of GitHub: the address that holds ``<commit>/finetune/...``.
        progress: Show a progress bar on standard error.

    Raises:
        DownloadError: if a file can't be fetched or is another one.
    """
    files = {
        f"{SPLIT_FOLDERS[0]}/{name}": digest
        for splits in MERL_TABLES.values()
        for name, digest in splits.values()
    }
    files[MERL_PROMPTS[0]] = MERL_PROMPTS[1]
    root = f"{(base_url or MERL_URL).rstrip('/')}/{MERL_COMMIT}/"
    return download_files(root, Path(folder), files, title="MERL", progress=progress)


def merl_table_file(
    folder: str | os.PathLike[str], benchmark: str, split: str, *, verify: bool = True
) -> Path:
    """The published table of a benchmark and split.

    Args:
        folder: A clone of the repository, what :func:`download_merl_tables` filled, or its ``data_split`` alone.
        benchmark: ``"ptbxl-super"``, ``-sub``, ``-form``, ``-rhythm``, ``"cpsc2018"`` or ``"csn"``.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        verify: Refuse a file with other bytes than the published one.

    Raises:
        ConfigurationError: if MERL publishes no such table, or the file is missing or another one.
    """
    if benchmark not in MERL_TABLES:
        raise ConfigurationError(
            f"MERL publishes no tables for {benchmark!r} (it does for {', '.join(MERL_TABLES)})",
            value=benchmark,
        )
    name, digest = MERL_TABLES[benchmark][split]
    return _found(folder, [f"{place}/{name}" for place in SPLIT_FOLDERS], digest if verify else None)


def merl_prompts_file(folder: str | os.PathLike[str], *, verify: bool = True) -> Path:
    """The published zero-shot prompts, to be read by :func:`ecg_hf.evaluation.load_prompts`.

    Raises:
        ConfigurationError: if the file is missing or another one.
    """
    name = MERL_PROMPTS[0]
    return _found(folder, [name, name.rpartition("/")[2]], MERL_PROMPTS[1] if verify else None)


def _found(folder: str | os.PathLike[str], names: list[str], digest: str | None) -> Path:
    for name in names:
        path = Path(folder) / name
        if not path.is_file():
            continue
        if digest is not None and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ConfigurationError("the file is not the published one (its checksum differs)", path=path)
        return path
    raise ConfigurationError(
        f"there is no {names[-1]}; get the tables with download_merl_tables()", path=Path(folder)
    )


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
