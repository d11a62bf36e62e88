"""``ecg-hf data``: what it builds, others can load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import RECORDS, Cli

_LOAD = """
import sys
import ecg_hf
from datasets import load_from_disk
rows = load_from_disk(sys.argv[1])
first = rows[0]["ecg"]
print(len(rows), type(rows.features["ecg"]).__name__, *first["signal"].shape, first["signal"].dtype)
"""


def test_built_folder_loads_with_the_package_only_imported(dataset: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _LOAD, str(dataset)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(RECORDS), "Ecg", "12", "1000", "float32"]


def test_account_is_in_the_folder(dataset: Path) -> None:
    report = json.loads((dataset / "build_report.json").read_text())
    assert report["source"] == "synthetic"
    assert report["kept"] == report["seen"] == RECORDS
    assert report["dropped"] == {}
    assert report["options"]["records"] == RECORDS


def test_same_build_again_changes_nothing(dataset: Path, cli: Cli) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in dataset.iterdir()}
    outcome = cli("data", "build", "synthetic", "--output", dataset, "-o", f"records={RECORDS}", "--json")
    assert outcome.returncode == 0
    assert json.loads(outcome.stdout)["kept"] == RECORDS
    assert {file.name: file.stat().st_mtime_ns for file in dataset.iterdir()} == before


def test_records_of_a_folder(record: Path, cli: Cli, tmp_path: Path) -> None:
    folds = ("-o", "train_folds=1-10", "-o", "validation_folds=", "-o", "test_folds=")
    where = ("--data-dir", record.parent, "--output", tmp_path / "built")
    outcome = cli("data", "build", "wfdb_folder", *where, *folds, "--num-proc", "2", "--json")
    assert outcome.returncode == 0, outcome.stderr
    assert json.loads(outcome.stdout)["kept"] == 1


def test_check_says_what_was_built(dataset: Path, cli: Cli) -> None:
    outcome = cli("data", "check", dataset, "--json")
    assert outcome.returncode == 0
    answer = json.loads(outcome.stdout)
    assert answer["records"] == RECORDS
    assert answer["patient_leak"]["patients"] == 0
    readable = cli("data", "check", dataset)
    assert f"kept {RECORDS} of {RECORDS}" in readable.stdout


def test_parts_are_built_and_merged(dataset: Path, cli: Cli, tmp_path: Path) -> None:
    for shard in ("1/2", "2/2"):
        options = ("--shard", shard, "--output", tmp_path / shard[0], "-o", f"records={RECORDS}")
        outcome = cli("data", "build", "synthetic", *options)
        assert outcome.returncode == 0, outcome.stderr
        assert f"synthetic, part {shard}: kept" in outcome.stdout
    merge = ("data", "merge", tmp_path / "1", tmp_path / "2", "--output", tmp_path / "merged", "--json")
    outcome = cli(*merge)
    assert json.loads(outcome.stdout)["kept"] == RECORDS
    # All records lie in one file, and the second part has it.
    assert "ask for fewer parts" in cli("data", "build", "synthetic", "--shard", "1/2", "--output", tmp_path / "1",
                                        "-o", f"records={RECORDS}").stdout  # fmt: skip
    again = cli(*merge[:-1])
    assert "already exists" in again.stdout
    assert "records/s" not in again.stdout
    other = cli("data", "build", "synthetic", "--output", tmp_path / "merged", "-o", "records=3")
    assert other.returncode == 2
    assert "--overwrite" in other.stderr
    small = ("--shard", "1/2", "--records-per-shard", "2", "--output", tmp_path / "small", "-o", "records=4")
    assert "kept 2 of 2" in cli("data", "build", "synthetic", *small).stdout
    for name in ("dataset_info.json", "state.json", "data-00000-of-00001.arrow"):
        assert (tmp_path / "merged" / name).read_bytes() == (dataset / name).read_bytes()
