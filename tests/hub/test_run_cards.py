"""Cards of training runs: written when training ends, and again by ``ecg-hf card`` with what is new."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from ecg_hf.data import build_dataset
from ecg_hf.errors import ModelFolderError
from ecg_hf.hub import ModelCardCallback, push_model
from ecg_hf.hub.training_facts import run_facts
from ecg_hf.training.run import pretrain
from tests.cli.conftest import Cli
from tests.cli.test_errors import assert_one_line
from tests.hub.loopback_hub import validate_card
from tests.hub.test_card import RESULTS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of two steps, its card written by the callback."""
    base = tmp_path_factory.mktemp("run")
    build_dataset("synthetic", None, base / "data", progress=False, records=30)
    pretrain(
        "ecg-cpc",
        base / "data",
        base / "tiny-cpc",
        max_steps=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        callbacks=[ModelCardCallback([base / "data"])],
        report_to="none",
    )
    return base / "tiny-cpc"


def section(card: ModelCard, title: str) -> str:
    return str(card.text.partition(f"## {title}\n")[2].partition("\n## ")[0])


def test_training_ends_with_a_card(run: Path) -> None:
    card = ModelCard.load(run / "README.md")
    assert card.data.model_name == "tiny-cpc"
    assert "synthetic-data" in card.data.tags
    assert validate_card(card.content)["errors"] == []
    training = section(card, "Training")
    rows = json.loads((run / "pretrain_report.json").read_text())["records"]
    for line in (
        f"- records: {rows['train']} for train, {rows['validation']} for validation",
        "- optimiser steps: 2",
        "- records per step: 8 (1 x 2 x 4)",
        "- seed: 42",
        "- device: 1 x ",
        "- emissions: not measured",
    ):
        assert line in training
    assert "`synthetic`: Simulated 12-lead ECGs" in section(card, "Data")
    # Where the data lay on this machine is nobody's business.
    assert str(run.parent) not in card.content


def test_card_command_adds_results_and_keeps_the_rest(run: Path, cli: Cli, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps(RESULTS))
    outcome = cli("card", run, "--results", results, "--json")
    assert outcome.returncode == 0, outcome.stderr
    said = json.loads(outcome.stdout)
    assert said["card"] == str(run / "README.md")
    card = ModelCard.load(run / "README.md")
    assert len(card.data.eval_results) == 3
    assert "0.7513" in json.dumps(said["metadata"])
    assert "- optimiser steps: 2" in section(card, "Training")
    assert "- loss on validation records: " in section(card, "Training")
    assert "0.751 [0.700, 0.800]" in section(card, "Results")

    # Again without results: they stay. With another title and licence: only these change.
    outcome = cli("card", run, "--name", "CPC, two steps", "--data-licence", "CC0 1.0")
    assert outcome.returncode == 0, outcome.stderr
    again = ModelCard.load(run / "README.md")
    assert again.data.model_name == "CPC, two steps"
    assert "Training data: CC0 1.0" in again.text
    assert len(again.data.eval_results) == 3
    assert section(again, "Results") == section(card, "Results")
    # What was said by hand stays until there is another run.
    assert cli("card", run).returncode == 0
    assert "Training data: CC0 1.0" in ModelCard.load(run / "README.md").text
    (run / "pretrain_report.json").touch()
    assert cli("card", run).returncode == 0
    assert "Training data: none needed" in ModelCard.load(run / "README.md").text


def test_emissions_file_of_codecarbon_counts(run: Path) -> None:
    file = run / "emissions.csv"
    file.write_text("run_id,emissions\na,0.001\nb,0.0005\n")
    try:
        facts = run_facts(run)
        assert facts is not None
        assert facts.emissions_g == pytest.approx(1.5)
        assert facts.training["emissions"] == "1.5 g CO2 equivalent (codecarbon)"
    finally:
        file.unlink()


def test_time_of_a_resumed_run_says_what_it_leaves_out(run: Path) -> None:
    file = run / "pretrain_report.json"
    text = file.read_text()
    try:
        file.write_text(json.dumps({**json.loads(text), "resumed_from": 1, "seconds": 7200}))
        facts = run_facts(run)
        assert facts is not None
        assert facts.training["time"] == "2.0 hours since step 1; what came before was not counted"
        file.write_text("{")
        with pytest.raises(ModelFolderError, match="can't be read"):
            run_facts(run)
    finally:
        file.write_text(text)


def test_only_the_model_would_be_pushed(run: Path) -> None:
    report = push_model(run, "org/x", dry_run=True)
    assert set(report.files) == {
        *("README.md", "config.json", "ecg_hf_shim.py", "model.safetensors", "preprocessor_config.json")
    }
    assert {"run.json", "training_log.jsonl", "card.json"} <= {file.name for file in run.iterdir()}


def test_folders_that_are_no_models(run: Path, cli: Cli, tmp_path: Path) -> None:
    def copy(name: str, *without: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in run.iterdir():
            if file.is_file() and file.name not in without:
                (folder / file.name).write_bytes(file.read_bytes())
        return folder

    whole = copy("whole")
    no_weights = copy("no_weights", "model.safetensors")
    (no_weights / "pytorch_model.bin").write_bytes(b"\x80\x04")
    assert_one_line(cli("push", no_weights, "org/x", "--dry-run"), "model.safetensors")
    assert_one_line(
        cli("push", copy("plain", "preprocessor_config.json"), "org/x", "--dry-run"), "preprocessor"
    )
    cut = whole / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:3000])
    assert_one_line(cli("push", whole, "org/x", "--dry-run"), str(whole))
    wrong = copy("wrong")
    config = json.loads((wrong / "config.json").read_text())
    (wrong / "config.json").write_text(json.dumps({**config, "hidden_size": config["hidden_size"] * 2}))
    assert_one_line(cli("push", wrong, "org/x", "--dry-run"), str(wrong))
    (wrong / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    assert_one_line(cli("push", wrong, "org/x", "--dry-run"), "architectures")
    assert_one_line(cli("card", tmp_path / "absent"), "absent", "no model folder")
    assert_one_line(cli("card", run, "--results", tmp_path / "absent.json"), "absent.json")
    (run / "card.json").write_text("[]")
    assert_one_line(cli("card", run), "card.json")
