"""A built dataset as Parquet files that can be streamed from a shared disk or from the Hub."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset, DatasetInfo, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetsError
from datasets.table import InMemoryTable
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ecg_hf.data.building import load_built
from ecg_hf.data.report import REPORT_FILE, BuildReport
from ecg_hf.data.schema import SPLITS, canonical_features, shard_schema
from ecg_hf.errors import ConfigurationError, DatasetBuildError, EcgError, StorageError
from ecg_hf.files import replace_file, sole_writer, write_whole
from ecg_hf.storage import ACCOUNTS, RemoteFolder, local_folder, location, trouble_of

__all__ = [
    "ROWS_PER_FILE",
    "ParquetExport",
    "ParquetSplit",
    "canonical_rows",
    "export_parquet",
    "load_parquet",
    "open_parquet",
    "read_rows",
    "read_texts",
    "readable",
]

ROWS_PER_FILE = 1000

ROWS_PER_GROUP = 100
"""A reader has to decompress a whole group: small ones suit shuffling, and 2.4 MB at 100 Hz is large enough."""

BYTES_PER_GROUP = 1 << 27
"""Most sample bytes of a group, unless one recording has more: readers can't take 2 GiB of one column at once."""

MAX_EXPANSION = 1100
"""A file that unpacks to more than so many times its size holds no ECGs, which don't compress like that."""

_FILE = re.compile(r"(?P<split>[a-z]+)-(?P<number>\d{5,})-of-(?P<count>\d{5,})\.parquet")


@dataclass(frozen=True, slots=True)
class ParquetExport:
    """What was written.

    Attributes:
        output: The folder.
        rows: Recordings by split.
        files: Files by split.
        bytes: Their size.
    """

    output: str
    rows: dict[str, int]
    files: dict[str, int]
    bytes: int


@dataclass(frozen=True, slots=True)
class ParquetSplit:
    """The files of one split of an exported dataset.

    Attributes:
        folder: The dataset, a path or an address.
        source: Name of its source.
        fingerprint: That of the build it was exported from.
        files: Paths or addresses in order.
        rows: Recordings in each.
    """

    folder: str | Path
    source: str
    fingerprint: str
    files: tuple[str | Path, ...]
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return sum(self.rows)

    def texts(self, column: str) -> list[str]:
        """A column of strings, without reading the others; ``""`` for nulls.

        Raises:
            DatasetBuildError: if a file is damaged.
        """
        return read_texts(self.files, column)


def export_parquet(
    dataset: str | Path, output: str | Path, *, rows_per_file: int = ROWS_PER_FILE, progress: bool = True
) -> ParquetExport:
    """Write a built dataset as ``data/<split>-00000-of-00012.parquet``, the layout the Hub and ``datasets`` expect.

    After ``import ecg_hf``, ``datasets.load_dataset(output)`` opens it with decoded ECGs, streaming or not: the files
    carry the column types of the dataset. Without this package, any reader of Parquet (pandas, pyarrow)
    opens them, with ECGs in their plain storage type. Rows keep their order within a split. Files are written whole
    or not at all; the same call continues an export that was killed.

    Streaming works best with many files of equal size: if their number is a multiple of the number of processes, each
    process reads only its own.

    Args:
        dataset: Folder made by :func:`ecg_hf.data.build_dataset`, or its address in an object store, from which it is
            fetched as a whole first.
        output: Folder to write, or its address.
        rows_per_file: Recordings per file.
        progress: Show a progress bar on standard error.

    Raises:
        ConfigurationError: if ``rows_per_file`` is not positive, or another process is writing the output.
        DatasetBuildError: if the dataset can't be opened, or the output holds something else.
    """
    if rows_per_file < 1:
        raise ConfigurationError(f"rows_per_file must be positive, got {rows_per_file}", value=rows_per_file)
    source, folder = local_folder(dataset), location(output)
    rows, report = load_built(source), BuildReport.load(source)
    plan = _plan(rows, rows_per_file)
    steps = tqdm(plan, unit="file", desc=f"exporting {report.source}", disable=not progress)
    if isinstance(folder, RemoteFolder):
        size = _publish(rows, report, source, folder, steps)
    else:
        with sole_writer(folder):
            _claim(folder, source, report, {name for name, _ in plan})
            for name, indices in steps:
                if not (folder / "data" / name).is_file():
                    _write(rows.select(indices), folder / "data" / name)
        size = sum((folder / "data" / name).stat().st_size for name, _ in plan)
    splits = [split for split in SPLITS if any(name.startswith(f"{split}-") for name, _ in plan)]
    opened = {split: open_parquet(output, split) for split in splits}
    return ParquetExport(
        str(folder),
        {split: len(files) for split, files in opened.items()},
        {split: len(files.files) for split, files in opened.items()},
        size,
    )


