"""Embeddings in parts: the rows of the whole, continued after a kill, in any number of processes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from ecg_hf import EcgJepaConfig, EcgJepaModel
from ecg_hf.data import export_parquet, load_built
from ecg_hf.data.schema import SPLITS
from ecg_hf.engine import Engine
from ecg_hf.errors import ConfigurationError, EcgError
from ecg_hf.evaluation import embed_dataset, embed_in_parts
from ecg_hf.evaluation.features import parts as module


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = EcgJepaConfig.preset("micro")
    folder = tmp_path_factory.mktemp("model")
    EcgJepaModel(config).save_pretrained(folder)
    config.feature_extractor().save_pretrained(folder)
    return folder


def read(folder: Path) -> tuple[list[str], list[str], np.ndarray]:
    table = pq.read_table(folder, columns=["record_id", "split", "embedding"])
    vectors = table["embedding"].to_pylist()
    return table["record_id"].to_pylist(), table["split"].to_pylist(), np.array(vectors, np.float32)


@pytest.mark.parametrize("num_proc", [1, 2])
def test_parts_are_the_whole_in_order(model: Path, built_path: Path, tmp_path: Path, num_proc: int):
    report = embed_in_parts(
        model,
        built_path,
        tmp_path / "out",
        engine=Engine(num_proc=num_proc),
        records_per_part=64,
        progress=False,
    )
    assert (report.records, report.parts, report.reused, report.errors) == (160, 3, 0, {})
    assert [path.name for path in sorted((tmp_path / "out").glob("*.parquet"))] == [
        f"part-0000{n}.parquet" for n in range(3)
    ]
    rows: Dataset = load_built(built_path)
    names, splits, vectors = read(tmp_path / "out")
    assert names == rows["record_id"][:]
    assert splits == rows["split"][:]
    loaded = EcgJepaModel.from_pretrained(model)
    whole = embed_dataset(loaded, loaded.config.feature_extractor(), rows, progress=False)
    np.testing.assert_allclose(vectors, whole, rtol=0, atol=1e-6)


def test_a_run_goes_on_where_it_was_killed(
    model: Path, built_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    write = module.Part.write

    def die_at_the_second(part: module.Part, *rest: object) -> None:
        if part.number == 1:
            raise KeyboardInterrupt
        write(part, *rest)

    monkeypatch.setattr(module.Part, "write", die_at_the_second)
    options = {"records_per_part": 64, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        embed_in_parts(model, built_path, out, **options)
    monkeypatch.undo()
    before = (out / "part-00000.parquet").stat().st_mtime_ns
    assert sorted(os.listdir(out)) == ["part-00000.parquet"]
    assert embed_in_parts(model, built_path, out, **options).reused == 1
    assert (out / "part-00000.parquet").stat().st_mtime_ns == before
    assert len(read(out)[0]) == 160


def test_parts_of_something_else_are_refused_or_replaced(model: Path, built_path: Path, tmp_path: Path):
    out = tmp_path / "out"
    embed_in_parts(model, built_path, out, records_per_part=64, progress=False)
    with pytest.raises(ConfigurationError, match="another model, other records or another division"):
        embed_in_parts(model, built_path, out, records_per_part=100, progress=False)
    report = embed_in_parts(model, built_path, out, records_per_part=100, overwrite=True, progress=False)
    assert (report.parts, report.reused) == (2, 0)
    assert len(list(out.glob("*.parquet"))) == 2


def test_a_record_that_cannot_be_embedded_stops_one_row(
    model: Path, built_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bad = load_built(built_path)["record_id"][7]
    embed = module.embed_dataset

    def refuse(encoder: object, extractor: object, rows: Dataset, **options: object) -> np.ndarray:
        if bad in rows["record_id"][:]:
            raise EcgError("no good")
        return embed(encoder, extractor, rows, **options)

    monkeypatch.setattr(module, "embed_dataset", refuse)
    options = {"records_per_part": 64, "progress": False}
    with pytest.raises(EcgError, match="no good"):
        embed_in_parts(model, built_path, tmp_path / "raise", **options)
    report = embed_in_parts(model, built_path, tmp_path / "skip", on_error="skip", **options)
    assert report.errors == {bad: "EcgError"}
    column = pq.read_table(tmp_path / "skip")["embedding"].to_pylist()
    assert [index for index, vector in enumerate(column) if vector is None] == [7]


def test_an_export_has_the_embeddings_of_its_build(model: Path, built_path: Path, tmp_path: Path):
    export_parquet(built_path, tmp_path / "export", rows_per_file=50, progress=False)
    options = {"records_per_part": 64, "progress": False}
    embed_in_parts(model, built_path, tmp_path / "a", **options)
    report = embed_in_parts(model, tmp_path / "export", tmp_path / "b", **options)
    assert (report.records, report.parts) == (160, 3)
    (names, splits, vectors), (others, their_splits, theirs) = read(tmp_path / "a"), read(tmp_path / "b")
    assert others != names
    assert their_splits == sorted(splits, key=SPLITS.index)
    order = [names.index(name) for name in others]
    np.testing.assert_allclose(theirs, vectors[order], atol=1e-6)
    with pytest.raises(ConfigurationError, match="another model, other records"):
        embed_in_parts(model, tmp_path / "export", tmp_path / "a", **options)
