"""Building a dataset folder from a source: sharded, parallel, and safe to kill at any moment."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any, TypedDict

from datasets import Dataset
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ecg_hf.data.build_folder import (
    STATE_FILE,
    RunAccount,
    begin,
    clear,
    exclusive,
    finish_dataset,
    is_finished,
    is_part,
    refuse_foreign,
    remove_leftovers,
)
from ecg_hf.data.parts import Part, finish_part, finished_report, parse_part
from ecg_hf.data.remote_build import build_remotely
from ecg_hf.data.report import BuildReport
from ecg_hf.data.shards import (
    WORK_FOLDER,
    ShardJob,
    build_shard,
    load_result,
    shard_filename,
)
from ecg_hf.data.sources import Source, create_source, get_source
from ecg_hf.data.sources.base import Plan, is_plain_relative
from ecg_hf.data.sources.fetching import open_remote
from ecg_hf.data.sources.with_r_peaks import WithRPeaks
from ecg_hf.documents import read_json
from ecg_hf.engine import Engine, run_pieces
from ecg_hf.errors import ConfigurationError, DatasetBuildError
from ecg_hf.storage import RemoteFolder, location

__all__ = ["RECORDS_PER_SHARD", "build_dataset", "load_built", "load_saved"]

RECORDS_PER_SHARD = 1000

FORMAT_VERSION = 2
"""Raised when the same source and options would give other bytes than before."""


def build_dataset(
    source: str,
    data_dir: str | Path | None,
    output: str | Path,
    *,
    num_proc: int = 1,
    engine: Engine | None = None,
    records_per_shard: int = RECORDS_PER_SHARD,
    progress: bool = True,
    overwrite: bool = False,
    detect_r_peaks: bool = False,
    shard: str | None = None,
    **source_options: Any,
) -> BuildReport:
    """Turn recordings on disk into one ``datasets.Dataset`` folder.

    The folder loads with ``datasets.load_from_disk`` (import ``ecg_hf.data`` first) as a single dataset, rows in
    the order of the source, with ``split`` and ``fold`` columns. Its bytes depend on the source and the options,
    not on the number of processes or interruptions. A run that is killed leaves a folder that nothing mistakes for
    finished; the same call continues it. A finished folder is left unchanged.

    A recording that can't be read is left out and counted in ``build_report.json``.

    With ``shard="2/4"`` the second of four parts is built, which is not a dataset yet: four machines build one part
    each, and :func:`ecg_hf.data.merge_parts` joins them into the dataset one machine would have built, byte for byte.
    Each machine must see all tables and files of the source, because the whole listing decides order and splits.

    Args:
        source: Name of a source (see :func:`ecg_hf.data.list_sources`).
        data_dir: Folder with the source's files, or its address in an object store; ``None`` where none are needed.
        output: Folder to build, or its address.
        num_proc: Processes reading records on this machine.
        engine: Where shards are made, instead of ``num_proc``; workers on other machines must see ``data_dir`` and
            ``output`` under the same paths. The bytes are the same.
        records_per_shard: Recordings per Arrow file, before any are dropped.
        progress: Show a progress bar on standard error.
        overwrite: Rebuild a folder that holds another or an older build. A folder that holds anything else is
            always refused.
        detect_r_peaks: Fill the column ``r_peaks`` of recordings whose peaks the source does not know, so that models
            that need them don't detect them in every run. Some 10 ms for a recording of ten seconds.
        shard: Build one part of several, ``"I/N"`` with I from 1 to N; None builds the dataset.
        **source_options: Options of the source.

    Returns:
        Report on the dataset, or on the part.

    Raises:
        ConfigurationError: for an unknown source or option, or impossible numbers.
        DatasetBuildError: if the data folder lacks what the source needs, nothing can be read, the output folder
            holds something else, or another process is building it.
        FailedPieces: if shards ended their process each time; the others are kept.
    """
    if records_per_shard < 1:
        raise ConfigurationError(
            f"records_per_shard must be positive, got {records_per_shard}", value=records_per_shard
        )
    where = engine or Engine(num_proc=num_proc)
    part = None if shard is None else parse_part(shard)
    folder = location(output)
    if isinstance(folder, Path):
        refuse_foreign(folder)
    elif part is not None:
        raise ConfigurationError(
            "parts are built on disks; in an object store, all is built at once", value=shard
        )
    started = time.perf_counter()
    # Before anything is written, so that a source without its tables leaves no trace in the output.
    reader, plan = _planned(source, data_dir, source_options, where)
    if not plan.entries:
        raise DatasetBuildError(f"nothing to read: {plan.tally.reasons()}", path=data_dir)
    if detect_r_peaks:
        reader = WithRPeaks(reader)
    if isinstance(folder, RemoteFolder):
        return build_remotely(
            reader,
            plan,
            folder,
            _fingerprint(reader, plan, records_per_shard),
            engine=where,
            records_per_shard=records_per_shard,
            progress=progress,
            overwrite=overwrite,
            data_dir=None if data_dir is None else str(data_dir),
        )
    with exclusive(folder):
        return _build(reader, plan, part, folder, where, records_per_shard, progress, overwrite, started)


def _planned(
    name: str, data_dir: str | Path | None, options: dict[str, Any], engine: Engine
) -> tuple[Source, Plan]:
    """A source and its recordings, wherever its files are."""
    place = None if data_dir is None else location(data_dir)
    if isinstance(place, RemoteFolder):
        return open_remote(get_source(name), place, options)
    if place is not None and engine.name != "local":
        place = place.absolute()  # a worker's own working directory may be another
    source = create_source(name, place, options)
    return source, source.plan()


def _build(
    source: Source,
    plan: Plan,
    part: Part | None,
    folder: Path,
    engine: Engine,
    records_per_shard: int,
    progress: bool,
    overwrite: bool,
    started: float,
) -> BuildReport:
    fingerprint = _fingerprint(source, plan, records_per_shard)
    if overwrite:
        clear(folder)
    elif (report := finished_report(folder, fingerprint, part)) is not None:
        shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
        return BuildReport(**{**report.to_dict(), "reused": True})
    identity = {"fingerprint": fingerprint, "source": source.info.name, "options": source.options()}
    begin(folder, identity if part is None else {**identity, "part": str(part)})
    every = _jobs(folder.absolute(), source, plan, records_per_shard)
    jobs = every if part is None else [every[number] for number in part.shards(len(every))]
    done = {job.number: result for job in jobs if (result := load_result(job)) is not None}
    reused = len(done)
    remove_leftovers(folder)
    todo = [job for job in jobs if job.number not in done]
    records, left = (sum(len(job.entries) for job in some) for some in (jobs, todo))
    with tqdm(
        total=records, initial=records - left, unit="rec", desc=source.info.name, disable=not progress
    ) as bar:
        for job, result in run_pieces(build_shard, todo, engine):
            done[job.number] = result
            bar.update(len(job.entries))
    files = {job.filename: done[job.number] for job in jobs}
    seconds = time.perf_counter() - started
    run = RunAccount(reused, round(seconds, 3), round(left / seconds, 1))
    if part is not None:
        return finish_part(folder, source, part, fingerprint, files, len(every), plan.tally, run)
    return finish_dataset(
        folder, source.info, source.options(), fingerprint, files, plan.tally, run, source._data_dir
    )


def _jobs(folder: Path, source: Source, plan: Plan, records_per_shard: int) -> list[ShardJob]:
    entries = plan.entries
    starts = range(0, len(entries), records_per_shard)
    return [
        ShardJob(
            number,
            shard_filename(number, len(starts)),
            folder,
            source.piece(entries[start : start + records_per_shard]),
            entries[start : start + records_per_shard],
        )
        for number, start in enumerate(starts)
    ]


def _fingerprint(source: Source, plan: Plan, records_per_shard: int) -> str:
    """Identifies everything the bytes of the dataset depend on except the recordings themselves."""
    digest = hashlib.sha256()
    head = [FORMAT_VERSION, source.info.name, source.options(), records_per_shard]
    digest.update(json.dumps(head, sort_keys=True).encode())
    for entry in plan.entries:
        digest.update(repr(entry).encode("utf-8", errors="surrogatepass"))
    digest.update(json.dumps(plan.tally.to_dict(), sort_keys=True).encode())
    return digest.hexdigest()


class _File(TypedDict):
    """One file of a dataset's rows."""

    filename: str