def _publish(
    rows: Dataset,
    report: BuildReport,
    source: Path,
    folder: RemoteFolder,
    plan: Iterable[tuple[str, Sequence[int]]],
) -> int:
    """Write an export into an object store, or what is missing of one; gives its size."""
    plan, objects = list(plan), folder.objects()
    names = {f"data/{name}" for name, _ in plan}
    ours = {REPORT_FILE, *names}
    if any(name not in ours and not name.startswith(f"{ACCOUNTS}/") for name in objects):
        raise DatasetBuildError(
            "the output folder holds something else; choose a new or empty folder", path=folder.url
        )
    done = folder.finished(objects, ours)
    if any(said["fingerprint"] != report.fingerprint for said in done.values()):
        raise DatasetBuildError(
            "the folder holds an export of another dataset; choose another folder", path=folder.url
        )
    said = {"fingerprint": report.fingerprint}
    with tempfile.TemporaryDirectory(prefix="ecg-hf-") as place:
        if REPORT_FILE not in done:
            folder.publish(source / REPORT_FILE, REPORT_FILE, said)
        for name, indices in plan:
            if f"data/{name}" not in done:
                _write(rows.select(indices), Path(place, name))
                folder.publish(Path(place, name), f"data/{name}", said)
                Path(place, name).unlink()
    return sum(one.size for name, one in folder.objects().items() if name in names)


def _plan(rows: Dataset, rows_per_file: int) -> list[tuple[str, Sequence[int]]]:
    """Files to write, and the rows of each."""
    chosen = np.asarray(rows["split"][:])
    plan: list[tuple[str, Sequence[int]]] = []
    for split in SPLITS:
        indices = np.flatnonzero(chosen == split)
        starts = range(0, len(indices), rows_per_file)
        plan += [
            (
                f"{split}-{number:05d}-of-{len(starts):05d}.parquet",
                indices[start : start + rows_per_file].tolist(),
            )
            for number, start in enumerate(starts)
        ]
    return plan


def _claim(folder: Path, dataset: Path, report: BuildReport, names: set[str]) -> None:
    """Begin an export, or continue the one in the folder; the report identifies its build."""
    if folder.exists() and not folder.is_dir():
        raise DatasetBuildError("the output is a file, not a folder", path=folder)
    if folder.is_dir() and any(folder.iterdir()):
        there = {file.name for file in (folder / "data").glob("*.parquet")}
        if not (folder / REPORT_FILE).is_file() or not (folder / "data").is_dir():
            raise DatasetBuildError(
                "the output folder holds something else; choose a new or empty folder", path=folder
            )
        if BuildReport.load(folder).fingerprint != report.fingerprint or not there <= names:
            raise DatasetBuildError(
                "the folder holds an export of another dataset, or one with other files; choose another folder",
                path=folder,
            )
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for stale in (folder / "data").glob("*.tmp"):
        stale.unlink()
    write_whole(folder / REPORT_FILE, (dataset / REPORT_FILE).read_text(encoding="utf-8"))


def _write(rows: Dataset, path: Path) -> None:
    with (
        replace_file(path) as file,
        # The schema names the column types, so that datasets reads ECGs as ECGs.
        pq.ParquetWriter(file, canonical_features().arrow_schema, compression="zstd") as writer,
    ):
        for start, stop in _groups(_sample_bytes(rows)):
            table = pa.table(rows.select(range(start, stop)).with_format("arrow")[:])
            writer.write_table(table.cast(writer.schema))


