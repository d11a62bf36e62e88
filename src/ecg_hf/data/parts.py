"""Parts of a dataset that is built on several machines: which shards each has, and the file of a finished part."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg_hf.data.build_folder import PART_FILE, RunAccount, account, is_finished, is_part, leak_of_files
from ecg_hf.data.report import BuildReport, Tally, add_up
from ecg_hf.data.shards import WORK_FOLDER, ShardResult
from ecg_hf.data.sources import Source
from ecg_hf.documents import check, read_json
from ecg_hf.errors import ConfigurationError, DatasetBuildError
from ecg_hf.files import write_whole

__all__ = ["FinishedPart", "Part", "file_digest", "finish_part", "finished_report", "load_part", "parse_part"]


@dataclass(frozen=True, slots=True)
class Part:
    """One of several parts of equal size, to the nearest shard.

    Attributes:
        index: From 1.
        count: Number of parts.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def shards(self, total: int) -> range:
        """Numbers of the shards that are this part's, of ``total``; none if there are fewer shards than parts."""
        return range(total * (self.index - 1) // self.count, total * self.index // self.count)


def parse_part(text: str) -> Part:
    """The part that ``"2/4"`` names.

    Raises:
        ConfigurationError: if the text is not of the form I/N with 1 <= I <= N.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    part = Part(int(match[1]), int(match[2])) if match else Part(0, 0)
    if not 1 <= part.index <= part.count:
        raise ConfigurationError(f"a shard is I/N with I from 1 to N, such as 1/4, got {text!r}", value=text)
    return part


@dataclass(frozen=True, slots=True)
class FinishedPart:
    """The content of ``part.json``.

    Attributes:
        folder: Where the part is.
        part: Which it is.
        report: Report on its recordings; source, options and fingerprint are those of the whole dataset.
        shards: Shards of the whole dataset.
        listing: What the source dropped before anything was read, in the whole dataset.
        files: Counts of each of its shards, by file name.
        digests: SHA-256 of each file.
    """

    folder: Path
    part: Part
    report: BuildReport
    shards: int
    listing: Tally
    files: dict[str, ShardResult]
    digests: dict[str, str]


def finish_part(
    folder: Path,
    source: Source,
    part: Part,
    fingerprint: str,
    files: Mapping[str, ShardResult],
    shards: int,
    listing: Tally,
    run: RunAccount,
) -> BuildReport:
    """Mark a part with all its shards as finished, and return its report.

    Args:
        folder: The part's folder.
        source: What is built.
        part: Which part.
        fingerprint: Identifies the whole build.
        files: Counts of each shard of the part, by file name.
        shards: Shards of the whole dataset.
        listing: What the source dropped before anything was read.
        run: What the report says about this run.
    """
    tally = add_up(result.tally for result in files.values())
    leak = leak_of_files(folder, list(files))
    report = account(
        str(folder), source.info, source.options(), fingerprint, files, tally, run, leak, str(part)
    )
    content = {
        "report": report.to_dict(),
        "shards": shards,
        "listing": listing.to_dict(),
        "files": [
            {
                "number": result.number,
                "filename": name,
                "bytes": result.bytes,
                "sha256": file_digest(folder / name),
                "tally": result.tally.to_dict(),
            }
            for name, result in files.items()
        ],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False)
    write_whole(folder / PART_FILE, text, scratch=folder / WORK_FOLDER)
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
    return report


def load_part(folder: Path) -> FinishedPart:
    """Read the file of a finished part.

    Raises:
        DatasetBuildError: if the folder is missing or holds no finished part.
    """
    if not folder.is_dir():
        raise DatasetBuildError("no such folder", path=folder)
    if not is_part(folder):
        what = "no part of a dataset"
        if is_finished(folder):
            what = "a whole dataset, not a part of one"
        elif (folder / WORK_FOLDER).is_dir():
            what = "an unfinished part: run the same build again"
        raise DatasetBuildError(f"the folder holds {what}", path=folder)
    try:
        content = read_json(folder / PART_FILE, dict[str, Any], error=DatasetBuildError)
        files = {_plain_name(entry["filename"]): entry for entry in content["files"]}
        return FinishedPart(
            folder,
            parse_part(content["report"]["part"]),
            check(content["report"], BuildReport, error=DatasetBuildError, path=folder / PART_FILE),
            int(content["shards"]),
            Tally.from_dict(content["listing"]),
            {
                name: ShardResult(int(entry["number"]), int(entry["bytes"]), Tally.from_dict(entry["tally"]))
                for name, entry in files.items()
            },
            {name: str(entry["sha256"]) for name, entry in files.items()},
        )
    except DatasetBuildError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DatasetBuildError("the report of the part can't be read", path=folder / PART_FILE) from None


def finished_report(folder: Path, fingerprint: str, part: Part | None) -> BuildReport | None:
    """Report of the finished build or part in the folder; None if it has none.

    Raises:
        DatasetBuildError: if that is not what is to be built.
    """
    if is_finished(folder):
        report = BuildReport.load(folder)
    elif is_part(folder):
        report = load_part(folder).report
    else:
        return None
    if report.fingerprint != fingerprint:
        raise DatasetBuildError(
            "the folder holds a finished build of other data or options; choose another folder, or replace it with "
            "--overwrite (overwrite=True)",
            path=folder,
        )
    if report.part != str(part or ""):
        there, wanted = (f"part {name}" if name else "the whole" for name in (report.part, str(part or "")))
        raise DatasetBuildError(
            f"the folder holds {there} of this dataset, not {wanted}; choose another folder, or replace it with "
            "--overwrite (overwrite=True)",
            path=folder,
        )
    return report


def _plain_name(name: str) -> str:
    """The name of a shard, which can't leave the folder."""
    if not re.fullmatch(r"data-\d{5,}-of-\d{5,}\.arrow", name):
        raise ValueError(name)
    return name


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
