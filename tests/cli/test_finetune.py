"""``ecg-hf finetune``: the folder it leaves, runs that are killed, labels by benchmark, wrong inputs in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from huggingface_hub import ModelCard
from transformers import pipeline

from ecg_hf.data import build_dataset, load_built
from ecg_hf.hub.card_context import CardContext
from tests.cli.conftest import Cli

OPTIONS = (*("--per-device-train-batch-size", "8"), *("--learning-rate", "1e-3"), "--use-cpu", "true")


def saved(dataset: Path, folder: Path, **columns: list[Any]) -> Path:
    """The dataset with more columns, saved again."""
    rows = load_built(dataset)
    for name, values in columns.items():
        rows = rows.add_column(name, values)
    rows.save_to_disk(str(folder))
    return folder


@pytest.fixture(scope="module")
def labelled(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    n = len(load_built(dataset))
    values = [None if row % 9 == 0 else ("sick|<b>", "well")[row % 2] for row in range(n)]
    return saved(dataset, tmp_path_factory.mktemp("labelled") / "data", outcome=values)


@pytest.fixture(scope="module")
def classifier(labelled: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier after six epochs, uninterrupted."""
    folder = tmp_path_factory.mktemp("classifier") / "model"
    command = finetune_command(pretrained, labelled, folder, "outcome", *RESUMABLE)
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"classifier of 2 labels in {folder}")
    assert "records left out: without a label (null)" in done.stderr
    assert "validation loss" in done.stderr
    return folder


RESUMABLE = (
    *OPTIONS,
    "--num-train-epochs",
    "6",
    "--classifier-dropout",
    "0.2",
    "--class-weights",
    "balanced",
)


def finetune_command(model: Path, dataset: Path, output: Path, labels: str, *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "ecg_hf.cli", "finetune", "--model", str(model), "--dataset", str(dataset)),
        *("--output", str(output), "--labels", labels, *options),
    ]


def test_folder_is_a_model_with_card_and_metrics(classifier: Path, labelled: Path) -> None:
    metrics = json.loads((classifier / "metrics.json").read_text())
    assert metrics["labels"] == ["sick|<b>", "well"]
    assert metrics["one_label"] is True
    assert sum(metrics["left_out"].values()) == sum(row["outcome"] is None for row in plain(labelled))
    for split in ("validation", "test"):
        figures = metrics[split]
        assert figures["n"] == metrics["records"][split]
        assert sum(row["positives"] for row in figures["classes"]) == figures["n"]
        for row in figures["classes"]:
            assert row["n"] == figures["n"]
            assert row["auroc"] is None or row["ci95"][0] <= row["auroc"] <= row["ci95"][1]
    config = json.loads((classifier / "config.json").read_text())
    assert config["classifier_dropout"] == 0.2
    for row in metrics["test"]["classes"]:
        details = config["label_details"][row["label"]]
        assert details["threshold"] == row["threshold"]
        assert row["auroc"] is None or details["reference_auroc"] == pytest.approx(row["auroc"], abs=1e-4)
    card = (classifier / "README.md").read_text()
    assert "| sick\\|&lt;b> |" in card
    assert "ecg-classification" in card
    ModelCard(card).data.to_yaml()
    context = CardContext.load(classifier)
    assert context is not None
    assert context.classifier == metrics


def plain(folder: Path) -> Dataset:
    rows: Dataset = Dataset.load_from_disk(str(folder))
    return rows.select_columns(["outcome", "split", "record_id"])


def test_pipeline_says_what_the_run_scored(classifier: Path, labelled: Path) -> None:
    rows = Dataset.load_from_disk(str(labelled))
    test = [
        i for i, row in enumerate(plain(labelled)) if row["split"] == "test" and row["outcome"] is not None
    ]
    answers = pipeline("ecg-classification", model=str(classifier), device="cpu")(
        [{key: rows[i]["ecg"][key] for key in ("signal", "sampling_rate", "lead_names")} for i in test]
    )
    right = sum(answer[0]["label"] == rows[i]["outcome"] for answer, i in zip(answers, test, strict=True))
    metrics = json.loads((classifier / "metrics.json").read_text())
    assert right / len(test) == pytest.approx(metrics["test"]["accuracy"])
    assert {entry["label"] for entry in answers[0]} == set(metrics["labels"])
    row = next(row for row in metrics["test"]["classes"] if row["label"] == "well")
    scores = np.array([next(e["score"] for e in answer if e["label"] == "well") for answer in answers])
    truth = np.array([rows[i]["outcome"] == "well" for i in test])
    said = scores >= row["threshold"]
    assert row["sensitivity"] == pytest.approx(float(said[truth].mean()))