class _State(TypedDict):
    """What the library's ``state.json`` says about files."""

    _data_files: list[_File]


def load_built(path: str | Path) -> Dataset:
    """Open a folder made by :func:`build_dataset`.

    Raises:
        DatasetBuildError: if the folder is missing, unfinished, or was not made by :func:`build_dataset`.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DatasetBuildError("no such dataset folder", path=folder)
    if not is_finished(folder):
        what = "no dataset"
        if is_part(folder):
            what = "one part of a dataset: merge it with the others (ecg-hf data merge)"
        elif (folder / WORK_FOLDER).is_dir():
            what = "an unfinished build: run the same build again"
        raise DatasetBuildError(f"the folder holds {what}", path=folder)
    return load_saved(folder)


def load_saved(folder: Path) -> Dataset:
    """Open what ``Dataset.save_to_disk`` wrote: a build, or rows somebody gave further columns.

    Raises:
        DatasetBuildError: if it is damaged, or names files outside the folder.
    """
    state: _State = read_json(folder / STATE_FILE, _State, error=DatasetBuildError)
    for file in state["_data_files"]:
        if not is_plain_relative(file["filename"]):
            raise DatasetBuildError("names a file outside the folder", path=folder / STATE_FILE, value=file)
    try:
        return Dataset.load_from_disk(str(folder))
    # For a damaged description the library raises almost any built-in exception.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise DatasetBuildError(
            f"the dataset can't be opened ({type(error).__name__}: {reason})", path=folder
        ) from None
