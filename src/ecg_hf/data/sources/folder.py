"""A folder of one's own: recordings of any format, and a table of labels if there is one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Unpack

from ecg_hf.data.schema import SPLITS, Entry
from ecg_hf.data.sources.base import (
    FOLD_OPTIONS,
    FoldOptions,
    HashedSource,
    Plan,
    SourceInfo,
    is_plain_relative,
)
from ecg_hf.data.sources.headers import is_storable
from ecg_hf.data.sources.tables import read_table
from ecg_hf.data.splits import hash_fold
from ecg_hf.errors import DatasetBuildError
from ecg_hf.signal.io.paths import recordings_below

__all__ = ["EcgFolder"]

_SPLIT_NAMES = {
    **{name: name for name in SPLITS},
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
}
_COLUMNS = ("patient", "split", "label")


class EcgFolder(HashedSource):
    """Every recording below a folder that :func:`ecg_hf.read_record` opens, whatever its format.

    A table says which recordings there are, of whom, in which split and with which labels. Its columns are ``id``
    (a file relative to the folder, with or without its suffix) and, all optional, ``patient``, ``split`` (``train``,
    ``validation`` or ``test``) and ``label`` (several between semicolons). Without a table, every file below the
    folder is a recording. Splits that the table does not give are drawn by a hash of the patient or, where unknown,
    of the id, and never change when recordings are added.

    Args:
        data_dir: The folder.
        labels: Name of the table in the folder. Without such a file there are no labels, unless another name than
            the default was asked for.
        seed: Seed of the folds.
        train_folds: Folds (of ten) to train on.
        validation_folds: Folds to validate on.
        test_folds: Folds to test on.

    Raises:
        DatasetBuildError: if the table asked for is not there.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="folder",
        title="A folder of your own: DICOM, XML, SCP-ECG, EDF, Holter, watch, CSV and WFDB files, labels in a table",
        expects="recordings of any readable format anywhere below the folder; a labels.csv with ids is respected",
        labels="whatever the table's column label holds",
        drops="rows without a file, names that are not printable UTF-8, folds not selected, unreadable files",
        licence="that of the folder's data",
        options={
            "labels": "table with the columns id, patient, split, label, all but id optional (labels.csv)",
            **FOLD_OPTIONS,
        },
    )

    def __init__(
        self,
        data_dir: Path | None,
        *,
        labels: str = "labels.csv",
        **folds: Unpack[FoldOptions],
    ) -> None:
        super().__init__(data_dir, **folds)
        if not isinstance(labels, str) or not is_plain_relative(labels):
            raise DatasetBuildError("labels must be the name of a table in the folder", path=self.data_dir)
        if labels != "labels.csv" and not (self.data_dir / labels).is_file():
            raise DatasetBuildError("the table of labels is missing", path=self.data_dir / labels)
        self.labels = labels

    def options(self) -> dict[str, Any]:
        """The options in force."""
        return {
            "labels": self.labels,
            **super().options(),
        }

    @classmethod
    def reads_to_plan(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """The table of labels."""
        return (str(options.get("labels", "labels.csv")),)

    def plan(self) -> Plan:
        """Rows of the table in their order, or every file in sorted order."""
        plan = Plan()
        files = self._files(plan)
        table = self.data_dir / self.labels
        if not table.is_file():
            for name in sorted(set(files.values())):
                self._add(plan, name, name, None, None, ())
            return plan
        rows = read_table(table, ("id",), optional=_COLUMNS)
        if rows["id"].isna().any() or rows["id"].duplicated().any():
            raise DatasetBuildError("the table has rows without an id, or an id twice", path=table)
        for row in rows.to_dict("records"):
            cells = {key: str(row[key]).strip() for key in ("id", *_COLUMNS) if isinstance(row.get(key), str)}
            record_id = cells["id"]
            split = cells.get("split") or None
            if split is not None and split.lower() not in _SPLIT_NAMES:
                raise DatasetBuildError(
                    "the table has a split that is not train, validation or test", path=table
                )
            labels = tuple(part.strip() for part in cells.get("label", "").split(";") if part.strip())
            if not is_storable(record_id) or not is_plain_relative(record_id):
                plan.tally.drop("row of the table", "odd_name")
            elif record_id not in files:
                plan.tally.drop(record_id, "file_not_there")
            else:
                stated = None if split is None else _SPLIT_NAMES[split.lower()]
                self._add(plan, record_id, files[record_id], cells.get("patient") or None, stated, labels)
        return plan

    def _add(
        self,
        plan: Plan,
        record_id: str,
        path: str,
        patient: str | None,
        split: str | None,
        labels: tuple[str, ...],
    ) -> None:
        fold = hash_fold(patient or record_id, seed=self.seed)
        chosen = split or self.folds.split_of(fold)
        if chosen is None:
            plan.tally.drop(record_id, "fold_not_selected")
            return
        plan.entries.append(
            Entry(
                record_id, path, patient_id=patient, labels=labels, fold=-1 if split else fold, split=chosen
            )
        )

    def _files(self, plan: Plan) -> dict[str, str]:
        """Path of every recording by its names: with suffix and, where only one file has it, without."""
        found: dict[str, str] = {}
        stems: dict[str, list[str]] = {}
        for file in recordings_below(self.data_dir):
            path = file.relative_to(self.data_dir).as_posix()
            if path == self.labels:
                continue
            if not is_storable(path):
                plan.tally.drop("a file", "odd_name")
                continue
            # WFDB records go by their names, others with their suffix.
            shown = path.removesuffix(".hea")
            found[path] = found[shown] = shown
            stems.setdefault(os.path.splitext(path)[0], []).append(shown)
        for stem, paths in stems.items():
            if len(paths) == 1:
                found.setdefault(stem, paths[0])
        return found
