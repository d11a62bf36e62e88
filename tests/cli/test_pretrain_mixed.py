"""``ecg-hf pretrain`` with several datasets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ecg_hf.data import build_dataset
from tests.cli.conftest import RECORDS, Cli


@pytest.mark.slow
def test_datasets_given_one_after_the_other_are_mixed(dataset: Path, cli: Cli, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    options = {"records": RECORDS, "seed": 7, "sampling_rate": 250, "progress": False}
    build_dataset("synthetic", None, tmp_path / "other", **options)
    command = (
        "pretrain",
        "--model",
        "ecg-cpc",
        "--output",
        tmp_path / "run",
        "--max-steps",
        "2",
        "--use-cpu",
    )
    outcome = cli(*command, "--dataset", dataset, "--dataset", tmp_path / "other", "--json")
    assert outcome.returncode == 0, outcome.stderr
    account = json.loads(outcome.stdout)
    assert [part["path"] for part in account["datasets"]] == [str(dataset), str(tmp_path / "other")]
    assert account["records"]["train"] == sum(part["train"] for part in account["datasets"]) > RECORDS
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings["dataset"]["fingerprint"] == [part["fingerprint"] for part in account["datasets"]]


def test_one_dataset_twice_is_a_mistake(dataset: Path, cli: Cli, tmp_path: Path) -> None:
    where = ("--dataset", dataset, "--dataset", dataset, "--output", tmp_path / "run")
    outcome = cli("pretrain", "--model", "ecg-cpc", *where)
    assert outcome.returncode == 2
    assert "the same build" in outcome.stderr
    assert not (tmp_path / "run").exists()
