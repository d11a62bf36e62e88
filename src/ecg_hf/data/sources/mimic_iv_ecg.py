"""MIMIC-IV-ECG: 800,035 ten-second 12-lead ECGs with machine reports (Gow et al. 2023)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ecg_hf.data.schema import Entry
from ecg_hf.data.sources.base import PhysioNetProject, Plan, Source, SourceInfo, is_plain_relative
from ecg_hf.data.sources.tables import identifier, read_table
from ecg_hf.data.splits import assign_splits, record_split
from ecg_hf.errors import ConfigurationError, DatasetBuildError

__all__ = ["MimicIvEcg", "assemble_report"]

RECORDS = "record_list.csv"
MEASUREMENTS = "machine_measurements.csv"
REPORT_COLUMNS = tuple(f"report_{i}" for i in range(18))
SPLITS = ("patient", "record")

_STRIP = (" ***", "*** ", "***", "=-", "=")


def assemble_report(reports: Sequence[object]) -> tuple[str, int]:
    """One text of the lines of a machine report, exactly as MERL prepared them.

    Missing lines are dropped and the rest joined by ``". "``; EKG becomes ECG; characters of a few sets are
    stripped from both ends; the text is lower-cased, line ends and tabs become spaces and a full stop is appended.
    Doubled full stops, inner asterisks and a leading space may remain: texts equal those of the published protocol.

    Args:
        reports: ``report_0`` to ``report_17`` of one row; anything but text counts as missing.

    Returns:
        The text, ``"empty"`` where nothing is left, and its number of words.

    Paper:
        MERL (Liu et al., ICML 2024), preprocessing of MIMIC-IV-ECG.
    """
    text = ". ".join(line for line in reports if isinstance(line, str))
    text = text.replace("EKG", "ECG").replace("ekg", "ecg")
    for characters in _STRIP:
        text = text.strip(characters)
    text = text.lower()
    words = len(text.split())
    if words == 0:
        return "empty", 0
    for separator in "\n\r\t":
        text = text.replace(separator, " ")
    return text + ".", words


class MimicIvEcg(Source):
    """MIMIC-IV-ECG in its official layout, with the report of each recording.

    Reports and recordings are joined on ``study_id``. Leads keep the order of the files (aVF before aVL) and are
    identified by name.

    Args:
        data_dir: Folder with ``record_list.csv``, ``machine_measurements.csv`` and ``files/``.
        validation_fraction: Share kept for validation.
        seed: Seed of the split.
        split: ``"patient"`` keeps the recordings of a patient on one side; ``"record"`` (or ``"merl"``) draws
            recordings as the published MERL protocol does, which puts patients on both sides.
        min_report_words: Recordings with shorter reports are left out.

    Differs from official code:
        MERL pairs the two tables by row, stores min-max scaled integers, turns records with NaN into zeros and
        splits by recording. Here tables are joined, samples stay exact, unreadable and constant recordings are
        left out and counted, and patients are kept together unless asked otherwise.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="mimic_iv_ecg",
        title="MIMIC-IV-ECG 1.0: 800,035 ten-second 12-lead ECGs with machine reports",
        expects="record_list.csv, machine_measurements.csv and the folder files/, as published",
        labels="none",
        drops=(
            "recordings without a report row, with a report of fewer than four words, without files, "
            "unreadable ones, and ones with a constant signal"
        ),
        licence="ODbL 1.0",
        options={
            "validation_fraction": "share kept for validation (0.02)",
            "seed": "seed of the split (42)",
            "split": "patient, or record as in the MERL protocol (patient)",
            "min_report_words": "shortest report kept (4)",
        },
        physionet=PhysioNetProject(
            slug="mimic-iv-ecg",
            version="1.0",
            subsets={"tables": ("*.csv", "*.txt", "RECORDS")},
        ),
    )
    drops_constant: ClassVar[bool] = True

    def __init__(
        self,
        data_dir: Path | None,
        *,
        validation_fraction: float = 0.02,
        seed: int = 42,
        split: str = "patient",
        min_report_words: int = 4,
    ) -> None:
        super().__init__(data_dir)
        self.split = "record" if split == "merl" else split
        if self.split not in SPLITS:
            raise ConfigurationError(f"split must be 'patient' or 'record', got {split!r}", value=split)
        if not 0.0 <= validation_fraction < 1.0:
            raise ConfigurationError(f"validation_fraction must be in [0, 1), got {validation_fraction}")
        self.validation_fraction, self.seed = float(validation_fraction), int(seed)
        self.min_report_words = int(min_report_words)

    def options(self) -> dict[str, Any]:
        """The options in force."""
        return {
            "validation_fraction": self.validation_fraction,
            "seed": self.seed,
            "split": self.split,
            "min_report_words": self.min_report_words,
        }

    @classmethod
    def reads_to_plan(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Both tables."""
        return (RECORDS, MEASUREMENTS)

    def plan(self) -> Plan:
        """Recordings with files and a long enough report, in the order of ``record_list.csv``."""
        records = read_table(self.data_dir / RECORDS, ["subject_id", "study_id", "path"])
        reports = self._reports()
        plan = Plan()
        chosen: list[tuple[str, str, str | None, str]] = []
        for subject, study, path in records.itertuples(index=False):
            record_id = identifier(study) or "?"
            reason = None
            text, words = reports.get(record_id, ("", -1))
            if not isinstance(path, str) or not is_plain_relative(path):
                reason = "UnsafePath"
            elif words < 0:
                reason = "no_report"
            elif words < self.min_report_words:
                reason = "report_too_short"
            elif not os.path.isfile(self.data_dir / f"{path}.hea"):
                reason = "file_not_there"
            if reason is not None:
                plan.tally.drop(record_id, reason)
            else:
                chosen.append((record_id, path, identifier(subject), text))
        splits = self._splits([patient or record_id for record_id, _, patient, _ in chosen])
        plan.entries = [
            Entry(record_id, path, patient_id=patient, age=math.nan, report=text, split=split)
            for (record_id, path, patient, text), split in zip(chosen, splits, strict=True)
        ]
        return plan

    def _reports(self) -> dict[str, tuple[str, int]]:
        """Text and number of words of every study's report."""
        table = read_table(self.data_dir / MEASUREMENTS, ["study_id"], optional=REPORT_COLUMNS)
        columns = [name for name in REPORT_COLUMNS if name in table.columns]
        if not columns:
            raise DatasetBuildError("the table has no column report_0", path=self.data_dir / MEASUREMENTS)
        # assemble_report takes anything but text, NaN included, for a missing line.
        lines = table[columns].itertuples(index=False, name=None)
        studies = (identifier(study) for study in table["study_id"])
        return {study: assemble_report(row) for study, row in zip(studies, lines, strict=True) if study}

    def _splits(self, patients: list[str]) -> list[str]:
        share = self.validation_fraction
        if self.split == "record":
            return [
                "validation" if held else "train"
                for held in record_split(len(patients), share, seed=self.seed)
            ]
        return assign_splits(patients, {"train": 1.0 - share, "validation": share}, seed=self.seed)
