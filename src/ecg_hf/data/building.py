"""Building a dataset folder from a source: sharded, parallel, and safe to kill at any moment."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset
from filelock import FileLock, Timeout
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ecg_hf.data.report import REPORT_FILE, BuildReport, Tally
from ecg_hf.data.schema import canonical_features
from ecg_hf.data.shards import (
    WORK_FOLDER,
    ShardJob,
    ShardResult,
    build_shard,
    load_result,
    set_source,
    write_atomically,
)
from ecg_hf.data.sources import Source, create_source
from ecg_hf.data.sources.base import Plan
from ecg_hf.data.sources.with_r_peaks import WithRPeaks
from ecg_hf.data.splits import check_patient_leak
from ecg_hf.errors import ConfigurationError, DatasetBuildError

__all__ = ["RECORDS_PER_SHARD", "build_dataset", "load_built"]

RECORDS_PER_SHARD = 1000

FORMAT_VERSION = 1
"""Raised when the same source and options would give other bytes than before."""

PLAN_FILE = "plan.json"
STATE_FILE = "state.json"
INFO_FILE = "dataset_info.json"
LOCK_FILE = "lock"

# Workers of a run that was just killed hold the lock until they notice, half a second later.
LOCK_PATIENCE_S = 3.0


def build_dataset(
    source: str,
    data_dir: str | Path | None,
    output: str | Path,
    *,
    num_proc: int = 1,
    records_per_shard: int = RECORDS_PER_SHARD,
    progress: bool = True,
    overwrite: bool = False,
    detect_r_peaks: bool = False,
    **source_options: Any,
) -> BuildReport:
    """Turn recordings on disk into one ``datasets.Dataset`` folder.

    The folder loads with ``datasets.load_from_disk`` (import ``ecg_hf.data`` first) as a single dataset, rows in
    the order of the source, with ``split`` and ``fold`` columns. Its bytes depend on the source and the options,
    not on the number of processes or interruptions. A run that is killed leaves a folder that nothing mistakes for
    finished; the same call continues it. A finished folder is left alone.

    A recording that can't be read is left out and counted; ``build_report.json`` holds the account.

    Args:
        source: Name of a source (see :func:`ecg_hf.data.list_sources`).
        data_dir: Folder with the source's files, ``None`` where none are needed.
        output: Folder to build.
        num_proc: Processes reading records.
        records_per_shard: Recordings per Arrow file, before any are dropped.
        progress: Show a progress bar on standard error.
        overwrite: Rebuild a folder that holds another or an older build. A folder that holds anything else is
            refused all the same.
        detect_r_peaks: Fill the column ``r_peaks`` of recordings whose peaks the source does not know, so that models
            that need them don't detect them in every run. Some 10 ms for a recording of ten seconds.
        **source_options: Options of the source.

    Raises:
        ConfigurationError: for an unknown source or option, or impossible numbers.
        DatasetBuildError: if the data folder lacks what the source needs, nothing can be read, the output folder
            holds something else, or another process is building it.
    """
    if num_proc < 1 or records_per_shard < 1:
        raise ConfigurationError(
            f"num_proc and records_per_shard must be positive, got {num_proc}, {records_per_shard}"
        )
    reader = create_source(source, None if data_dir is None else Path(data_dir), source_options)
    if detect_r_peaks:
        reader = WithRPeaks(reader)
    folder = Path(output)
    _refuse_foreign(folder)
    started = time.perf_counter()
    # Before anything is written: a folder without its tables leaves no trace in the output.
    plan = reader.plan()
    if not plan.entries:
        raise DatasetBuildError(f"nothing to read: {_count(plan.tally)}", path=data_dir)
    (folder / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
    with _exclusive(folder):
        return _build(reader, plan, folder, num_proc, records_per_shard, progress, overwrite, started)


def _build(
    source: Source,
    plan: Plan,
    folder: Path,
    num_proc: int,
    records_per_shard: int,
    progress: bool,
    overwrite: bool,
    started: float,
) -> BuildReport:
    fingerprint = _fingerprint(source, plan, records_per_shard)
    if overwrite:
        _clear(folder)
    elif _is_finished(folder):
        report = BuildReport.load(folder)
        if report.fingerprint != fingerprint:
            raise DatasetBuildError(
                "the folder holds a finished build of other data or options; pass overwrite=True to replace it",
                path=folder,
            )
        shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
        return BuildReport(**{**report.to_dict(), "reused": True})
    _check_plan(folder, source, fingerprint)
    jobs = _jobs(folder, plan, records_per_shard)
    done = {job.number: result for job in jobs if (result := load_result(job)) is not None}
    reused = len(done)
    for stale in [*(folder / WORK_FOLDER).glob("*.tmp")]:
        stale.unlink(missing_ok=True)
    todo = [job for job in jobs if job.number not in done]
    total = sum(len(job.entries) for job in todo)
    with tqdm(
        total=len(plan.entries),
        initial=len(plan.entries) - total,
        unit="rec",
        desc=source.info.name,
        disable=not progress,
    ) as bar:
        for job, result in _run(source, todo, num_proc):
            done[job.number] = result
            bar.update(len(job.entries))
    tally = Tally()
    tally.add(plan.tally)
    for number in sorted(done):
        tally.add(done[number].tally)
    if not tally.kept:
        # Finished shards would keep the verdict alive after the files were repaired.
        _clear(folder)
        _abandon(folder)
        raise DatasetBuildError(f"not one record could be read: {_count(tally)}", path=source._data_dir)
    _write_info(folder, source, jobs, fingerprint)
    seconds = time.perf_counter() - started
    leak = check_patient_leak(_open(folder, jobs), strict=False)
    report = BuildReport(
        source=source.info.name,
        options=source.options(),
        output=str(folder),
        seen=tally.kept + sum(tally.dropped.values()),
        shards=len(jobs),
        shards_reused=reused,
        bytes=sum(result.bytes for result in done.values()),
        seconds=round(seconds, 3),
        records_per_second=round(total / seconds, 1),
        fingerprint=fingerprint,
        versions={name: version(name) for name in ("ecg-hf", "datasets", "pyarrow", "numpy", "wfdb")},
        patients=leak.distinct_patients,
        patients_in_two_splits=leak.patients,
        **tally.to_dict(),
    )
    write_atomically(folder / REPORT_FILE, json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    # The state file makes the folder loadable, so it comes last.
    write_atomically(folder / STATE_FILE, json.dumps(_state(jobs, fingerprint), indent=2, sort_keys=True))
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
    return report


def _run(source: Source, jobs: list[ShardJob], num_proc: int) -> Iterator[tuple[ShardJob, ShardResult]]:
    """Build shards, in this process or in several; results come as they are finished."""
    if num_proc == 1 or len(jobs) <= 1:
        set_source(source)
        for job in jobs:
            yield job, build_shard(job)
        return
    # fork where there is one: spawned workers would run the caller's script again up to its main guard.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(
        min(num_proc, len(jobs)), mp_context=context, initializer=set_source, initargs=(source, os.getpid())
    ) as pool:
        futures = {pool.submit(build_shard, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise DatasetBuildError(
                "a worker process died (out of memory?); run the same command again to continue, with a smaller "
                "num_proc or records_per_shard"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _jobs(folder: Path, plan: Plan, records_per_shard: int) -> list[ShardJob]:
    entries = plan.entries
    starts = range(0, len(entries), records_per_shard)
    return [
        ShardJob(
            number,
            f"data-{number:05d}-of-{len(starts):05d}.arrow",
            folder,
            entries[start : start + records_per_shard],
        )
        for number, start in enumerate(starts)
    ]


def _fingerprint(source: Source, plan: Plan, records_per_shard: int) -> str:
    """Identifies everything the bytes of the dataset depend on, short of the recordings themselves."""
    digest = hashlib.sha256()
    head = [FORMAT_VERSION, source.info.name, source.options(), records_per_shard]
    digest.update(json.dumps(head, sort_keys=True).encode())
    for entry in plan.entries:
        digest.update(repr(entry).encode("utf-8", errors="surrogatepass"))
    digest.update(json.dumps(plan.tally.to_dict(), sort_keys=True).encode())
    return digest.hexdigest()


def _names_of_builds(names: Iterable[str]) -> bool:
    ours = {WORK_FOLDER, STATE_FILE, INFO_FILE, REPORT_FILE}
    return all(name in ours or (name.startswith("data-") and name.endswith(".arrow")) for name in names)


def _refuse_foreign(folder: Path) -> None:
    """Leave alone what this builder did not make."""
    if folder.exists() and not folder.is_dir():
        raise DatasetBuildError("the output is a file, not a folder", path=folder)
    names = [item.name for item in folder.iterdir()] if folder.is_dir() else []
    if not names:
        return
    if not (_is_finished(folder) or (folder / WORK_FOLDER).is_dir()):
        raise DatasetBuildError(
            "the output folder holds something else; choose a new or empty folder", path=folder
        )


def _is_finished(folder: Path) -> bool:
    return (folder / STATE_FILE).is_file() and (folder / REPORT_FILE).is_file()


def _check_plan(folder: Path, source: Source, fingerprint: str) -> None:
    """Begin a build, or make sure that the one begun here is this one."""
    path = folder / WORK_FOLDER / PLAN_FILE
    if path.is_file():
        try:
            begun = json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError):
            begun = None
        if begun == fingerprint:
            return
        if any(folder.glob("data-*.arrow")):
            raise DatasetBuildError(
                "the folder holds an unfinished build of other data or options; pass overwrite=True to start anew",
                path=folder,
            )
    plan = {"fingerprint": fingerprint, "source": source.info.name, "options": source.options()}
    write_atomically(path, json.dumps(plan, indent=2))


def _clear(folder: Path) -> None:
    """Remove an earlier build, the file that makes it loadable first."""
    names = [item.name for item in folder.iterdir()]
    if not _names_of_builds(names):
        raise DatasetBuildError(
            "the output folder holds more than a build; choose another folder", path=folder
        )
    (folder / STATE_FILE).unlink(missing_ok=True)
    for name in names:
        if name != WORK_FOLDER:
            (folder / name).unlink(missing_ok=True)
    for item in (folder / WORK_FOLDER).iterdir():
        if item.name != LOCK_FILE:
            item.unlink()


def _abandon(folder: Path) -> None:
    """Take away the empty beginnings of a build that can't be."""
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
    if not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the operating system releases it when the process ends, however it ends."""
    lock = FileLock(folder / WORK_FOLDER / LOCK_FILE)
    try:
        lock.acquire(timeout=LOCK_PATIENCE_S)
    except Timeout:
        raise DatasetBuildError("another process is building this folder", path=folder) from None
    try:
        yield
    finally:
        lock.release()


def _count(tally: Tally) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.dropped.items()))
    return (
        f"{sum(tally.dropped.values())} records dropped ({reasons})"
        if reasons
        else "the source lists no records"
    )


def _write_info(folder: Path, source: Source, jobs: list[ShardJob], fingerprint: str) -> None:
    """The description ``datasets`` reads the column types from."""
    info = {
        "builder_name": f"ecg_hf/{source.info.name}",
        "citation": "",
        "description": source.info.title,
        "features": canonical_features().to_dict(),
        "homepage": "",
        "license": source.info.licence,
    }
    write_atomically(folder / INFO_FILE, json.dumps(info, indent=2))


def _state(jobs: list[ShardJob], fingerprint: str) -> dict[str, Any]:
    """What ``Dataset.load_from_disk`` needs beside the description."""
    return {
        "_data_files": [{"filename": job.filename} for job in jobs],
        "_fingerprint": fingerprint[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }


def _open(folder: Path, jobs: list[ShardJob]) -> Dataset:
    """The dataset before its folder is declared finished."""
    parts = [Dataset.from_file(str(folder / job.filename)) for job in jobs]
    return datasets.concatenate_datasets(parts)


def load_built(path: str | Path) -> Dataset:
    """Open a folder made by :func:`build_dataset`.

    Raises:
        DatasetBuildError: if the folder is missing, unfinished, or was not made by :func:`build_dataset`.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DatasetBuildError("no such dataset folder", path=folder)
    if not _is_finished(folder):
        what = (
            "an unfinished build: run the same build again"
            if (folder / WORK_FOLDER).is_dir()
            else "no dataset"
        )
        raise DatasetBuildError(f"the folder holds {what}", path=folder)
    try:
        return Dataset.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise DatasetBuildError(
            f"the dataset can't be opened ({type(error).__name__})", path=folder
        ) from None