@pytest.mark.slow
def test_killed_run_goes_on_and_ends_as_the_uninterrupted_one(
    classifier: Path, labelled: Path, pretrained: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model"
    command = finetune_command(pretrained, labelled, output, "outcome", *RESUMABLE)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 150
        while time.monotonic() < until and process.poll() is None:
            if any((folder / "trainer_state.json").is_file() for folder in output.glob("checkpoint-*")):
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.02)
        assert process.wait() == -signal.SIGKILL
    refused = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr.splitlines()[-1]
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "metrics.json", "config.json"):
        assert (output / name).read_bytes() == (classifier / name).read_bytes(), name


def test_benchmark_by_its_name_takes_its_folds(
    cli: Cli, dataset: Path, pretrained: Path, tmp_path: Path
) -> None:
    base = ("finetune", "--model", pretrained, "--dataset", dataset, "--labels", "ptbxl-rhythm", *OPTIONS)
    outcome = cli(
        *base, "--output", tmp_path / "a", "--num-train-epochs", "1", "--train-folds", "1-7",
        "--validation-folds", "8,9", "--json",
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    metrics = json.loads(outcome.stdout)
    assert "ptbxl-rhythm is defined on ptbxl; these records are from synthetic" in outcome.stderr
    rows = load_built(dataset)
    folds = np.asarray(rows["fold"][:])
    assert metrics["records"]["train"] <= int(((folds >= 1) & (folds <= 7)).sum())
    assert metrics["records"]["validation"] <= int(np.isin(folds, [8, 9]).sum())
    assert (metrics["records"]["test"] == 0) == (metrics["test"] is None)
    assert len(metrics["labels"]) == 12
    assert metrics["one_label"] is False


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "labels": (("--labels", "nothing"), "no column and no benchmark 'nothing'"),
    "kind of benchmark": (("--labels", "ludb-delineation"), "no labels to classify by"),
    "text column": (("--labels", "report"), "report"),
    "fraction": (("--labels", "outcome", "--fraction", "2"), "fraction must be in (0, 1]"),
    "folds": (("--labels", "outcome", "--train-folds", "a"), "folds must look like"),
    "weights": (("--labels", "outcome", "--class-weights", "heavy"), "heavy"),
    "option": (("--labels", "outcome", "--learning-rat", "1"), "no such option: --learning-rat"),
    "value": (("--labels", "outcome", "--num-train-epochs", "many"), "many"),
    "dataset": (("--labels", "outcome", "--dataset", "nowhere"), "no such dataset folder"),
    "model": (("--labels", "outcome", "--model", "."), "no config.json"),
    "optimiser": (("--labels", "outcome", "--optim", "none_such"), "none_such"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_inputs_are_one_line(
    name: str, cli: Cli, labelled: Path, pretrained: Path, tmp_path: Path
) -> None:
    given, said = WRONG[name]
    options = {"--model": str(pretrained), "--dataset": str(labelled), "--output": str(tmp_path / "a")}
    options |= dict(zip(given[::2], given[1::2], strict=True))
    outcome = cli("finetune", *(word for pair in options.items() for word in pair))
    assert outcome.returncode == 2
    errors = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert said in errors[0]
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
@pytest.mark.realdata
def test_real_recordings(cli: Cli, real_data: Path, pretrained: Path, tmp_path: Path) -> None:
    build_dataset("ptbxl", real_data / "ptbxl", tmp_path / "built", progress=False)
    outcome = cli(
        "finetune", "--model", pretrained, "--dataset", tmp_path / "built", "--labels", "ptbxl-super",
        "--output", tmp_path / "out", "--num-train-epochs", "1", *OPTIONS, "--json",
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    metrics = json.loads(outcome.stdout)
    assert metrics["labels"] == ["NORM", "MI", "STTC", "CD", "HYP"]
    assert "| MI | myocardial infarction | " in (tmp_path / "out" / "README.md").read_text()
    folds = np.asarray(load_built(tmp_path / "built")["fold"][:])
    assert metrics["records"]["train"] + metrics["records"]["validation"] <= int((folds <= 9).sum())
