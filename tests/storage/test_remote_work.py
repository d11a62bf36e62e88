"""Builds, exports, streams, embeddings and predictions in an object store: those of a disk."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import ecg_hf
from ecg_hf.data import build_dataset, export_parquet, load_built, load_mixed
from ecg_hf.data.row_pieces import open_divisible
from ecg_hf.data.streaming import RowStream
from ecg_hf.engine import Part, make_parts
from ecg_hf.errors import ConfigurationError, DatasetBuildError, StorageError
from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER, pretrained_folder
from ecg_hf.pipelines.explained_folder import explain_in_folder, explanation_name
from ecg_hf.storage import ACCOUNTS, RemoteFolder, location
from ecg_hf.storage import trying as trying_module

STORE = "memory://store"
QUIET: dict[str, Any] = {"progress": False}
SMALL: dict[str, Any] = {"records": 20, "records_per_shard": 6, **QUIET}


@pytest.fixture(autouse=True)
def memory(
    empty_store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> MemoryFileSystem:
    monkeypatch.setattr(trying_module, "_PAUSE_S", 0.0)
    # The library waits five seconds for its threads whenever a stream is closed.
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    monkeypatch.chdir(tmp_path)
    return empty_store


def stored(folder: str) -> dict[str, bytes]:
    """Objects of a folder but accounts, and reports, which say how long a build took."""
    found = {path.removeprefix(f"/store/{folder}/"): file.getvalue() for path, file in MemoryFileSystem.store.items()
             if path.startswith(f"/store/{folder}/")}  # fmt: skip
    return {name: data for name, data in found.items() if ACCOUNTS not in name and "report" not in name}


def files(folder: str) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path for path in Path(folder).rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if "report" not in name}


def put(memory: MemoryFileSystem, folder: str) -> None:
    for path in Path(folder).rglob("*"):
        if path.is_file():
            memory.pipe_file(f"/store/{path.as_posix()}", path.read_bytes())


def test_a_build_has_the_bytes_of_a_local_one():
    here = build_dataset("synthetic", None, "built", **SMALL)
    there = build_dataset("synthetic", None, f"{STORE}/built", **SMALL)
    assert stored("built") == files("built")
    assert (there.output, there.kept, there.patients) == (f"{STORE}/built", here.kept, here.patients)
    assert build_dataset("synthetic", None, f"{STORE}/built", **SMALL).reused


def test_a_killed_build_makes_what_is_missing_or_half_written(memory: MemoryFileSystem):
    build_dataset("synthetic", None, f"{STORE}/built", **SMALL)
    whole = stored("built")
    for name in ("state.json", f"{ACCOUNTS}/data-00001-of-00004.arrow.json"):
        memory.rm_file(f"/store/built/{name}")
    memory.pipe_file("/store/built/data-00002-of-00004.arrow", whole["data-00002-of-00004.arrow"][:999])
    with pytest.raises(DatasetBuildError, match="no finished dataset"):
        open_divisible(f"{STORE}/built")
    assert build_dataset("synthetic", None, f"{STORE}/built", **SMALL).shards_reused == 2
    assert stored("built") == whole


def test_other_builds_and_other_things_are_refused(memory: MemoryFileSystem):
    build_dataset("synthetic", None, f"{STORE}/built", **SMALL)
    other = {**SMALL, "records": 21}
    with pytest.raises(DatasetBuildError, match="other data or options"):
        build_dataset("synthetic", None, f"{STORE}/built", **other)
    assert build_dataset("synthetic", None, f"{STORE}/built", overwrite=True, **other).kept == 21
    memory.pipe_file("/store/other/mine.txt", b"mine")
    with pytest.raises(DatasetBuildError, match="something else"):
        build_dataset("synthetic", None, f"{STORE}/other", overwrite=True, **SMALL)
    with pytest.raises(ConfigurationError, match="parts are built on disks"):
        build_dataset("synthetic", None, f"{STORE}/new", shard="1/2", **SMALL)


@pytest.fixture
def recordings(memory: MemoryFileSystem) -> str:
    """A folder of WFDB records, here and in the store: one cut short, one whose header names another file."""
    sample = Path(ecg_hf.sample_record()).with_suffix("")
    Path("source/deep").mkdir(parents=True)
    for number in range(5):
        name = f"source/deep/r{number}"
        header = sample.with_suffix(".hea").read_text().replace(sample.name, f"r{number}")
        Path(f"{name}.hea").write_text(header)
        shutil.copy(sample.with_suffix(".dat"), f"{name}.dat")
    Path("source/deep/r1.dat").write_bytes(Path("source/deep/r1.dat").read_bytes()[:100])
    header = Path("source/deep/r2.hea").read_text()
    Path("source/deep/r2.hea").write_text(header.replace("r2.dat", "elsewhere.dat"))
    Path("source/deep/r2.dat").rename("source/deep/elsewhere.dat")
    header = Path("source/deep/r3.hea").read_text()
    Path("source/deep/r3.hea").write_text(header.replace("r3.dat", "../../secret.dat"))
    Path("secret.dat").write_bytes(Path("source/deep/r3.dat").read_bytes())
    put(memory, "source")
    memory.pipe_file("/store/secret.dat", Path("secret.dat").read_bytes())
    return "source"


def test_recordings_are_fetched_as_they_would_be_read(recordings: str):
    options = {"records_per_shard": 2, **QUIET}
    here = build_dataset("wfdb_folder", recordings, "built", **options)
    there = build_dataset("wfdb_folder", f"{STORE}/{recordings}", f"{STORE}/built", **options)
    assert stored("built") == files("built")
    assert here.kept == there.kept == 3  # one is cut short, one names a file outside the folder
    assert there.dropped == here.dropped
    assert there.fingerprint == here.fingerprint


def test_recordings_are_explained_where_they_lie(
    recordings: str, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    model = pretrained_folder(DEFAULT_CLASSIFIER)
    given = [f"source/deep/{name}" for name in ("r0", "r1", "r2", "r3", "r4")]
    explain = partial(explain_in_folder, model, label="AFIB", patch_s=5.0, **QUIET)
    here = explain(given, "why")
    source, place = location(f"{STORE}/source"), f"{STORE}/why"
    assert isinstance(source, RemoteFolder)
    there = explain(source, place)
    # One is cut short, one names a file outside the folder; said without a path of the machine that tried.
    assert there == replace(
        here, unexplained={f"{STORE}/{name}": reason for name, reason in here.unexplained.items()}
    )
    assert list(there.unexplained) == [f"{STORE}/source/deep/r1", f"{STORE}/source/deep/r3"]
    made = [f"{explanation_name(f'{STORE}/source/deep/{name}')}" for name in ("r0", "r2", "r4")]
    assert stored("why").keys() == {f"{name}.{suffix}" for name in made for suffix in ("png", "json")}
    for name, local in zip(made, ("r0", "r2", "r4"), strict=True):
        stem = explanation_name(f"source/deep/{local}")
        assert stored("why")[f"{name}.png"] == Path("why", f"{stem}.png").read_bytes()
        found, expected = (
            json.loads(text)
            for text in (stored("why")[f"{name}.json"], Path("why", f"{stem}.json").read_bytes())
        )
        assert found["path"] == f"{STORE}/source/deep/{local}"
        assert {**found, "path": "", "made_from": ""} == {**expected, "path": "", "made_from": ""}

    memory.pipe_file(f"/store/why/{made[0]}.png", b"half")
    memory.rm_file(f"/store/why/{ACCOUNTS}/{made[1]}.json.json")  # killed between the two
    assert explain(source, place).reused == 1
    with pytest.raises(ConfigurationError, match="another model, label"):
        explain(source, place, start_s=1.0)
    memory.pipe_file("/store/source/deep/r4.dat", b"short")
    again = explain(source, place, overwrite=True)
    assert (again.explained, again.reused, len(again.unexplained)) == (2, 2, 3)
    assert f"{made[2]}.json" not in stored("why")


def test_rows_are_fetched_where_they_are_needed(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch):
    build_dataset("synthetic", None, "built", **SMALL)
    put(memory, "built")
    fetched: list[str] = []
    get = MemoryFileSystem.get

    def noting(self: MemoryFileSystem, paths: list[str], *more: object, **named: object) -> None:
        fetched.extend(paths)
        get(self, paths, *more, **named)

    monkeypatch.setattr(MemoryFileSystem, "get", noting)
    rows = open_divisible(f"{STORE}/built")
    assert rows.rows == 20
    assert not any(path.endswith(".arrow") for path in fetched)
    with rows.piece(7, 14).opened() as some:
        assert some[:]["record_id"] == load_built("built")[7:14]["record_id"]
    assert [path.rpartition("/")[2] for path in fetched if path.endswith(".arrow")] == [
        "data-00001-of-00004.arrow",
        "data-00002-of-00004.arrow",
    ]


def test_an_export_is_streamed_in_the_order_of_a_local_one(memory: MemoryFileSystem):
    build_dataset("synthetic", None, "built", **SMALL)
    put(memory, "built")
    export_parquet("built", "export", rows_per_file=3, **QUIET)
    export_parquet(f"{STORE}/built", f"{STORE}/export", rows_per_file=3, **QUIET)
    assert stored("export") == files("export")

    def order(place: str, rank: int) -> list[str]:
        batches = RowStream.open([place], buffer_size=4, rank=rank, world_size=2).batches(1, 2)
        return [name for _ in range(6) for name in next(batches)["record_id"][:]]

    for rank in (0, 1):
        assert order(f"{STORE}/export", rank) == order("export", rank)
    name = next(name for name in stored("export") if "train-00001" in name)
    memory.pipe_file(f"/store/export/{name}", stored("export")[name][:500])
    with pytest.raises(StorageError, match="differs from its account"):
        RowStream.open([f"{STORE}/export"])
    export_parquet("built", f"{STORE}/export", rows_per_file=3, **QUIET)
    assert stored("export") == files("export")


def test_built_rows_are_trained_on_from_a_mirror(memory: MemoryFileSystem):
    build_dataset("synthetic", None, "built", **SMALL)
    put(memory, "built")
    mixed = load_mixed([f"{STORE}/built"])
    assert mixed.dataset[:]["record_id"] == load_built("built")[:]["record_id"]
    assert mixed.parts[0].path == f"{STORE}/built"


def make(part: Part) -> dict[str, Any]:
    part.write([{"x": [part.number]}], pa.schema({"x": pa.int64()}), {"made": part.number})
    return {"made": part.number}


def parts(key: str = "key") -> list[Part]:
    return [Part(number, (number, number + 1), f"{STORE}/parts", key) for number in range(3)]


def test_parts_that_are_not_whole_are_made_again(memory: MemoryFileSystem):
    folder = f"{STORE}/parts"
    assert make_parts(make, parts(), folder, **QUIET) == ([{"made": 0}, {"made": 1}, {"made": 2}], 0)
    whole = stored("parts")
    memory.rm_file(f"/store/parts/{ACCOUNTS}/part-00000.parquet.json")  # killed between the two
    memory.pipe_file("/store/parts/part-00001.parquet", whole["part-00001.parquet"][:50])
    assert make_parts(make, parts(), folder, **QUIET)[1] == 1
    assert stored("parts") == whole
    assert [pq.read_table(io.BytesIO(data))["x"].to_pylist() for data in whole.values()] == [[0], [1], [2]]


def test_parts_of_something_else_are_refused(memory: MemoryFileSystem):
    folder = f"{STORE}/parts"
    make_parts(make, parts(), folder, **QUIET)
    memory.rm_file(f"/store/parts/{ACCOUNTS}/part-00002.parquet.json")  # copied without its account
    with pytest.raises(ConfigurationError, match="another model"):
        make_parts(make, parts("other"), folder, **QUIET)
    make_parts(make, parts("other"), folder, overwrite=True, **QUIET)
    assert make_parts(make, parts("other"), folder, **QUIET)[1] == 3
