"""Some rows of a built dataset for a process that needs no others, wherever the dataset lies."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from datasets import Dataset

from ecg_hf.data.build_folder import INFO_FILE, STATE_FILE
from ecg_hf.data.building import load_built
from ecg_hf.data.report import REPORT_FILE, BuildReport
from ecg_hf.errors import DatasetBuildError
from ecg_hf.storage import RemoteFolder, StoredObject, location

__all__ = ["BuiltRows", "open_built"]

_DESCRIPTION = (STATE_FILE, INFO_FILE, REPORT_FILE)


@dataclass(frozen=True)
class BuiltRows:
    """A built dataset as its workers know it; travels by pickle.

    Attributes:
        place: Path or address of its folder.
        content: Identifies what it was built from.
        rows: How many.
    """

    place: str
    content: str
    rows: int

    @contextmanager
    def some(self, start: int, stop: int) -> Iterator[Dataset]:
        """Rows from ``start`` to the one before ``stop``. Of a remote dataset their files are fetched meanwhile.

        Raises:
            DatasetBuildError: if the dataset can't be opened, or has become another.
            StorageError: if files can't be fetched.
        """
        place = location(self.place)
        if not isinstance(place, RemoteFolder):
            yield _kept(self.place, self.content).select(range(start, stop))
            return
        layout = _layout(self.place, self.content)
        chosen = [number for number, (first, last) in enumerate(layout.rows) if first < stop and last > start]
        with tempfile.TemporaryDirectory(prefix="ecg-hf-") as folder:
            place.fetch([layout.files[number] for number in chosen], Path(folder))
            state = {
                **layout.state,
                "_data_files": [layout.state["_data_files"][number] for number in chosen],
            }
            for name, content in ((STATE_FILE, json.dumps(state).encode()), *layout.description.items()):
                Path(folder, name).write_bytes(content)
            offset = layout.rows[chosen[0]][0]
            yield load_built(folder).select(range(start - offset, stop - offset))


def open_built(place: str | Path) -> BuiltRows:
    """Look at a built dataset, without fetching the rows of a remote one.

    Raises:
        DatasetBuildError: if the folder holds no finished dataset.
        StorageError: if the store can't be reached.
    """
    found = location(place)
    if not isinstance(found, RemoteFolder):
        folder = found.resolve()
        rows = len(load_built(folder))
        content = BuildReport.load(folder).content() if (folder / REPORT_FILE).is_file() else ""
        return BuiltRows(str(folder), content, rows)
    return BuiltRows(
        found.url, _content(found), sum(last - first for first, last in _read_layout(found).rows)
    )


@dataclass(frozen=True)
class _Layout:
    """Files of a remote dataset in the order of its rows, with the rows of each, and its small files."""

    files: list[StoredObject]
    rows: list[tuple[int, int]]
    state: dict[str, Any]
    description: dict[str, bytes]


def _content(place: RemoteFolder) -> str:
    objects = place.objects()
    if any(name not in objects for name in _DESCRIPTION):
        raise DatasetBuildError("the folder holds no finished dataset", path=place.url)
    with place.fetched([objects[REPORT_FILE]]) as folder:
        return BuildReport.load(folder).content()


@lru_cache(maxsize=1)
def _kept(place: str, content: str) -> Dataset:
    return load_built(place)


@lru_cache(maxsize=1)
def _layout(place: str, content: str) -> _Layout:
    folder = location(place)
    assert isinstance(folder, RemoteFolder)
    if _content(folder) != content:
        raise DatasetBuildError("the dataset has become another one meanwhile", path=place)
    return _read_layout(folder)


def _read_layout(place: RemoteFolder) -> _Layout:
    objects = place.objects()
    with place.fetched([objects[name] for name in _DESCRIPTION]) as folder:
        report = BuildReport.load(folder)
        state = json.loads((folder / STATE_FILE).read_bytes())
        description = {name: (folder / name).read_bytes() for name in (INFO_FILE, REPORT_FILE)}
    names = [str(file["filename"]) for file in state["_data_files"]]
    missing = [name for name in names if name not in objects]
    if missing:
        raise DatasetBuildError(
            f"{len(missing)} files of the dataset are not there: {missing[0]}", path=place.url
        )
    if len(report.shard_rows) != len(names) or sum(report.shard_rows) != report.kept:
        raise DatasetBuildError(
            "the report does not say how many rows each file has: build it again, or fetch the folder first",
            path=place.url,
        )
    ends = list(accumulate(report.shard_rows))
    rows = list(zip([0, *ends], ends, strict=False))
    return _Layout([objects[name] for name in names], rows, state, description)
