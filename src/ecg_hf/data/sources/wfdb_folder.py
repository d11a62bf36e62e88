"""Any folder of WFDB records: PhysioNet Challenge sets, local collections, single downloads."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Unpack

from ecg_hf.data.label_groups import OTHER_TASKS
from ecg_hf.data.labels import scp_statements
from ecg_hf.data.schema import Entry, SourceRow
from ecg_hf.data.sources.base import (
    FOLD_OPTIONS,
    Dropped,
    FoldOptions,
    HashedSource,
    Plan,
    SourceInfo,
    is_plain_relative,
)
from ecg_hf.data.sources.headers import list_recordings, read_index
from ecg_hf.data.splits import hash_fold
from ecg_hf.errors import ConfigurationError
from ecg_hf.signal.io.paths import read_file
from ecg_hf.signal.io.wfdb_header import MAX_HEADER_BYTES

__all__ = ["HeaderSource", "WfdbFolder", "parse_comments"]

MAX_AGE = 120.0

_AGE = re.compile(r"^[#\s<]*age\s*>?\s*:\s*(\d{1,3}(?:\.\d+)?)\s*$", re.IGNORECASE)
_SEX = re.compile(r"^[#\s<]*sex\s*>?\s*:\s*(male|female|m|f)\s*$", re.IGNORECASE)
_DX = re.compile(r"^[#\s<]*dx\s*>?\s*:(.*)$", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_PATIENTS = re.compile(r"unknown|record|folder(?::([1-9]))?", re.ASCII)


class HeaderSource(HashedSource):
    """WFDB records whose headers tell age, sex and diagnoses in comments, as in the PhysioNet Challenges."""

    def read(self, entry: Entry) -> SourceRow | Dropped:
        """Samples, and the metadata in the header's comments."""
        row = super().read(entry)
        if isinstance(row, SourceRow):
            header, _ = read_file(
                str(self.data_dir / f"{entry.path}.hea"), max_bytes=MAX_HEADER_BYTES, root=self.data_dir
            )
            age, sex, labels, notes = parse_comments(header.decode("utf-8", errors="replace"))
            row.entry = replace(row.entry, age=age, sex=sex, labels=labels, notes=(*row.entry.notes, *notes))
        return row


