"""Folders of one's own recordings: the source, and loading without building."""

from __future__ import annotations

import shutil
from pathlib import Path

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
