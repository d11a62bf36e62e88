"""The folder of a dataset being built: its lock, its state, and finishing it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset
from filelock import FileLock, Timeout

from ecg_hf.data.report import REPORT_FILE, BuildReport, Tally, add_up
from ecg_hf.data.schema import canonical_features
from ecg_hf.data.shards import WORK_FOLDER, ShardResult
from ecg_hf.data.sources import SourceInfo
from ecg_hf.data.splits import PatientLeak, check_patient_leak
from ecg_hf.errors import DatasetBuildError
from ecg_hf.files import write_whole

__all__ = [
    "LOCK_FILE",
    "PART_FILE",
    "STATE_FILE",
    "RunAccount",
    "abandon",
    "account",
    "begin",
    "clear",
    "exclusive",
    "finish_dataset",
    "is_finished",
    "is_part",
    "leak_of_files",
    "refuse_foreign",
    "remove_leftovers",
]

PLAN_FILE = "plan.json"
STATE_FILE = "state.json"
INFO_FILE = "dataset_info.json"
LOCK_FILE = "lock"
PART_FILE = "part.json"
"""Marks a finished part of a dataset that is built on several machines; see :mod:`ecg_hf.data.parts`."""

# Workers of a run that was just killed hold the lock until they notice, half a second later.
LOCK_PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class RunAccount:
    """What a report says about the run, not about the dataset: fields of :class:`BuildReport`."""

    shards_reused: int
    seconds: float
    records_per_second: float
    versions: dict[str, str] = field(
        default_factory=lambda: {
            name: version(name) for name in ("ecg-hf", "datasets", "pyarrow", "numpy", "wfdb")
        }
    )

    def to_dict(self) -> dict[str, Any]:
        """The fields as arguments of a report."""
        return asdict(self)


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a whole dataset."""
    return (folder / STATE_FILE).is_file() and (folder / REPORT_FILE).is_file()


def is_part(folder: Path) -> bool:
    """Whether the folder holds a finished part of a dataset."""
    return (folder / PART_FILE).is_file()


def refuse_foreign(folder: Path) -> None:
    """Refuse folders the builder did not make.

    Raises:
        DatasetBuildError: if the folder is a file, or holds anything but a build.
    """
    if folder.exists() and not folder.is_dir():
        raise DatasetBuildError("the output is a file, not a folder", path=folder)
    names = [item.name for item in folder.iterdir()] if folder.is_dir() else []
    if not names:
        return
    if not (is_finished(folder) or is_part(folder) or (folder / WORK_FOLDER).is_dir()):
        raise DatasetBuildError(
            "the output folder holds something else; choose a new or empty folder", path=folder
        )


def begin(folder: Path, plan: Mapping[str, Any]) -> None:
    """Begin a build, or check that the unfinished one in the folder is the same.

    Args:
        folder: Its folder.
        plan: What identifies it.

    Raises:
        DatasetBuildError: if the folder holds shards of another build.
    """
    path = folder / WORK_FOLDER / PLAN_FILE
    plan = json.loads(json.dumps(plan))
    if path.is_file():
        try:
            begun = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            begun = None
        if begun == plan:
            return
        if any(folder.glob("data-*.arrow")):
            raise DatasetBuildError(
                "the folder holds an unfinished build of other data or options; choose another folder, or start anew "
                "with --overwrite (overwrite=True)",
                path=folder,
            )
    write_whole(path, json.dumps(plan, indent=2))


