"""Any folder of WFDB records: PhysioNet Challenge sets, local collections, single downloads."""

from __future__ import annotations

import hashlib
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ecg_hf.data.schema import Entry, SourceRow
from ecg_hf.data.sources.base import Dropped, Plan, Source, SourceInfo, is_plain_relative
from ecg_hf.data.splits import FoldSelection, hash_fold
from ecg_hf.errors import DatasetBuildError

__all__ = ["WfdbFolder", "find_headers", "parse_comments"]

MAX_HEADER_BYTES = 1 << 20

_AGE = re.compile(r"^[#\s<]*age\s*>?\s*:\s*(\d{1,3}(?:\.\d+)?)\s*$", re.IGNORECASE)
_SEX = re.compile(r"^[#\s<]*sex\s*>?\s*:\s*(male|female|m|f)\s*$", re.IGNORECASE)
_DX = re.compile(r"^[#\s]*dx\s*:\s*([\w,;./() -]*)$", re.IGNORECASE)


class WfdbFolder(Source):
    """Every WFDB record below a folder.

    Labels, age and sex are taken from the header's comments where they are written as in the PhysioNet
    Challenges (``#Dx: 426783006,164934002``, ``# Age: 63``, ``# Sex: Female``). No patient is known, so each
    recording is its own; splits are drawn by a hash of the record's name and never change when records are added.

    Args:
        data_dir: The folder. If it holds a ``RECORDS`` file, that says which records there are, in its order.
        seed: Seed of the folds.
        train_folds: Folds (of ten) to train on.
        validation_folds: Folds to validate on.
        test_folds: Folds to test on.
        pseudonyms: Store digests instead of the records' names. Names of published sets are numbers; those of a
            hospital's own folder may be people's, and a dataset keeps them as ``record_id``.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="wfdb_folder",
        title="Any folder of WFDB records (.hea with .dat or .mat), PhysioNet Challenge labels included",
        expects="headers anywhere below the folder, each with its signal file; a RECORDS file is respected",
        labels="what the headers' #Dx comments say (SNOMED CT codes in the Challenges)",
        drops="names in RECORDS without a header, recordings of folds that were not selected, unreadable recordings",
        licence="that of the folder's data",
        options={
            "seed": "seed of the folds (42)",
            "train_folds": "folds to train on (1-8)",
            "validation_folds": "folds to validate on (9)",
            "test_folds": "folds to test on (10)",
            "pseudonyms": "store digests instead of record names: true or false (false)",
        },
    )

    def __init__(
        self,
        data_dir: Path | None,
        *,
        seed: int = 42,
        train_folds: str = "1-8",
        validation_folds: str = "9",
        test_folds: str = "10",
        pseudonyms: bool = False,
    ) -> None:
        super().__init__(data_dir)
        self.seed = int(seed)
        self.pseudonyms = bool(pseudonyms)
        self.folds = FoldSelection(train_folds, validation_folds, test_folds)

    def options(self) -> dict[str, Any]:
        """The options in force."""
        return {
            "seed": self.seed,
            "train_folds": self.folds.train,
            "validation_folds": self.folds.validation,
            "test_folds": self.folds.test,
            **({"pseudonyms": True} if self.pseudonyms else {}),
        }

    def plan(self) -> Plan:
        """Records named in ``RECORDS``, or every header below the folder in sorted order."""
        plan = Plan()
        index = self.data_dir / "RECORDS"
        # Some RECORDS files list folders only: then the headers speak for themselves.
        names = (_read_index(index) if index.is_file() else []) or find_headers(self.data_dir)
        for name in names:
            fold = hash_fold(name, seed=self.seed)
            split = self.folds.split_of(fold)
            shown = pseudonym(name) if self.pseudonyms else name
            if not is_plain_relative(name):
                plan.tally.drop(shown, "UnsafePath")
            elif not (self.data_dir / f"{name}.hea").is_file():
                plan.tally.drop(shown, "file_not_there")
            elif split is None:
                plan.tally.drop(shown, "fold_not_selected")
            else:
                plan.entries.append(Entry(shown, name, patient_id=shown, fold=fold, split=split))
        return plan

    def read(self, entry: Entry) -> SourceRow | Dropped:
        """Samples, and what the header's comments tell."""
        row = super().read(entry)
        if isinstance(row, SourceRow):
            with (self.data_dir / f"{entry.path}.hea").open("rb") as file:
                header = file.read(MAX_HEADER_BYTES).decode("utf-8", errors="replace")
            age, sex, labels = parse_comments(header)
            row.entry = replace(row.entry, age=age, sex=sex, labels=labels)
        return row


def pseudonym(name: str) -> str:
    """What stands for a record's name: the same name has the same in every build.

    A digest hides a name from readers, not from somebody who guesses it and computes the digest.
    """
    return hashlib.sha256(name.encode("utf-8", errors="surrogatepass")).hexdigest()[:16]


def parse_comments(header: str) -> tuple[float, str | None, tuple[str, ...]]:
    """Age, sex and diagnosis codes in the comment lines of a header; everything else in them is left alone."""
    age, sex = math.nan, None
    labels: dict[str, None] = {}
    for line in header.splitlines():
        if not line.lstrip().startswith("#"):
            continue
        if match := _AGE.match(line):
            age = float(match[1])
        elif match := _SEX.match(line):
            sex = "female" if match[1].lower().startswith("f") else "male"
        elif match := _DX.match(line):
            codes = (code.strip() for code in match[1].split(","))
            labels.update(
                dict.fromkeys(code for code in codes if code and code.lower() not in ("unknown", "nan"))
            )
    return age, sex, tuple(labels)


def _read_index(path: Path) -> list[str]:
    """Record names of a RECORDS file, each once."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DatasetBuildError("the RECORDS file can't be read", path=path) from None
    names = (line.strip().removesuffix(".hea") for line in lines)
    return list(dict.fromkeys(name for name in names if name and not name.endswith("/")))


def find_headers(root: Path) -> list[str]:
    """Headers below ``root``, links to folders not followed, in an order that does not depend on the file system."""
    found = []
    for folder, _, files in os.walk(root):
        relative = Path(folder).relative_to(root).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        found += [f"{prefix}{name[:-4]}" for name in files if name.endswith(".hea")]
    return sorted(found)
