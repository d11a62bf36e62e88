"""Folders of one's own recordings: the source, and loading without building."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from ecg_hf import read_record
from ecg_hf.data import load_ecg_folder
from ecg_hf.data.sources import create_source
from ecg_hf.errors import DatasetBuildError, EcgError
from tests.signal.io.clinical import RECORDINGS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(RECORDINGS / "ge_muse" / "muse7_250hz.xml", tmp_path / "a.xml")
    (tmp_path / "sub").mkdir()
    shutil.copy(RECORDINGS / "apple_health" / "ecg_en.csv", tmp_path / "sub" / "b.csv")
    return tmp_path


def test_every_file_is_a_recording_without_a_table(folder: Path):
    rows = load_ecg_folder(folder)
    assert rows["record_id"][:] == ["a.xml", "sub/b.csv"]
    assert rows[0]["labels"] == []
    assert np.array_equal(rows[0]["ecg"]["signal"], read_record(folder / "a.xml").signal)
    assert rows[1]["ecg"]["sampling_rate"] == 512.0


def test_the_table_decides(folder: Path):
    (folder / "labels.csv").write_text("id,label,patient,split,other\nsub/b,AFIB; PVC,p1,val,x\na.xml,,,,\n")
    rows = load_ecg_folder(folder)
    assert rows["record_id"][:] == ["sub/b", "a.xml"]
    assert rows[0]["labels"] == ["AFIB", "PVC"]
    assert (rows[0]["patient_id"], rows[0]["split"]) == ("p1", "validation")
    assert (rows[1]["patient_id"], rows[1]["labels"]) == (None, [])
    (folder / "labels.csv").rename(folder / "mine.csv")
    assert load_ecg_folder(folder, labels="mine.csv")["record_id"][:] == ["sub/b", "a.xml"]


@pytest.mark.parametrize(
    "table",
    ["name\na\n", "id\n\n,\n", "id,split\na,later\n", "id\na\na\n", "id\ngone\n", "id,label\n,x\n"],
)
def test_wrong_tables_are_refused(folder: Path, table: str):
    (folder / "labels.csv").write_text(table)
    with pytest.raises(EcgError):
        load_ecg_folder(folder)


def test_what_is_missing_is_named(folder: Path, tmp_path: Path):
    with pytest.raises(DatasetBuildError, match="labels"):
        load_ecg_folder(folder, labels="gone.csv")
    (folder / "bad.xml").write_text("<a/>")
    with pytest.raises(EcgError, match=r"bad\.xml"):
        load_ecg_folder(folder)
    plan = create_source("folder", folder, {}).plan()
    assert [entry.record_id for entry in plan.entries] == ["a.xml", "bad.xml", "sub/b.csv"]


def load(folder: Path, tmp_path_factory: pytest.TempPathFactory, **options: Any) -> Any:
    cache = tmp_path_factory.getbasetemp() / "datasets_cache"
    return datasets.load_dataset("ecgfolder", data_dir=str(folder), cache_dir=str(cache), **options)


def test_load_dataset_knows_ecgfolder(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    (folder / "labels.csv").write_text("id,label,split\nsub/b,AFIB; PVC,test\na.xml,,train\n")
    expected = load_ecg_folder(folder)
    splits = load(folder, tmp_path_factory)
    assert list(splits) == ["train", "test"]
    assert splits["train"].features == expected.features
    for row in expected:
        (found,) = splits[row["split"]]
        assert np.array_equal(found["ecg"].pop("signal"), row["ecg"].pop("signal"))
        found, row = ({**one, "age": str(one["age"])} for one in (found, row))  # nan is unequal to itself
        assert found == row
    (row,) = load(folder, tmp_path_factory, split="test", streaming=True)
    assert row["ecg"]["sampling_rate"] == 512.0


def test_ecgfolder_sees_that_the_folder_changed(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    (folder / "mine.csv").write_text("id,split\na,train\n")
    first = load(folder, tmp_path_factory, labels="mine.csv")
    assert {name: part["record_id"][:] for name, part in first.items()} == {"train": ["a"]}
    cached = load(folder, tmp_path_factory, labels="mine.csv")
    assert cached["train"].cache_files == first["train"].cache_files
    (folder / "mine.csv").write_text("id,split\na,train\nsub/b,train\n")
    assert load(folder, tmp_path_factory, labels="mine.csv")["train"].num_rows == 2
    # A name that speaks of a split must not hide the other files.
    shutil.copy(folder / "a.xml", folder / "test.xml")
    (folder / "mine.csv").write_text("id,split\na,train\nsub/b,train\ntest,test\n")
    assert load(folder, tmp_path_factory, labels="mine.csv").num_rows == {"train": 2, "test": 1}


def test_ecgfolder_names_what_is_wrong(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    with pytest.raises(DatasetBuildError, match=r"gone\.csv"):
        load(folder, tmp_path_factory, labels="gone.csv")
    (folder / "bad.xml").write_text("<a/>")
    with pytest.raises(datasets.exceptions.DatasetGenerationError) as caught:
        load(folder, tmp_path_factory)
    assert isinstance(caught.value.__cause__, EcgError)
    assert "bad.xml" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "order", ["import ecg_hf, datasets", "import datasets, ecg_hf", "import ecg_hf.data"]
)
def test_ecgfolder_is_known_whatever_is_imported_first(order: str):
    code = f"{order}; from datasets.load import _PACKAGED_DATASETS_MODULES as known; print(known['ecgfolder'][0])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert result.stdout.strip() == "ecg_hf.data.ecgfolder", result.stderr
