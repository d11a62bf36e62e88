"""JSON and YAML of strangers: types, bounds, and errors that name the field."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from ecg_hf import documents
from ecg_hf.documents import Count, Share, check, parse_json, parse_yaml, read_json
from ecg_hf.errors import ConfigurationError, DatasetBuildError


class Row(TypedDict):
    name: str
    share: Share | None
    kind: NotRequired[Literal["a", "b"]]


@dataclass
class Account:
    kept: Count
    rows: list[Row] = field(default_factory=list)
    limits: tuple[float, float] = (0.0, 1.0)


def test_a_dataclass_is_built_and_fields_of_later_versions_are_left_out() -> None:
    found = check(
        {"kept": 2, "rows": [{"name": "x", "share": 1, "new": 3}], "limits": [0, 2], "later": 1}, Account
    )
    assert found == Account(2, [{"name": "x", "share": 1, "new": 3}], (0, 2))  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "kept must be a whole number at least 0, got None"),
        ({"kept": -1}, "kept must be a whole number at least 0"),
        ({"kept": True}, "kept must be"),
        ({"kept": 2**63}, "kept must be"),
        ({"kept": 1, "rows": {}}, "rows must be a list"),
        (
            {"kept": 1, "rows": [{"name": "x", "share": 1.5}]},
            r"rows\[0\].share must be a finite number in \[0, 1\]",
        ),
        ({"kept": 1, "rows": [{"name": "x"}]}, r"rows\[0\].share must be"),
        (
            {"kept": 1, "rows": [{"name": "x", "share": None, "kind": "c"}]},
            r"rows\[0\].kind must be 'a' or 'b'",
        ),
        ({"kept": 1, "rows": [{"name": "\ud800", "share": None}]}, r"rows\[0\].name must be text"),
        ({"kept": 1, "limits": [0, float("inf")]}, r"limits\[1\] must be a finite number"),
        ({"kept": 1, "limits": [0]}, "limits must be a list of 2"),
        ([], "the content must be an object"),
    ],
)
def test_what_does_not_fit_is_named(content: Any, message: str) -> None:
    with pytest.raises(DatasetBuildError, match=message) as refused:
        check(content, Account, error=DatasetBuildError, path="x.json")
    assert refused.value.path == "x.json"


@pytest.mark.parametrize(
    "text", ["{", "[" * 100_000, "1" * 5000, '{"a": 1, "a": 2}', '"\\ud800"', "1e999", b"\xff\xfe\xff"]
)
def test_text_that_is_no_json(text: str | bytes) -> None:
    with pytest.raises(ConfigurationError):
        parse_json(text, path="x.json")


def test_numbers_json_has_no_words_for_are_unknown() -> None:
    assert parse_json('{"a": NaN}') == {"a": None}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2000, "a: &x [1]\nb: *x", "a: 1\na: 2", "2026-13-45", "1" * 5000, "a: 2026-01-01", "!!set {a}",
        "{1: 2}", "!!python/name:os.system", "? [a]\n: b", "\x00",
    ],
)  # fmt: skip
def test_text_that_is_no_plain_yaml(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_yaml(text, path="x.yaml")


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, text, large = tmp_path / "pipe", tmp_path / "text", tmp_path / "large"
    os.mkfifo(pipe)
    text.write_bytes(b"\xff")
    large.write_text("[1, 2, 3]")
    for path, message in ((pipe, "no such file"), (tmp_path, "no such file"), (text, "UTF-8")):
        with pytest.raises(ConfigurationError, match=message):
            read_json(path)
    monkeypatch.setattr(documents, "MAX_BYTES", 4)
    with pytest.raises(ConfigurationError, match="larger than"):
        read_json(large)