def _sample_bytes(rows: Dataset) -> list[int]:
    """Bytes of each row's samples, which are not read."""
    sizes = [
        pc.binary_length(chunk.field("samples")).to_numpy(zero_copy_only=False)
        for chunk in rows.data.table.column("ecg").chunks
    ]
    every = np.concatenate([*sizes, np.zeros(0, np.int64)]).astype(np.int64)
    chosen = every if rows._indices is None else every[rows._indices.column(0).to_numpy()]
    return list(map(int, chosen))


def _groups(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) row of each row group."""
    start = held = 0
    for row, size in enumerate(sizes):
        if row > start and (row - start == ROWS_PER_GROUP or held + size > BYTES_PER_GROUP):
            yield start, row
            start, held = row, 0
        held += size
    if start < len(sizes):
        yield start, len(sizes)


def open_parquet(folder: str | Path, split: str) -> ParquetSplit:
    """Find the files of a split of an exported dataset.

    Args:
        folder: Folder made by :func:`export_parquet`, or its address.
        split: ``train``, ``validation`` or ``test``.

    Raises:
        DatasetBuildError: if the folder is not an export, a file is missing, truncated or has other columns. A split
            without files is not an error: it has no rows.
    """
    place = location(folder)
    there, report = _listed(place)
    matches = [match for name in there if (match := _FILE.fullmatch(name))]
    found = sorted(match[0] for match in matches if match["split"] == split)
    counts = {int(match["count"]) for match in matches if match["split"] == split}
    if found and counts != {len(found)}:
        raise DatasetBuildError(f"files of split {split} are missing: run the same export again", path=folder)
    if isinstance(place, RemoteFolder):
        place.check([f"data/{name}" for name in found])
        files: tuple[str | Path, ...] = tuple(f"{place.url}/data/{name}" for name in found)
        return ParquetSplit(place.url, report.source, report.fingerprint, files, tuple(map(_rows, files)))
    files = tuple(place / "data" / name for name in found)
    return ParquetSplit(place, report.source, report.fingerprint, files, tuple(map(_rows, files)))


def _listed(place: Path | RemoteFolder) -> tuple[list[str], BuildReport]:
    """Names of the files of an export, and the report on the dataset."""
    wrong = DatasetBuildError(
        "no Parquet dataset: streaming needs what 'ecg-hf data export' writes (a folder with data/*.parquet)",
        path=str(place),
    )
    if not isinstance(place, RemoteFolder):
        if not (place / "data").is_dir():
            raise wrong
        return [file.name for file in (place / "data").iterdir()], BuildReport.load(place)
    objects = place.objects()
    if REPORT_FILE not in objects:
        raise wrong
    with place.fetched([objects[REPORT_FILE]]) as folder:
        return [name.removeprefix("data/") for name in objects if name.startswith("data/")], BuildReport.load(
            folder
        )


def load_parquet(files: Sequence[str | Path], *, streaming: bool = False) -> Any:
    """Canonical rows of files found by :func:`open_parquet`.

    Types are those of a built dataset; what the files call them is not asked, since it may be anything.

    Args:
        files: Paths or addresses in order; without streaming, remote ones are fetched first.
        streaming: Give an ``IterableDataset``; otherwise rows are converted once, into the library's cache, and
            mapped from there.

    Raises:
        DatasetBuildError: if a file is damaged (when streaming, iterating raises it inside :func:`readable`).
    """
    features = canonical_features()
    if not streaming:
        files = [_fetched(file) for file in files]
    with readable(files[0]):
        return load_dataset(
            "parquet",
            data_files=[str(file) for file in files],
            split="train",
            streaming=streaming,
            columns=list(features),
            features=features,
        )


def read_rows(files: Sequence[str | Path], start: int, stop: int) -> Dataset:
    """Canonical rows, counted over some files found by :func:`open_parquet`; only groups that hold any are read.

    Args:
        files: Paths or addresses in order.
        start: The first row.
        stop: The one after the last.

    Raises:
        DatasetBuildError: if a file is damaged, or they have fewer rows.
        StorageError: if a store can't be reached.
    """
    columns, tables, skipped, end = shard_schema().names, [], 0, 0
    for file in files:
        with readable(file), _opened(file) as opened:
            metadata = opened.metadata
            for group in range(metadata.num_row_groups):
                first, end = end, end + metadata.row_group(group).num_rows
                if end <= start:
                    skipped = end
                elif first < stop:
                    tables.append(canonical_rows(opened.read_row_group(group, columns=columns)))
    if end < stop or not tables:
        raise DatasetBuildError(f"the files have {end} rows, fewer than before", path=files[0])
    return concatenate_datasets(tables).select(range(start - skipped, stop - skipped))


def read_texts(files: Sequence[str | Path], column: str) -> list[str]:
    """A column of strings of some files, without reading the others; ``""`` for nulls.

    Raises:
        DatasetBuildError: if a file is damaged.
        StorageError: if a store can't be reached.
    """
    values: list[str] = []
    for file in files:
        with readable(file), _opened(file) as opened:
            texts = opened.read(columns=[column])[column].cast(pa.string())
            values += [value or "" for value in texts.to_pylist()]
    return values


def canonical_rows(table: pa.Table) -> Dataset:
    """Rows of an export as they are in a built dataset."""
    plain = table.select(shard_schema().names).cast(shard_schema())
    return Dataset(InMemoryTable(plain), info=DatasetInfo(features=canonical_features()))


@contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """What Arrow and ``datasets`` raise for damaged files becomes one error; a disk's own errors stay what they are.

    Args:
        path: What is read, for the error.

    Raises:
        DatasetBuildError: instead of what they raise.
        StorageError: instead of what the library of an object store raises.
    """
    try:
        yield
    except EcgError:
        raise
    except Exception as error:
        # Of damaged files, pyarrow says OSError without a number.
        damaged = (pa.ArrowException, DatasetsError, ValueError, TypeError, KeyError)
        if isinstance(error, damaged) or (type(error) is OSError and error.errno is None):
            raise DatasetBuildError("the Parquet files can't be read, or are damaged", path=path) from None
        if "://" in str(path) and (trouble := trouble_of(error)) is not None:
            raise StorageError(f"the store failed: {trouble}", path=path) from None
        raise


def _rows(file: str | Path) -> int:
    """Recordings in a file, whose columns are those of a built dataset.

    Raises:
        DatasetBuildError: if it is no such file, or announces more than a file of its size can hold.
    """
    with readable(file), _opened(file) as opened:
        schema, metadata, size = opened.schema_arrow, opened.metadata, _size(file)
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        announced = sum(g.column(i).total_uncompressed_size for g in groups for i in range(g.num_columns))
        wanted = shard_schema()
        fits = set(wanted.names) <= set(schema.names)
        if fits:
            try:
                pa.schema([schema.field(name) for name in wanted.names]).empty_table().cast(wanted)
            except (pa.ArrowException, ValueError):
                fits = False
    if not fits:
        raise DatasetBuildError("other columns than a built dataset has", path=file)
    if announced > MAX_EXPANSION * size:
        raise DatasetBuildError(
            f"the file announces {announced} bytes, more than a file of its size holds", path=file
        )
    return int(metadata.num_rows)


@contextmanager
def _opened(file: str | Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file, or one in an object store of which only what is asked for is read."""
    remote, name = _of_store(file)
    if remote is None:
        with pq.ParquetFile(file) as opened:
            yield opened
        return
    with remote.open(name) as binary, pq.ParquetFile(binary) as opened:
        yield opened


def _size(file: str | Path) -> int:
    remote, name = _of_store(file)
    return Path(file).stat().st_size if remote is None else remote.look_up([name])[name].size


def _fetched(file: str | Path) -> Path:
    remote, name = _of_store(file)
    return Path(file) if remote is None else remote.mirror(name.__eq__) / name


def _of_store(file: str | Path) -> tuple[RemoteFolder | None, str]:
    """The folder and the name of a file in an object store."""
    folder, _, name = str(file).rpartition("/")
    found = location(folder) if "://" in str(file) else None
    return (found, name) if isinstance(found, RemoteFolder) else (None, name)