def remove_leftovers(folder: Path) -> None:
    """Remove half-written files of a run that was killed."""
    for stale in [*(folder / WORK_FOLDER).glob("*.tmp")]:
        stale.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Remove an earlier build, the file that makes it loadable first.

    Raises:
        DatasetBuildError: if the folder holds more than a build.
    """
    names = [item.name for item in folder.iterdir()]
    if not _names_of_builds(names):
        raise DatasetBuildError(
            "the output folder holds more than a build; choose another folder", path=folder
        )
    for name in (STATE_FILE, PART_FILE):
        (folder / name).unlink(missing_ok=True)
    for name in names:
        if name != WORK_FOLDER:
            (folder / name).unlink(missing_ok=True)
    for item in (folder / WORK_FOLDER).iterdir():
        if item.name != LOCK_FILE:
            item.unlink()


def _names_of_builds(names: Iterable[str]) -> bool:
    ours = {WORK_FOLDER, STATE_FILE, INFO_FILE, REPORT_FILE, PART_FILE}
    return all(name in ours or (name.startswith("data-") and name.endswith(".arrow")) for name in names)


def abandon(folder: Path) -> None:
    """Remove the empty beginnings of a build that can't continue."""
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
    if not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the operating system releases it when the process ends, however it ends.

    Raises:
        DatasetBuildError: if another process holds it.
    """
    lock = FileLock(folder / WORK_FOLDER / LOCK_FILE)
    while not lock.is_locked:
        (folder / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=LOCK_PATIENCE_S)
        except Timeout:
            raise DatasetBuildError("another process is building this folder", path=folder) from None
        except FileNotFoundError:
            # One that finishes takes its work folder, and with it the lock, from under those that wait.
            continue
    try:
        yield
    finally:
        lock.release()


def finish_dataset(
    folder: Path,
    info: SourceInfo,
    options: Mapping[str, Any],
    fingerprint: str,
    files: Mapping[str, ShardResult],
    listing: Tally,
    run: RunAccount,
    data_dir: str | Path | None = None,
    *,
    leak: PatientLeak | None = None,
    output: str | None = None,
) -> BuildReport:
    """Turn a folder with all its shards into a dataset, and return its report.

    Args:
        folder: The folder.
        info: The source.
        options: Its options in force.
        fingerprint: Identifies the build.
        files: Counts of each shard by file name, in the order of the rows.
        listing: What the source dropped before anything was read.
        run: What the report says about this run.
        data_dir: Where the recordings are, for the error.
        leak: Patients in more than one split, if the shards lie elsewhere.
        output: Where the dataset will be, if elsewhere.

    Raises:
        DatasetBuildError: if all shards are empty.
    """
    tally = add_up([listing, *(result.tally for result in files.values())])
    if not tally.kept:
        # If the shards were kept, a new run would find nothing readable even after the files were repaired.
        clear(folder)
        abandon(folder)
        raise DatasetBuildError(f"not one record could be read: {tally.reasons()}", path=data_dir)
    _write_info(folder, info)
    leak = leak_of_files(folder, list(files)) if leak is None else leak
    report = account(output or str(folder), info, options, fingerprint, files, tally, run, leak)
    _write_json(folder / REPORT_FILE, report.to_dict())
    # The state file makes the folder loadable, so it comes last.
    _write_json(folder / STATE_FILE, _state(list(files), fingerprint))
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
    return report


def account(
    output: str,
    info: SourceInfo,
    options: Mapping[str, Any],
    fingerprint: str,
    files: Mapping[str, ShardResult],
    tally: Tally,
    run: RunAccount,
    leak: PatientLeak,
    part: str = "",
) -> BuildReport:
    """The report on the shards of a folder, of a dataset or of a part of one."""
    return BuildReport(
        source=info.name,
        options=dict(options),
        output=output,
        seen=tally.kept + sum(tally.dropped.values()),
        shards=len(files),
        bytes=sum(result.bytes for result in files.values()),
        fingerprint=fingerprint,
        patients=leak.distinct_patients,
        patients_in_two_splits=leak.patients,
        without_patient=leak.unknown_patients,
        part=part,
        shard_rows=[result.tally.kept for result in files.values()],
        **run.to_dict(),
        **tally.to_dict(),
    )


def leak_of_files(folder: Path, filenames: Sequence[str]) -> PatientLeak:
    """Patients in more than one split, in shards of a folder that is not yet marked as finished."""
    if not filenames:
        return PatientLeak(0, 0, {}, 0, 0)
    parts = [Dataset.from_file(str(folder / name)) for name in filenames]
    return check_patient_leak(datasets.concatenate_datasets(parts), strict=False)


def _write_info(folder: Path, info: SourceInfo) -> None:
    """The description ``datasets`` reads the column types from."""
    description = {
        "builder_name": f"ecg_hf/{info.name}",
        "citation": "",
        "description": info.title,
        "features": canonical_features().to_dict(),
        "homepage": "",
        "license": info.licence,
    }
    _write_json(folder / INFO_FILE, description)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    # Half-written files belong in the work folder, where the next run removes what a killed one left.
    text = json.dumps(content, indent=2, ensure_ascii=False)
    write_whole(path, text, scratch=path.parent / WORK_FOLDER)


def _state(filenames: Sequence[str], fingerprint: str) -> dict[str, Any]:
    """What ``Dataset.load_from_disk`` needs beside the description."""
    return {
        "_data_files": [{"filename": name} for name in filenames],
        "_fingerprint": fingerprint[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
