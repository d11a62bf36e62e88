"""PTB-XL label groups against the official table and the published totals."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.data.labels import LABEL_TASKS, label_matrix, label_names, scp_statements, unknown_codes
from ecg_hf.data.sources.ptbxl import parse_scp_codes
from ecg_hf.errors import ConfigurationError


def test_sizes_of_the_groups():
    assert {task: len(label_names(task)) for task in LABEL_TASKS} == {
        "super": 5,
        "sub": 23,
        "form": 19,
        "rhythm": 12,
        "diag": 44,
        "all": 71,
    }


def test_names_keep_the_official_spelling_and_order():
    assert label_names("super") == ("NORM", "MI", "STTC", "CD", "HYP")
    assert {"_AVB", "ISC_", "NST_", "LAFB/LPFB", "LAO/LAE"} <= set(label_names("sub"))
    assert label_names("rhythm")[0] == "SR"
    assert list(label_names("all")) == list(scp_statements())


def test_codes_count_by_equality_and_once():
    matrix, labelled = label_matrix([["IMI", "ASMI", "SR"], ["SR"], [], ["1AVB", "AF", "_AVB"]], "super")
    assert matrix.dtype == np.int8
    assert matrix.tolist() == [[0, 1, 0, 0, 0], [0] * 5, [0] * 5, [0, 0, 0, 1, 0]]
    assert labelled.tolist() == [True, False, False, True]


def test_no_recordings():
    matrix, labelled = label_matrix([], "form")
    assert matrix.shape == (0, 19)
    assert labelled.shape == (0,)


def test_unknown_codes_are_counted():
    assert unknown_codes([["NORM", "XYZ"], ["XYZ"], ["AF"]]) == {"AF": 1, "XYZ": 2}


def test_unknown_task():
    with pytest.raises(ConfigurationError, match="rhythm"):
        label_names("superclass")


@pytest.mark.fixtures
def test_totals_of_the_published_dataset(ptbxl_labels: list[dict[str, str]]):
    codes = [parse_scp_codes(row["scp_codes"]) or () for row in ptbxl_labels]
    matrix, labelled = label_matrix(codes, "super")
    totals = dict(zip(label_names("super"), matrix.sum(axis=0).tolist(), strict=True))
    assert totals == {"NORM": 9514, "MI": 5469, "STTC": 5235, "CD": 4898, "HYP": 2649}
    assert len(codes) == 21_799
    # Rows of the published label files (train + validation + test).
    assert labelled.sum() == 17_084 + 2_146 + 2_158
    assert label_matrix(codes, "form")[1].sum() == 7_197 + 901 + 880
    assert label_matrix(codes, "rhythm")[1].sum() == 16_832 + 2_100 + 2_098
    assert unknown_codes(codes) == {}


@pytest.mark.fixtures
@pytest.mark.parametrize(
    ("task", "file"), [("super", "super_class"), ("sub", "sub_class"), ("form", "form"), ("rhythm", "rhythm")]
)
def test_labels_equal_the_published_files(
    ptbxl_labels: list[dict[str, str]], merl_tables: Path, task: str, file: str
):
    codes = {int(row["ecg_id"]): parse_scp_codes(row["scp_codes"]) or () for row in ptbxl_labels}
    path = merl_tables / "data_split" / "ptbxl" / file / f"ptbxl_{file}_test.csv"
    with path.open(encoding="utf-8") as table:
        published = list(csv.DictReader(table))
    matrix, labelled = label_matrix([codes[int(row["ecg_id"])] for row in published], task)
    assert labelled.all()
    for column, name in enumerate(label_names(task)):
        # The published files write AVB, ISC, NST, STD ... without the underscore.
        expected = [int(float(row[name.strip("_")])) for row in published]
        assert matrix[:, column].tolist() == expected, name


@pytest.mark.realdata
def test_packaged_statements_equal_the_official_table(recordings: Path):
    with (recordings / "ptbxl" / "scp_statements.csv").open(encoding="utf-8") as file:
        official = {row[""]: row for row in csv.DictReader(file)}
    packaged = scp_statements()
    assert list(packaged) == list(official)
    for code, row in official.items():
        statement = packaged[code]
        assert statement.superclass == row["diagnostic_class"]
        assert statement.subclass == row["diagnostic_subclass"]
        assert (statement.diagnostic, statement.form, statement.rhythm) == tuple(
            row[group] == "1.0" for group in ("diagnostic", "form", "rhythm")
        )
