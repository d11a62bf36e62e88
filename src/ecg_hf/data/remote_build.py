"""Building a dataset in an object store: shards are made by workers and published with their accounts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ecg_hf.data.build_folder import INFO_FILE, STATE_FILE, RunAccount, finish_dataset
from ecg_hf.data.report import REPORT_FILE, BuildReport, Tally
from ecg_hf.data.schema import Entry
from ecg_hf.data.shards import WORK_FOLDER, ShardJob, ShardResult, build_shard, shard_filename
from ecg_hf.data.sources import Source
from ecg_hf.data.sources.base import Plan
from ecg_hf.data.splits import PatientLeak, check_patient_leak
from ecg_hf.engine import Engine, run_pieces
from ecg_hf.errors import DatasetBuildError
from ecg_hf.storage import ACCOUNTS, RemoteFolder, StoredObject

__all__ = ["build_remotely"]

# The file that makes the folder loadable comes last.
_CLOSING = (INFO_FILE, REPORT_FILE, STATE_FILE)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Work order of one shard."""

    number: int
    filename: str
    folder: RemoteFolder
    fingerprint: str
    source: Source
    entries: Sequence[Entry]

    def __str__(self) -> str:
        return self.filename


def build_remotely(
    source: Source,
    plan: Plan,
    folder: RemoteFolder,
    fingerprint: str,
    *,
    engine: Engine,
    records_per_shard: int,
    progress: bool,
    overwrite: bool,
    data_dir: str | None,
) -> BuildReport:
    """Build a dataset of the bytes that a local build has. The same call continues a build that was killed.

    Stores have no locks: two commands that build the same at once write equal shards; of two that build something
    else, the one that finishes last finds the other's shards and says so.

    Args:
        source: Reads the recordings.
        plan: What it lists.
        folder: Where the dataset is to lie.
        fingerprint: Identifies the build.
        engine: Where shards are made.
        records_per_shard: Recordings per Arrow file.
        progress: Show a progress bar on standard error.
        overwrite: Replace another or an older build.
        data_dir: Where the recordings are, for errors.

    Raises:
        DatasetBuildError: if the folder holds something else, or nothing can be read.
        StorageError: if the store refuses or can't be reached.
    """
    started = time.perf_counter()
    objects = folder.objects()
    _refuse_foreign(folder, objects)
    if overwrite:
        _clear(folder, objects)
        objects = {}
    elif (report := _finished(folder, objects, fingerprint)) is not None:
        return BuildReport(**{**report.to_dict(), "reused": True})
    starts = range(0, len(plan.entries), records_per_shard)
    shards = [plan.entries[start : start + records_per_shard] for start in starts]
    names = [shard_filename(number, len(shards)) for number in range(len(shards))]
    done = _done(folder, objects, fingerprint)
    reused = len(done)
    todo = [
        _Piece(number, name, folder, fingerprint, source.piece(entries), entries)
        for number, (name, entries) in enumerate(zip(names, shards, strict=True))
        if name not in done
    ]
    left = sum(len(piece.entries) for piece in todo)
    total = len(plan.entries)
    with tqdm(
        total=total, initial=total - left, unit="rec", desc=source.info.name, disable=not progress
    ) as bar:
        for piece, account in run_pieces(_build_piece, todo, engine):
            done[piece.filename] = account
            bar.update(len(piece.entries))
    # Another command may have written here meanwhile.
    if _done(folder, folder.objects(), fingerprint).keys() != set(names):
        raise DatasetBuildError(
            "shards have changed meanwhile: does another command build here?", path=folder.url
        )
    seconds = time.perf_counter() - started
    files = {
        name: ShardResult(number, done[name]["bytes"], Tally.from_dict(done[name]["tally"]))
        for number, name in enumerate(names)
    }
    run = RunAccount(reused, round(seconds, 3), round(left / seconds, 1))
    with tempfile.TemporaryDirectory(prefix="ecg-hf-") as place:
        Path(place, WORK_FOLDER).mkdir()
        try:
            report = finish_dataset(
                Path(place),
                source.info,
                source.options(),
                fingerprint,
                files,
                plan.tally,
                run,
                data_dir,
                leak=_leak([done[name] for name in names]),
                output=folder.url,
            )
        except DatasetBuildError:
            # If the shards were kept, a new run would find nothing readable even after the files were repaired.
            _clear(folder, folder.objects())
            raise
        for name in _CLOSING:
            folder.publish(Path(place, name), name)
    return report


