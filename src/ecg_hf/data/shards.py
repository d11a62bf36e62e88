"""One shard of a build: read its records, write one Arrow file, and remember the count. Runs wherever pieces do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from ecg_hf.data.report import Tally
from ecg_hf.data.schema import Entry, SourceRow, rows_to_batch, shard_schema
from ecg_hf.data.sources.base import Dropped, Source
from ecg_hf.files import replace_file, write_whole

__all__ = [
    "WORK_FOLDER",
    "Shard",
    "ShardJob",
    "ShardResult",
    "build_shard",
    "load_result",
    "remember_shard",
    "shard_filename",
]

WORK_FOLDER = ".building"
"""Folder inside an unfinished build that holds what a resumed run needs; removed when the build is finished."""

BATCH_BYTES = 256 << 20
"""Most sample bytes in one Arrow record batch, whose 32-bit offsets end at 2 GiB."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of a dataset: its number, its name and the dataset's folder."""

    number: int
    filename: str
    folder: Path

    def __str__(self) -> str:
        return self.filename


@dataclass(frozen=True, slots=True)
class ShardJob(Shard):
    """Work order of one shard: whose records it holds, and which, in order."""

    source: Source
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class ShardResult:
    """A finished shard: its file's size and the counts of its records."""

    number: int
    bytes: int
    tally: Tally


def build_shard(job: ShardJob) -> ShardResult:
    """Read the records of a shard and write its Arrow file and its counts, each whole or not at all."""
    # Written in the work folder, where the next run finds and removes what a killed one left.
    with replace_file(job.folder / job.filename, scratch=job.folder / WORK_FOLDER) as file:
        tally = _write_rows(job, file)
        result = ShardResult(job.number, file.tell(), tally)
    remember_shard(job, result)
    return result


def _write_rows(job: ShardJob, file: BinaryIO) -> Tally:
    """Write the rows of a shard to ``file`` as an Arrow stream."""
    tally = Tally()
    with pa.ipc.new_stream(file, shard_schema()) as writer:
        pending: list[SourceRow] = []
        pending_bytes = 0
        for item in job.source.read_many(job.entries):
            if isinstance(item, Dropped):
                tally.drop(item.record_id, item.reason)
                continue
            tally.keep(item.entry.split, item.entry.labels, set(item.entry.notes))
            pending.append(item)
            pending_bytes += item.ecg.samples.nbytes
            if pending_bytes >= BATCH_BYTES:
                writer.write_batch(rows_to_batch(pending, job.source.info.name))
                pending, pending_bytes = [], 0
        if pending:
            writer.write_batch(rows_to_batch(pending, job.source.info.name))
    return tally


def remember_shard(shard: Shard, result: ShardResult) -> None:
    """Record that a shard is in place, with its counts, for a run that resumes this one."""
    account = {"filename": shard.filename, "bytes": result.bytes, "tally": result.tally.to_dict()}
    write_whole(_account_path(shard), json.dumps(account, ensure_ascii=False))


def shard_filename(number: int, total: int) -> str:
    """File name of shard ``number`` (from 0) of a dataset of ``total``."""
    return f"data-{number:05d}-of-{total:05d}.arrow"


def load_result(shard: Shard) -> ShardResult | None:
    """The counts of a shard an earlier run finished; ``None`` if it did not."""
    try:
        account = json.loads(_account_path(shard).read_text(encoding="utf-8"))
        size = (shard.folder / shard.filename).stat().st_size
        if account["filename"] != shard.filename or account["bytes"] != size:
            return None
        return ShardResult(shard.number, size, Tally.from_dict(account["tally"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Missing or damaged: the shard is simply built again.
        return None


def _account_path(shard: Shard) -> Path:
    return shard.folder / WORK_FOLDER / f"{shard.number:05d}.json"
