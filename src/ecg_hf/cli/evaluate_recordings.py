"""The recordings of an evaluation: datasets that are built, folders of sources that are built once, own labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_hf.errors import ConfigurationError
from ecg_hf.storage import local_folder

if TYPE_CHECKING:
    from datasets import Dataset

    from ecg_hf.evaluation.benchmark_data import Benchmark
    from ecg_hf.evaluation.delineation.annotations import AnnotatedRecord
    from ecg_hf.evaluation.prepare import Recordings

__all__ = ["Build", "annotated_recordings", "benchmark_recordings", "own_recordings"]


TABLE = "labels.csv"


@dataclass(frozen=True, slots=True)
class Build:
    """How the files of a source become a dataset in the evaluation's folder.

    Attributes:
        output: The evaluation's folder.
        options: Of the source.
        num_proc: Processes reading records.
        detect_r_peaks: Whether a model wants R peaks.
        say: Receives the account.
        built: Folders of what was built so far.
    """

    output: Path
    options: dict[str, Any] = field(default_factory=dict)
    num_proc: int = 1
    detect_r_peaks: bool = False
    say: Callable[[str], None] = print
    built: list[Path] = field(default_factory=list)

    def __call__(self, source: str, folder: str | Path | None) -> Dataset:
        """Build a source's files into ``output/data``, where they are found again."""
        from ecg_hf.data import build_dataset, load_built

        target = self.output / "data" / source
        report = build_dataset(
            source, folder, target, num_proc=self.num_proc, detect_r_peaks=self.detect_r_peaks, **self.options
        )
        self.say(report.summary())
        self.built.append(target)
        return load_built(target)


def benchmark_recordings(
    benchmarks: Sequence[Benchmark], data_dirs: Sequence[str], datasets: Sequence[str], build: Build
) -> dict[str, Recordings]:
    """Built rows of every benchmark's source.

    Args:
        benchmarks: Those that are evaluated.
        data_dirs: ``SOURCE=FOLDER`` of files to build.
        datasets: Folders of built datasets, or their addresses.
        build: How to build.

    Raises:
        ConfigurationError: if a source is in none of them.
    """
    from ecg_hf.data import load_built
    from ecg_hf.evaluation.prepare import SAME_NAMES, Recordings

    built = [Recordings.of(load_built(local_folder(path))) for path in datasets]
    found: dict[str, Recordings] = {}
    wanted = [one for one in benchmarks if one.kind == "multilabel"]
    if not wanted:
        return found
    for one in wanted:
        for source in (one.dataset, *sorted(SAME_NAMES.get(one.name, ()))):
            for recordings in built:
                if recordings.source == source:
                    found.setdefault(one.name, recordings)
    missing = list(dict.fromkeys(one.dataset for one in wanted if one.name not in found))
    folders = _folders(data_dirs, missing)
    for name in missing:
        if name not in folders and name != "synthetic":
            have = ", ".join(recordings.source for recordings in built) or "none"
            raise ConfigurationError(
                f"no recordings of {name}: give --data-dir or a --dataset built from it (datasets given: {have})",
                value=name,
            )
        made = Recordings.of(build(name, folders.get(name)))
        found |= {one.name: made for one in wanted if one.dataset == name and one.name not in found}
    return found


def own_recordings(
    column: str, data_dirs: Sequence[str], datasets: Sequence[str], build: Build
) -> tuple[Benchmark, Recordings]:
    """The benchmark of one's own labels, and its recordings.

    Args:
        column: Column that holds the labels, or a label group.
        data_dirs: A folder of recordings with its table of labels, to build; or ``SOURCE=FOLDER``.
        datasets: A dataset instead: built, a Parquet export, or one of these saved again with more columns. A folder
            of recordings with its table ``labels.csv`` is built first.
        build: How to build.

    Raises:
        EcgError: if there is not exactly one of them, or it can't be opened.
    """
    from ecg_hf.data.opening import open_rows
    from ecg_hf.evaluation.benchmark_data import own_benchmark
    from ecg_hf.evaluation.prepare import Recordings

    if len(datasets) + len(data_dirs) != 1:
        raise ConfigurationError("--labels is about one --dataset, or one --data-dir that is built")
    given = local_folder(datasets[0]) if datasets else None
    if given is not None and (given / TABLE).is_file():
        rows = build("folder", given)
    elif given is not None:
        rows = open_rows(given)
    else:
        ((source, folder),) = _folders(data_dirs, ["folder"]).items()
        rows = build(source, folder)
    sources = sorted(set(rows.unique("source")) - {None}) if "source" in rows.column_names else []
    name = ", ".join(sources) or "own"
    return own_benchmark(column, name), Recordings(rows, name)


def annotated_recordings(
    benchmarks: Sequence[Benchmark], data_dirs: Sequence[str]
) -> Sequence[AnnotatedRecord]:
    """LUDB with its marks, where a benchmark is about these."""
    from ecg_hf.evaluation.delineation.annotations import read_ludb

    if all(one.kind == "multilabel" for one in benchmarks):
        return ()
    folders = _folders(data_dirs, ["ludb"])
    if "ludb" not in folders:
        raise ConfigurationError(
            "delineation and measurements read LUDB itself: give its folder as --data-dir"
        )
    return read_ludb(local_folder(folders["ludb"]))


def _folders(given: Sequence[str], missing: Sequence[str]) -> dict[str, str]:
    """``["ptbxl=/data/a", ...]``, or one folder where one source is missing."""
    from ecg_hf.data.sources import SOURCES

    folders: dict[str, str] = {}
    for item in given:
        name, equals, path = item.partition("=")
        if equals and name in SOURCES:
            folders[name] = path
        elif len(missing) == 1 and len(given) == 1:
            folders[missing[0]] = item
        else:
            raise ConfigurationError(
                f"--data-dir must say which of {', '.join(missing) or 'no source'} it is: SOURCE=FOLDER",
                value=item,
            )
    return folders
