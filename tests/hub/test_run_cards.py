"""Cards of training runs: written when training ends, and again by ``ecg-hf card`` with what is new."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from ecg_hf.data import build_dataset
from ecg_hf.errors import ModelFolderError
from ecg_hf.files import sole_writer
from ecg_hf.hub import ModelCardCallback, card_context_of, push_model
from ecg_hf.hub.eval_results import EVAL_RESULTS_FILE
from ecg_hf.hub.training_facts import run_facts
from ecg_hf.training.run import pretrain
from tests.cli.conftest import Cli
from tests.cli.test_errors import assert_one_line
from tests.hub.conftest import Client
from tests.hub.loopback_hub import OWNER, LoopbackHub, validate_card
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
        exact_accumulation=False,
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
        with pytest.raises(ModelFolderError, match="not a JSON file"):
            run_facts(run)
    finally:
        file.write_text(text)


def test_only_the_model_would_be_pushed(run: Path) -> None:
    report = push_model(run, "org/x", dry_run=True)
    # Results are there once another test has put some into the card.
    assert set(report.files) - {EVAL_RESULTS_FILE} == {
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
    assert_one_line(cli("card", tmp_path / "absent"), "absent", "not a model folder")
    assert_one_line(cli("card", run, "--results", tmp_path / "absent.json"), "absent.json")
    unreadable = copy("unreadable")
    (unreadable / "card.json").write_text("[]")
    assert_one_line(cli("card", unreadable), "card.json")


def test_a_trainer_shares_the_same_files_as_the_command(
    hub: LoopbackHub, tmp_path: Path, client: Client
) -> None:
    """The library would send the whole output folder: cards' sources, arguments with paths of this machine, logs."""
    build_dataset("synthetic", None, tmp_path / "data", progress=False, records=30)
    client(
        "ecg_hf.cli", "pretrain", "--model", "ecg-cpc", "--dataset", tmp_path / "data", "--output", tmp_path / "run",
        "--max-steps", 2, "--save-steps", 1, "--use-cpu", "--push-to-hub", "--hub-model-id", "org/by-the-trainer",
        home=tmp_path / "home", token=OWNER,
    )  # fmt: skip
    repo = next(one for (_, name), one in hub.repos.items() if name == "org/by-the-trainer")
    assert set(repo.commits[repo.branches["main"]]) - {".gitattributes"} == {
        "README.md", "config.json", "ecg_hf_shim.py", "model.safetensors", "preprocessor_config.json",
    }  # fmt: skip
    assert "path/to/this/folder" not in (tmp_path / "run" / "README.md").read_text()


def test_a_recipe_makes_nothing_public(hub: LoopbackHub, tmp_path: Path, cli: Cli) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("method: ecg-jepa\ntraining: {push_to_hub: true, hub_model_id: org/unasked}\n")
    outcome = cli(
        "pretrain",
        "--model",
        "ecg-jepa",
        "--recipe",
        recipe,
        "--dataset",
        tmp_path,
        "--output",
        tmp_path / "o",
    )
    assert_one_line(outcome, "training.push_to_hub", "command line")
    assert not any(name == "org/unasked" for _, name in hub.repos)


@pytest.mark.parametrize("name", ["README.md", "tokenizer.json", "model.safetensors"])
def test_links_that_leave_the_folder_are_not_shared(run: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "model", ignore=shutil.ignore_patterns("checkpoint-*")))
    secret = tmp_path / "secret"
    secret.write_bytes((folder / name).read_bytes() if (folder / name).is_file() else b"secret")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)
    with pytest.raises(ModelFolderError, match="link that leaves"):
        push_model(folder, "org/x", dry_run=True)


def test_links_laid_in_a_folder_are_not_written_through(run: Path, tmp_path: Path, cli: Cli) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "model", ignore=shutil.ignore_patterns("checkpoint-*")))
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("README.md", "card.json"):
        for laid in (name, f"{name}.partial", f"{name}.tmp"):
            (folder / laid).unlink(missing_ok=True)
            (folder / laid).symlink_to(victim)
    (folder / "card.json").unlink()
    (folder / "README.md").unlink()
    assert cli("card", folder).returncode == 0
    assert victim.read_text() == "precious"


def test_two_cards_are_not_written_at_once(run: Path, cli: Cli) -> None:
    with sole_writer(run / "README.md"):
        assert_one_line(cli("card", run), "another process is writing")


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"model_name": 1}, "model_name"),
        ({"data": []}, "data"),
        ({"training": {"a": 3}}, "training.a"),
        ({"emissions_g": "x"}, "emissions_g"),
        ({"results": {"probe": 3}}, "results"),
        ({"repo": 'x")\nimport os'}, "repo"),
        ({"extra": {"license": "x"}}, "license"),
    ],
)
def test_fields_of_a_card_are_checked(tmp_path: Path, content: dict[str, object], field: str) -> None:
    whole = {"model_name": "m", "dataset": "d", "data_licence": "CC0", **content}
    (tmp_path / "card.json").write_text(json.dumps(whole))
    with pytest.raises(ModelFolderError, match=field) as refused:
        card_context_of(tmp_path)
    assert str(refused.value.path).endswith("card.json")


@pytest.mark.parametrize(
    "account", [{"steps": "x"}, {"datasets": [1]}, {"datasets": [{"source": 2}]}, {"records": {"train": -1}}]
)
def test_fields_of_an_account_are_checked(tmp_path: Path, account: dict[str, object]) -> None:
    (tmp_path / "pretrain_report.json").write_text(json.dumps(account))
    with pytest.raises(ModelFolderError, match=next(iter(account))):
        run_facts(tmp_path)


def test_text_of_strangers_is_no_markup_in_a_card(run: Path, tmp_path: Path, cli: Cli) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "model", ignore=shutil.ignore_patterns("checkpoint-*")))
    nasty = "<script>x</script>[a](http://b)\x1b[2J\n# Title |"
    rows = json.loads(
        json.dumps(RESULTS).replace('"MI"', json.dumps(nasty)).replace('"ptbxl-super"', json.dumps(nasty))
    )
    (tmp_path / "results.json").write_text(json.dumps(rows))
    (folder / "pretrain_report.json").write_text(json.dumps({"datasets": [{"source": nasty, "train": 1}]}))
    outcome = cli("card", folder, "--results", tmp_path / "results.json", "--name", nasty)
    assert outcome.returncode == 0, outcome.stderr
    content = (folder / "README.md").read_text()
    card = ModelCard(content)
    assert card.data.model_name == nasty
    body = card.text
    assert "\x1b" not in body
    assert "[a](http" not in body
    assert "\n# Title" not in body
    assert not re.search(r"^(?!.*`).*<script", body, re.MULTILINE)
