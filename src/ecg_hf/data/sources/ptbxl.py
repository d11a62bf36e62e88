"""PTB-XL: 21,799 clinical 12-lead ECGs of 18,869 patients (Wagner et al. 2020)."""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ecg_hf.data.schema import Entry
from ecg_hf.data.sources.base import PhysioNetProject, Plan, Source, SourceInfo, is_plain_relative
from ecg_hf.data.sources.tables import clean_text, identifier, read_table
from ecg_hf.data.splits import FoldSelection
from ecg_hf.errors import ConfigurationError

__all__ = ["PtbXl", "parse_scp_codes"]

TABLE = "ptbxl_database.csv"
PATH_COLUMNS = {100: "filename_lr", 500: "filename_hr"}

OVER_89 = 90.0
"""What is stored for the 300 years PTB-XL writes for every patient over 89."""


class PtbXl(Source):
    """PTB-XL in its official layout.

    Every statement counts as a label whatever its likelihood, as in the published benchmarks. Splits follow
    the official stratified folds, which keep patients together.

    Args:
        data_dir: Folder with ``ptbxl_database.csv`` and ``records100`` or ``records500``.
        rate: 100 or 500 Hz.
        train_folds: Official folds to train on.
        validation_folds: Official folds to validate on.
        test_folds: Official folds to test on.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="ptbxl",
        title="PTB-XL 1.0.3: 21,799 ten-second 12-lead ECGs with SCP-ECG statements and reports",
        expects="ptbxl_database.csv and the folder records100/ or records500/, as published",
        labels="SCP-ECG codes, every likelihood",
        drops="rows whose files are missing, rows of folds that were not selected, unreadable recordings",
        licence="CC BY 4.0",
        options={
            "rate": "100 or 500 Hz (100)",
            "train_folds": "official folds to train on (1-8)",
            "validation_folds": "official folds to validate on (9)",
            "test_folds": "official folds to test on (10)",
        },
        physionet=PhysioNetProject(
            slug="ptb-xl",
            version="1.0.3",
            subsets={
                "100": ("*.csv", "*.txt", "RECORDS", "records100/*"),
                "500": ("*.csv", "*.txt", "RECORDS", "records500/*"),
            },
        ),
    )

    def __init__(
        self,
        data_dir: Path | None,
        *,
        rate: int = 100,
        train_folds: str = "1-8",
        validation_folds: str = "9",
        test_folds: str = "10",
    ) -> None:
        super().__init__(data_dir)
        if int(rate) not in PATH_COLUMNS:
            raise ConfigurationError(f"PTB-XL has recordings at 100 and 500 Hz, not {rate}", value=rate)
        self.rate = int(rate)
        self.folds = FoldSelection(train_folds, validation_folds, test_folds)

    def options(self) -> dict[str, Any]:
        """The options in force."""
        return {
            "rate": self.rate,
            "train_folds": self.folds.train,
            "validation_folds": self.folds.validation,
            "test_folds": self.folds.test,
        }

    @classmethod
    def reads_to_plan(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """The official table."""
        return (TABLE,)

    def plan(self) -> Plan:
        """Rows of the official table whose files exist, in its order."""
        path_column = PATH_COLUMNS[self.rate]
        table = read_table(
            self.data_dir / TABLE,
            ["ecg_id", "patient_id", "age", "sex", "report", "scp_codes", "strat_fold", path_column],
        )
        plan = Plan()
        there = _headers_below(self.data_dir, set(table[path_column].dropna()))
        for row in table.itertuples(index=False):
            record_id = str(row.ecg_id)
            path = getattr(row, path_column)
            fold = _integer(row.strat_fold)
            split = None if fold is None else self.folds.split_of(fold)
            codes = parse_scp_codes(row.scp_codes)
            if not isinstance(path, str) or not is_plain_relative(path):
                plan.tally.drop(record_id, "UnsafePath")
            elif path not in there:
                plan.tally.drop(record_id, "file_not_there")
            elif split is None:
                plan.tally.drop(record_id, "fold_not_selected")
            elif codes is None:
                plan.tally.drop(record_id, "labels_unreadable")
            else:
                age, age_notes = _age(row.age)
                report, report_notes = clean_text(row.report)
                plan.entries.append(
                    Entry(
                        record_id=record_id,
                        path=path,
                        patient_id=identifier(row.patient_id),
                        age=age,
                        sex={"0": "male", "1": "female"}.get(str(row.sex).removesuffix(".0")),
                        report=report,
                        labels=codes,
                        fold=-1 if fold is None else fold,
                        split=split,
                        notes=(*age_notes, *report_notes),
                    )
                )
        return plan


def parse_scp_codes(cell: object) -> tuple[str, ...] | None:
    """Codes of a ``scp_codes`` cell such as ``{'NORM': 100.0, 'SR': 0.0}``, in its order.

    The cell is a Python literal, read as one and never executed. Likelihood 0 means "not stated", so every code
    counts. ``None`` for anything else.
    """
    if not isinstance(cell, str):
        return None
    try:
        value = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(value, dict) or not all(isinstance(code, str) for code in value):
        return None
    return tuple(value)


def _headers_below(root: Path, paths: set[str]) -> set[str]:
    """Those of ``paths`` that have a header file: one listing per folder instead of a look-up per record."""
    folders = {path.rpartition("/")[0] for path in paths if is_plain_relative(path)}
    there: set[str] = set()
    for folder in folders:
        place = root / folder
        if os.path.isdir(place):
            prefix = f"{folder}/" if folder else ""
            there.update(prefix + file.name[:-4] for file in place.iterdir() if file.name.endswith(".hea"))
    return there & paths


def _integer(value: object) -> int | None:
    try:
        return int(float(str(value)))
    except (ValueError, OverflowError):
        return None


def _age(value: object) -> tuple[float, tuple[str, ...]]:
    """Years; PTB-XL writes 300 for every patient over 89, which is stored as 90 and counted."""
    try:
        age = float(str(value))
    except ValueError:
        return math.nan, ()
    if age > 89.0:
        return OVER_89, ("age_over_89",)
    return (age, ()) if age >= 0 else (math.nan, ("age_implausible",))
