"""Joining the parts that several machines built into the dataset one machine would have built."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ecg_hf.data.build_folder import (
    RunAccount,
    begin,
    clear,
    exclusive,
    finish_dataset,
    refuse_foreign,
    remove_leftovers,
)
from ecg_hf.data.parts import FinishedPart, file_digest, finished_report, load_part
from ecg_hf.data.report import BuildReport
from ecg_hf.data.shards import WORK_FOLDER, Shard, load_result, remember_shard, shard_filename
from ecg_hf.data.sources import get_source
from ecg_hf.errors import ConfigurationError, DatasetBuildError
from ecg_hf.files import flush, temporary_name

__all__ = ["merge_parts"]


def merge_parts(
    parts: Sequence[str | Path], output: str | Path, *, progress: bool = True, overwrite: bool = False
) -> BuildReport:
    """Join all parts of a dataset, built with ``build_dataset(..., shard="I/N")``.

    The result is what ``build_dataset`` without ``shard`` makes, byte for byte except for the timings in its report.
    Files on the same disk are linked instead of copied, so that merging takes no space; the parts stay unchanged
    and can be removed afterwards. Every file is checked against the digest stored in its part. A merge that is killed
    leaves a folder that nothing mistakes for finished; the same call continues it.

    Args:
        parts: Folders of all N parts, in any order.
        output: Folder of the dataset.
        progress: Show a progress bar on standard error.
        overwrite: Replace another or an older build in ``output``.

    Raises:
        ConfigurationError: if no part is given.
        DatasetBuildError: if a folder holds no finished part, parts are of different builds, one is missing or
            given twice, a file is damaged, or the output holds something else.
    """
    loaded = [load_part(Path(part)) for part in parts]
    _check_together(loaded)
    folder = Path(output)
    if any(folder.resolve() == part.folder.resolve() for part in loaded):
        raise DatasetBuildError("the output is one of the parts; choose another folder", path=folder)
    refuse_foreign(folder)
    with exclusive(folder):
        return _merge(sorted(loaded, key=lambda part: part.part.index), folder, progress, overwrite)


def _check_together(parts: Sequence[FinishedPart]) -> None:
    """Check that these are all parts of one dataset, each once."""
    if not parts:
        raise ConfigurationError("no part was given")
    first = parts[0]
    for other in parts[1:]:
        if (other.report.fingerprint, other.shards) != (first.report.fingerprint, first.shards):
            raise DatasetBuildError(
                f"not of the same build as {first.folder}: {_difference(first.report, other.report)}",
                path=other.folder,
            )
        if other.part.count != first.part.count:
            raise DatasetBuildError(
                f"part {other.part}, but {first.folder} is part {first.part}", path=other.folder
            )
    indices = Counter(part.part.index for part in parts)
    twice = [part for part in parts if indices[part.part.index] > 1]
    if twice:
        raise DatasetBuildError(f"part {twice[0].part} is also in {twice[1].folder}", path=twice[0].folder)
    missing = sorted(set(range(1, first.part.count + 1)) - set(indices))
    if missing:
        names = ", ".join(f"{index}/{first.part.count}" for index in missing)
        raise DatasetBuildError(f"parts are missing: {names}")


def _difference(first: BuildReport, other: BuildReport) -> str:
    """In what two builds differ."""
    if other.source != first.source:
        return f"source {other.source}, there {first.source}"
    for name in sorted({*first.options, *other.options}):
        here, there = other.options.get(name), first.options.get(name)
        if here != there:
            return f"option {name} {here!r}, there {there!r}"
    return "the machines did not see the same tables and files"


def _merge(parts: Sequence[FinishedPart], folder: Path, progress: bool, overwrite: bool) -> BuildReport:
    report = parts[0].report
    if overwrite:
        clear(folder)
    elif (there := finished_report(folder, report.fingerprint, None)) is not None:
        shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
        return BuildReport(**{**there.to_dict(), "reused": True})
    # The same mark as that of a build on one machine: either can continue the other.
    begin(
        folder, {"fingerprint": report.fingerprint, "source": report.source, "options": dict(report.options)}
    )
    remove_leftovers(folder)
    files = {name: (part, result) for part in parts for name, result in part.files.items()}
    expected = [shard_filename(number, parts[0].shards) for number in range(parts[0].shards)]
    if list(files) != expected:
        raise DatasetBuildError("the reports of the parts do not list the shards they should", path=folder)
    reused = 0
    for name, (part, result) in tqdm(
        files.items(), unit="file", desc=f"merging {report.source}", disable=not progress
    ):
        shard = Shard(result.number, name, folder)
        if load_result(shard) is not None:
            reused += 1
            continue
        temporary = temporary_name(folder / WORK_FOLDER / name)
        _fetch(part.folder / name, temporary)
        if file_digest(temporary) != part.digests[name]:
            temporary.unlink()
            raise DatasetBuildError(
                f"the file is not as part {part.part} was built: build that part again",
                path=part.folder / name,
            )
        flush(temporary)
        os.replace(temporary, folder / name)
        flush(folder)
        remember_shard(shard, result)
    seconds = sum(part.report.seconds for part in parts)
    read = sum(part.report.seen for part in parts)
    rate = round(read / seconds, 1) if seconds else 0.0
    run = RunAccount(reused, round(seconds, 3), rate, _versions(parts))
    return finish_dataset(
        folder,
        get_source(report.source).info,
        report.options,
        report.fingerprint,
        {name: result for name, (_, result) in files.items()},
        parts[0].listing,
        run,
    )


def _fetch(source: Path, target: Path) -> None:
    """Link a file, or copy it to where it can't be linked."""
    try:
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
    except OSError as error:
        raise DatasetBuildError(
            f"the file can't be read or copied ({type(error).__name__})", path=source
        ) from None


def _versions(parts: Sequence[FinishedPart]) -> dict[str, str]:
    """Versions of packages, all that were used where machines differ."""
    names = dict.fromkeys(name for part in parts for name in part.report.versions)
    return {
        name: ", ".join(dict.fromkeys(part.report.versions.get(name, "unknown") for part in parts))
        for name in names
    }
