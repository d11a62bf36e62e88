"""Pieces of a dataset: of a build and of its export, here and in an object store."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ecg_hf.data import export_parquet, load_built
from ecg_hf.data import parquet as parquet_module
from ecg_hf.data.row_pieces import DivisibleRows, open_divisible
from ecg_hf.data.schema import SPLITS
from ecg_hf.errors import DatasetBuildError


@pytest.fixture
def export(built_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(parquet_module, "ROWS_PER_GROUP", 7)
    export_parquet(built_path, tmp_path / "export", rows_per_file=30, progress=False)
    return tmp_path / "export"


def rows_of(dataset: DivisibleRows, start: int, stop: int) -> list[dict[str, object]]:
    with pickle.loads(pickle.dumps(dataset.piece(start, stop))).opened() as rows:
        assert len(rows) == stop - start
        return list(rows.remove_columns(["ecg"])) + [
            {"signal": row["ecg"]["signal"].tobytes()} for row in rows
        ]


LIMITS = [(0, 160), (0, 1), (159, 160), (3, 11), (29, 31), (6, 7), (7, 14), (60, 130)]


@pytest.mark.parametrize("remote", [False, True])
def test_pieces_of_an_export_are_its_rows(
    built_path: Path, export: Path, empty_store: MemoryFileSystem, remote: bool
):
    place: str | Path = export
    if remote:
        place = "memory://store/export"
        empty_store.put(str(export), "/store/export", recursive=True)
    rows = load_built(built_path)
    order = [number for split in SPLITS for number, name in enumerate(rows["split"][:]) if name == split]
    expected = DivisibleRows(str(built_path), "", 160)
    found = open_divisible(place)
    assert found.rows == 160
    assert found.record_ids() == [rows["record_id"][number] for number in order]
    everything = [rows_of(expected, number, number + 1) for number in order]
    for start, stop in LIMITS:
        some = everything[start:stop]
        assert rows_of(found, start, stop) == [meta for meta, _ in some] + [signal for _, signal in some]


def test_only_files_and_groups_with_rows_are_read(export: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[int] = []
    real = pq.ParquetFile.read_row_group

    def noting(self: pq.ParquetFile, group: int, *more: object, **named: object) -> object:
        read.append(group)
        return real(self, group, *more, **named)

    piece = open_divisible(export).piece(36, 44)
    assert [Path(file).name for file in piece.files or ()] == ["train-00001-of-00004.parquet"]
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noting)
    with piece.opened():
        assert read == [0, 1]


def test_an_export_that_changed_or_is_not_whole_is_refused(export: Path):
    piece = open_divisible(export).piece(100, 160)
    last = sorted((export / "data").glob("test-*"))[-1]
    pq.write_table(pq.read_table(last).slice(0, 1), last)
    with pytest.raises(DatasetBuildError, match="fewer than before"), piece.opened():
        pass
    first = sorted((export / "data").glob("train-*"))[0]
    first.unlink()
    with pytest.raises(DatasetBuildError, match="missing"):
        open_divisible(export)


def test_contents_differ_where_the_order_does(built_path: Path, export: Path, tmp_path: Path):
    export_parquet(built_path, tmp_path / "other", rows_per_file=40, progress=False)
    found = [open_divisible(place).content for place in (built_path, export, tmp_path / "other")]
    assert len(set(found)) == 3
    assert open_divisible(export).content == found[1]