class WfdbFolder(HeaderSource):
    """Every WFDB record below a folder.

    Labels, age and sex are taken from the header's comments where they are written as in the PhysioNet
    Challenges (``#Dx: 426783006,164934002``, ``# Age: 63``, ``# Sex: Female``). Only codes become labels: numbers,
    and acronyms of the vocabularies known here; anything else beside ``#Dx`` may be somebody's name, and is counted
    (note ``diagnosis_is_no_code``), not stored.

    A folder does not tell which recordings are of one person, so ``patient_id`` is null unless ``patients`` is set;
    records of one person may then be in several splits, and everything built on the dataset states this. Splits are
    drawn by a hash of the patient or, where unknown, of the record's name, and never change when records are added.
    A multi-segment record is one recording, its segments are none; headers that share a signal file share a split.

    Args:
        data_dir: The folder. If it holds a ``RECORDS`` file, the records are those it lists, in its order.
        seed: Seed of the folds.
        train_folds: Folds (of ten) to train on.
        validation_folds: Folds to validate on.
        test_folds: Folds to test on.
        pseudonyms: Store digests instead of the records' names. Names of published sets are numbers; those of a
            hospital's own folder may be people's, and a dataset keeps them as ``record_id``.
        patients: Who is one person: ``"unknown"``; ``"folder"``, where all records below each folder of ``data_dir``
            are of one (``patient001/s0010``); ``"folder:2"`` where each folder at the second level is one
            (``p10/p10014/...``); or ``"record"``, where every record is known to be of another person. A record that
            lies above that level has an unknown patient.

    Raises:
        ConfigurationError: for any other value of ``patients``.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="wfdb_folder",
        title="Any folder of WFDB records (.hea with .dat or .mat), PhysioNet Challenge labels included",
        expects="headers anywhere below the folder, each with its signal file; a RECORDS file is respected",
        labels="codes in the headers' #Dx comments (SNOMED CT in the Challenges)",
        drops=(
            "names in RECORDS without a header, names that are not printable UTF-8, segments of multi-segment "
            "records, recordings of folds that were not selected, unreadable recordings"
        ),
        licence="that of the folder's data",
        options={
            **FOLD_OPTIONS,
            "pseudonyms": "store digests instead of record names: true or false (false)",
            "patients": "who is one person: unknown, folder, folder:2 (second level) or record (unknown)",
        },
    )

    def __init__(
        self,
        data_dir: Path | None,
        *,
        pseudonyms: bool = False,
        patients: str = "unknown",
        **folds: Unpack[FoldOptions],
    ) -> None:
        super().__init__(data_dir, **folds)
        if not isinstance(patients, str) or not _PATIENTS.fullmatch(patients):
            raise ConfigurationError(
                f"patients must be unknown, folder, folder:2 (or another level) or record, got {patients!r}",
                value=patients,
            )
        self.patients = patients
        self.pseudonyms = bool(pseudonyms)

    def options(self) -> dict[str, Any]:
        """The options in force."""
        return {
            **super().options(),
            **({"pseudonyms": True} if self.pseudonyms else {}),
            **({"patients": self.patients} if self.patients != "unknown" else {}),
        }

    @classmethod
    def reads_to_plan(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Headers and the index."""
        return ("*.hea", "RECORDS")

    def plan(self) -> Plan:
        """Records named in ``RECORDS``, or every header below the folder in sorted order."""
        plan = Plan()
        index = self.data_dir / "RECORDS"
        # Some RECORDS files list only folders; then use all headers.
        named = [name for name in read_index(index) if not name.endswith("/")] if index.is_file() else []
        shown = pseudonym if self.pseudonyms else str
        listing = list_recordings(self.data_dir, plan.tally, index=named, shown=shown)
        for name in listing.names:
            patient = self._patient(name)
            fold = hash_fold(patient or listing.key(name), seed=self.seed)
            split = self.folds.split_of(fold)
            if not is_plain_relative(name):
                plan.tally.drop(shown(name), "UnsafePath")
            elif not os.path.isfile(self.data_dir / f"{name}.hea"):
                plan.tally.drop(shown(name), "file_not_there")
            elif split is None:
                plan.tally.drop(shown(name), "fold_not_selected")
            else:
                stored = None if patient is None else shown(patient)
                plan.entries.append(Entry(shown(name), name, patient_id=stored, fold=fold, split=split))
        return plan

    def _patient(self, name: str) -> str | None:
        """Whose recording this is, as far as ``patients`` tells."""
        if self.patients == "record":
            return name
        if self.patients == "unknown":
            return None
        level = int(self.patients.partition(":")[2] or 1)
        folders = name.split("/")[:-1]
        return "/".join(folders[:level]) if len(folders) >= level else None


def pseudonym(name: str) -> str:
    """The pseudonym of a record's name, the same in every build.

    A digest hides a name from readers, not from somebody who guesses it and computes the digest.
    """
    return hashlib.sha256(name.encode("utf-8", errors="surrogatepass")).hexdigest()[:16]


def parse_comments(header: str) -> tuple[float, str | None, tuple[str, ...], tuple[str, ...]]:
    """Age, sex and diagnosis codes in the comment lines of a header; everything else in them is ignored.

    Returns:
        Years (NaN if not given), ``"female"``, ``"male"`` or None, codes, and notes on what was left out.
    """
    age, sex = math.nan, None
    labels: dict[str, None] = {}
    notes: dict[str, None] = {}
    for line in header.splitlines():
        if not line.lstrip().startswith("#"):
            continue
        if match := _AGE.match(line):
            age = float(match[1])
            if age > MAX_AGE:
                age, notes["age_implausible"] = math.nan, None
        elif match := _SEX.match(line):
            sex = "female" if match[1].lower().startswith("f") else "male"
        elif match := _DX.match(line):
            for code in (part.strip() for part in match[1].split(",")):
                if _NUMBER.fullmatch(code) or code in _acronyms():
                    labels[code] = None
                elif code and code.lower() not in ("unknown", "nan"):
                    notes["diagnosis_is_no_code"] = None
    return age, sex, tuple(labels), tuple(notes)


@cache
def _acronyms() -> frozenset[str]:
    """Acronyms of the vocabularies known here, which can't be people's names."""
    groups = (OTHER_TASKS[task] for task in ("cpsc2018", "csn", "challenge2021"))
    names = (name for group in groups for name in (*group, *group.values()))
    return frozenset([*scp_statements(), *(part for name in names for part in name.split("|"))])
