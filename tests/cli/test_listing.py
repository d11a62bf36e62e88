"""``ecg-hf list``: arrays of objects with a name, readable tables otherwise."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ecg_hf.data import list_sources
from ecg_hf.evaluation import BENCHMARKS
from ecg_hf.hub.fetching import list_all_pretrained
from ecg_hf.models.registry import METHODS
from tests.cli.conftest import Cli

NAMES = {
    "models": list(METHODS),
    "datasets": [source.name for source in list_sources()],
    "benchmarks": list(BENCHMARKS),
    "pretrained": [row["name"] for row in list_all_pretrained()],
}


@pytest.mark.parametrize("kind", NAMES)
def test_json_is_an_array_of_objects_with_a_name(kind: str, cli: Cli) -> None:
    outcome = cli("list", kind, "--json")
    assert outcome.returncode == 0
    assert [row["name"] for row in json.loads(outcome.stdout)] == NAMES[kind]


@pytest.mark.parametrize("kind", NAMES)
def test_table_has_a_line_for_each(kind: str, cli: Cli) -> None:
    lines = cli("list", kind).stdout.splitlines()
    assert lines[0].split()[0] == "name"
    assert [line.split()[0] for line in lines[1:]] == NAMES[kind]


def test_shipped_models_are_listed_with_where_they_are_and_what_of(cli: Cli) -> None:
    rows = [row for row in json.loads(cli("list", "pretrained", "--json").stdout) if row["origin"] == "ships"]
    assert {"ecg-distil-ptbxl", "ecg-beat-ptbxl", "ecg-distil-ptbxl-statements"} <= {
        row["name"] for row in rows
    }
    for row in rows:
        assert list(row) == [
            *(
                "name",
                "method",
                "task",
                "path",
                "size_bytes",
                "sha256",
                "licence",
                "supervision",
                "trained_on",
                "origin",
            )
        ]
        assert row["method"] in METHODS
        assert Path(row["path"], "model.safetensors").is_file()
        assert re.fullmatch("[0-9a-f]{64}", row["sha256"])
        assert "PTB-XL" in row["trained_on"]


def test_listing_needs_no_torch(process: Cli) -> None:
    """The command answers at once: nothing heavy is imported for a list."""
    outcome = process("list", "models", "--json")
    assert outcome.returncode == 0
    assert {"multimodal", "sizes", "status"} <= set(json.loads(outcome.stdout)[0])


def test_version(cli: Cli) -> None:
    import ecg_hf

    assert cli("--version").stdout == f"ecg-hf {ecg_hf.__version__}\n"