def _build_piece(piece: _Piece) -> dict[str, Any]:
    """Make a shard, publish it, and give its account."""
    with tempfile.TemporaryDirectory(prefix="ecg-hf-") as place:
        folder = Path(place)
        (folder / WORK_FOLDER).mkdir()
        result = build_shard(ShardJob(piece.number, piece.filename, folder, piece.source, piece.entries))
        rows = Dataset.from_file(str(folder / piece.filename))
        account = {
            "fingerprint": piece.fingerprint,
            "bytes": result.bytes,
            "tally": result.tally.to_dict(),
            # The driver looks for patients in two splits without fetching every shard.
            "patients": rows["patient_id"][:],
            "splits": rows["split"][:],
        }
        piece.folder.publish(folder / piece.filename, piece.filename, account)
    return account


def _refuse_foreign(folder: RemoteFolder, objects: Mapping[str, StoredObject]) -> None:
    for name in objects:
        plain = name.removeprefix(f"{ACCOUNTS}/").removesuffix(".json") if name.startswith(ACCOUNTS) else name
        if plain not in _CLOSING and not _is_shard(plain):
            raise DatasetBuildError(
                "the output folder holds something else; choose a new or empty folder", path=folder.url
            )


def _is_shard(name: str) -> bool:
    return name.startswith("data-") and name.endswith(".arrow") and "/" not in name


def _clear(folder: RemoteFolder, objects: Mapping[str, StoredObject]) -> None:
    """Remove a build, the file that makes it loadable first."""
    names = {name.removeprefix(f"{ACCOUNTS}/") for name in objects if name in _CLOSING or _is_shard(name)}
    folder.remove([*reversed(_CLOSING), *sorted(name for name in names if _is_shard(name))])


def _finished(
    folder: RemoteFolder, objects: Mapping[str, StoredObject], fingerprint: str
) -> BuildReport | None:
    """Report of the finished build in the folder; None if it has none.

    Raises:
        DatasetBuildError: if that is not what is to be built.
    """
    if STATE_FILE not in objects or REPORT_FILE not in objects:
        return None
    with folder.fetched([objects[REPORT_FILE]]) as place:
        report = BuildReport.load(place)
    if report.fingerprint != fingerprint:
        raise DatasetBuildError(
            "the folder holds a finished build of other data or options; choose another folder, or replace it with "
            "--overwrite (overwrite=True)",
            path=folder.url,
        )
    return report


def _done(
    folder: RemoteFolder, objects: Mapping[str, StoredObject], fingerprint: str
) -> dict[str, dict[str, Any]]:
    """Accounts of the shards that are there and whole, by name.

    Raises:
        DatasetBuildError: if they are of another build.
    """
    done = folder.finished(objects, filter(_is_shard, objects))
    if any(account.get("fingerprint") != fingerprint for account in done.values()):
        raise DatasetBuildError(
            "the folder holds an unfinished build of other data or options; choose another folder, or start anew "
            "with --overwrite (overwrite=True)",
            path=folder.url,
        )
    return done


def _leak(accounts: Sequence[Mapping[str, Any]]) -> PatientLeak:
    """Patients in more than one split."""
    columns = {
        "patient_id": [one for account in accounts for one in account["patients"]],
        "split": [one for account in accounts for one in account["splits"]],
    }
    return check_patient_leak(Dataset.from_dict(columns), strict=False)
