"""``ecg-hf convert`` as a user types it: official layouts in, a complete model folder out, mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining

import ecg_hf  # noqa: F401  (registers the methods)
from ecg_hf.hub.converting import recognise_checkpoint
from ecg_hf.models.registry import METHODS
from tests.cli.conftest import Cli
from tests.cli.test_errors import assert_one_line
from tests.models.official_files import CONVERTED, official_file

pytestmark = pytest.mark.fixtures

HEADS = ("--num-attention-heads", "4", "--predictor-num-attention-heads", "2")


@pytest.fixture
def jepa(shared_fixtures: Path) -> dict[str, torch.Tensor]:
    """The official tiny training module: ``encoder.*``, ``target_encoder.*``, ``predictor.*``."""
    return load_file(shared_fixtures / "ecg_jepa" / "tiny_state_dict.safetensors")


def published(weights: dict[str, torch.Tensor]) -> dict[str, object]:
    """The layout of the released file: the online encoder and a counter."""
    encoder = {key.removeprefix("encoder."): v for key, v in weights.items() if key.startswith("encoder.")}
    return {"encoder": encoder, "epoch": 100}


def test_released_layout_becomes_a_complete_folder(process: Cli, jepa, shared_fixtures: Path, tmp_path: Path):
    torch.save(published(jepa), tmp_path / "multiblock_epoch100.pth")
    target = tmp_path / "converted"
    outcome = process(
        "convert",
        "ecg-jepa",
        tmp_path / "multiblock_epoch100.pth",
        target,
        "--num-attention-heads=4",
        "--json",
    )
    assert outcome.returncode == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    assert report["model_class"] == "EcgJepaModel"
    assert report["facts"] == {"epoch": 100}
    assert {path.name for path in target.iterdir()} == {
        "README.md",
        "card.json",
        "config.json",
        "ecg_hf_shim.py",
        "model.safetensors",
        "preprocessor_config.json",
    }
    card = (target / "README.md").read_text()
    assert report["sha256"] in card
    assert "license: mit" in card.lower()
    expected = load_file(shared_fixtures / "ecg_jepa" / "tiny_io.safetensors")
    with torch.inference_mode():
        output = AutoModel.from_pretrained(target).eval()(expected["input"])
    torch.testing.assert_close(output.pooler_output, expected["representation"], rtol=0, atol=2e-5)
    assert AutoFeatureExtractor.from_pretrained(target).sampling_rate == 250


def test_training_module_becomes_a_pretraining_model(cli: Cli, jepa, tmp_path: Path):
    save_file(jepa, tmp_path / "full.safetensors")
    outcome = cli("convert", "ecg-jepa", tmp_path / "full.safetensors", tmp_path / "converted", *HEADS)
    assert outcome.returncode == 0, outcome.stderr
    assert "EcgJepaForPreTraining" in outcome.stdout
    assert (
        type(AutoModelForPreTraining.from_pretrained(tmp_path / "converted")).__name__
        == "EcgJepaForPreTraining"
    )


def test_lightning_layout_of_cpc(cli: Cli, shared_fixtures: Path, tmp_path: Path):
    weights = load_file(shared_fixtures / "cpc_s4" / "causal_state_dict.safetensors")
    moments = [{"state": {0: {"exp_avg": torch.zeros(3)}}}]
    torch.save({"state_dict": weights, "global_step": 9, "optimizer_states": moments}, tmp_path / "last.ckpt")
    outcome = cli("convert", "ecg-cpc", tmp_path / "last.ckpt", tmp_path / "converted")
    assert outcome.returncode == 0, outcome.stderr
    assert "left out: optimizer_states" in outcome.stdout
    expected = load_file(shared_fixtures / "cpc_s4" / "causal_io.safetensors")
    with torch.inference_mode():
        output = AutoModel.from_pretrained(tmp_path / "converted").eval()(expected["input"])
    torch.testing.assert_close(output.last_hidden_state, expected["context"], rtol=0, atol=1e-5)


def test_heads_that_shapes_cannot_tell_are_asked_for(cli: Cli, jepa, tmp_path: Path):
    torch.save(published(jepa), tmp_path / "x.pth")
    outcome = cli("convert", "ecg-jepa", tmp_path / "x.pth", tmp_path / "out")
    assert_one_line(outcome, "--num-attention-heads")
    assert not (tmp_path / "out").exists()


def test_every_wrong_key_is_listed(cli: Cli, jepa, tmp_path: Path):
    weights = published(jepa)
    encoder = weights["encoder"]
    encoder["extra.weight"] = torch.zeros(2)
    del encoder["norm.bias"]
    encoder["encoder_blocks.blocks.1.mlp.fc1.bias"] = torch.zeros(7)
    torch.save(weights, tmp_path / "x.pth")
    outcome = cli("convert", "ecg-jepa", tmp_path / "x.pth", tmp_path / "out", "--num-attention-heads", "4")
    assert_one_line(
        outcome, "x.pth", "1 missing", "norm.bias", "1 mis-shaped", "(7,)", "1 unexpected", "extra.weight"
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "x.pth"]


def test_weights_that_are_not_finite_are_refused(cli: Cli, jepa, tmp_path: Path):
    weights = published(jepa)
    weights["encoder"]["norm.weight"][3] = float("nan")
    torch.save(weights, tmp_path / "x.pth")
    outcome = cli("convert", "ecg-jepa", tmp_path / "x.pth", tmp_path / "out", "--num-attention-heads", "4")
    assert_one_line(outcome, "not finite")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nope", "{file}", "{out}"), ("nope", "ecg-jepa")),
        (("cg-dmer", "{file}", "{out}"), ("cg-dmer", "no official weights", "convert --list")),
        (("ecg-jepa", "{absent}", "{out}"), ("absent", "not found")),
        (("ecg-jepa", "{file}", "{there}", "--num-attention-heads", "4"), ("exists already",)),
        (("ecg-jepa", "{file}", "{out}", "--num-attention-heads", "many"), ("whole number", "many")),
        (("ecg-jepa", "{file}", "{out}", "--num-attention-heads"), ("whole number",)),
        (("ecg-jepa", "{file}", "{out}", "--num-attention-heads", "5"), ("5",)),
        (("ecg-jepa", "{file}", "{out}", "--depth", "3"), ("--depth", "--num-attention-heads")),
        (("ecg-cpc", "{file}", "{out}"), ("not a checkpoint of this method",)),
    ],
)
def test_mistakes(arguments: tuple[str, ...], words: tuple[str, ...], cli: Cli, jepa, tmp_path: Path):
    there = tmp_path / "there"
    there.mkdir()
    torch.save(published(jepa), tmp_path / "x.pth")
    places = {
        "file": tmp_path / "x.pth",
        "absent": tmp_path / "absent.pth",
        "out": tmp_path / "out",
        "there": there,
    }
    outcome = cli("convert", *(argument.format(**places) for argument in arguments))
    assert_one_line(outcome, *words)
    assert not (tmp_path / "out").exists()
    assert not any(there.iterdir())


def test_overwrite_replaces_a_folder_as_a_whole(cli: Cli, jepa, tmp_path: Path):
    target = tmp_path / "there"
    target.mkdir()
    (target / "stale.txt").write_text("from before")
    torch.save(published(jepa), tmp_path / "x.pth")
    command = ("convert", "ecg-jepa", tmp_path / "x.pth", target, "--num-attention-heads", "4", "--overwrite")
    assert cli(*command).returncode == 0
    assert not (target / "stale.txt").exists()
    assert (target / "model.safetensors").is_file()


LABELS_OF = {"ecgfounder": 150, "ecg-fm": 17}


def test_the_list_of_what_converts(cli: Cli):
    outcome = cli("convert", "--list", "--json")
    rows = {row["name"]: row for row in json.loads(outcome.stdout)}
    assert set(rows) == {name for name, spec in METHODS.items() if spec.official_weights}
    for name, row in rows.items():
        assert set(row) == {"name", "files", "repository", "licence", "size_bytes", "parity"}
        assert row["licence"] == METHODS[name].official_weights
    # Of the largest published size, counted without storage.
    for name, size, role in (
        ("ecgfounder", "base", "classification"),
        ("ecg-fm", "base", "classification"),
        ("hubert-ecg", "large", "model"),
        ("ked", "base", "model"),
        ("melp", "base", "model"),
        ("ecg-jepa", "base", "model"),
        ("ecg-cpc", "base", "pretraining"),
        ("clear-hug", "large", "pretraining"),
        ("st-mem", "base", "pretraining"),
        ("merl", "base", "pretraining"),
        ("d-beta", "base", "pretraining"),
        ("heartlang", "base", "pretraining"),
        ("weimann-jepa", "base", "model"),
    ):
        spec = METHODS[name]
        with torch.device("meta"):
            model = spec.load(role)(spec.load("config").preset(size, num_labels=LABELS_OF.get(name, 2)))
        assert rows[name]["size_bytes"] == 4 * model.num_parameters()
    table = cli("convert", "--list").stdout
    assert "cc-by-nc-4.0" in table
    assert "12_lead_ECGFounder.pth" in table


@pytest.mark.parametrize("method", CONVERTED)
def test_files_are_recognised_by_their_keys(method: str, shared_fixtures: Path, tmp_path: Path):
    weights, _ = official_file(method, shared_fixtures)
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / "any.pt"
    )
    found, reason = recognise_checkpoint(tmp_path / "any.pt")
    assert found == method
    assert "keys" in reason


@pytest.mark.parametrize(
    ("method", "fixture", "part"),
    [
        ("merl", "merl/tiny_resnet18_ecgclip", "state.ecg_encoder."),
        ("merl", "merl/tiny_vit_ecgclip", "state.ecg_encoder."),
        ("merl", "merl/tiny_resnet50_encoder", "state."),
        ("st-mem", "st_mem/tiny_st_mem_norm_pix_true", "state.encoder."),
        ("ecg-jepa", "ecg_jepa/tiny_state_dict", "encoder."),
    ],
)
def test_encoders_alone_are_recognised_too(
    method: str, fixture: str, part: str, shared_fixtures: Path, tmp_path: Path
):
    weights = load_file(shared_fixtures / f"{fixture}.safetensors")
    encoder = {key.removeprefix(part): value for key, value in weights.items() if key.startswith(part)}
    torch.save(encoder, tmp_path / "encoder.pth")
    assert recognise_checkpoint(tmp_path / "encoder.pth")[0] == method


def test_auto_converts_what_it_recognises(cli: Cli, shared_fixtures: Path, tmp_path: Path):
    path = shared_fixtures / "ecgfounder" / "tiny_state_dict.safetensors"
    with safe_open(path, "pt") as file:
        (tmp_path / "sizes.json").write_text(file.metadata()["config"])
    options = ("--config", tmp_path / "sizes.json")
    outcome = cli("convert", "auto", path, tmp_path / "out", *options, "--json")
    assert outcome.returncode == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    assert report["recognised_as"] == report["model"] == "ecgfounder"
    assert "first_conv.conv.weight" in report["because"]
    assert (tmp_path / "out" / "model.safetensors").is_file()
    unknown = cli("convert", "auto", path, tmp_path / "again", "--json")
    assert_one_line(unknown, "recognised as ecgfounder: tensors do not tell", "--config")
    said = cli("convert", "auto", path, tmp_path / "again", *options).stdout
    assert said.startswith("a file of ecgfounder: it has the keys first_conv.conv.weight")


def test_a_second_file_goes_with_the_first(cli: Cli, shared_fixtures: Path, tmp_path: Path):
    first, second = (
        shared_fixtures / "heartlang" / f"tiny_{name}_state_dict.safetensors"
        for name in ("backbone", "vqhbr")
    )
    for command in (("heartlang", first, tmp_path / "out"), ("auto", second, tmp_path / "first")):
        options = () if command[0] == "auto" else ("--vqhbr", second)
        outcome = cli("convert", *command, *options, "--json")
        assert outcome.returncode == 0, outcome.stderr
        assert json.loads(outcome.stdout)["model_class"] == "HeartLangForPreTraining"
    assert "sha256 of the file of vqhbr" in (tmp_path / "out" / "README.md").read_text()
    command = ("convert", "heartlang", first, tmp_path / "none")
    assert_one_line(cli(*command, "--vqhbr", tmp_path / "absent.pth"), "absent.pth", "not found")
    assert_one_line(cli(*command, "--vqhbr"), "--vqhbr", "file")


def test_what_is_not_recognised_is_refused(cli: Cli, tmp_path: Path):
    save_file({"some.weight": torch.ones(2)}, tmp_path / "x.safetensors")
    outcome = cli("convert", "auto", tmp_path / "x.safetensors", tmp_path / "out")
    assert_one_line(outcome, "x.safetensors", "not recognised", "some.weight")
    assert_one_line(cli("convert"), "--list")
    assert_one_line(cli("convert", "ecgfounder", tmp_path / "x.safetensors"), "folder")


@pytest.mark.parametrize(
    "value", ["[]", "{", '{"stride": "two", "use_bn": false}', '{"stride": 0, "use_bn": false}']
)
def test_sizes_that_can_not_be_are_refused(value: str, cli: Cli, shared_fixtures: Path, tmp_path: Path):
    path = shared_fixtures / "ecgfounder" / "tiny_state_dict.safetensors"
    (tmp_path / "sizes.json").write_text(value)
    outcome = cli("convert", "ecgfounder", path, tmp_path / "out", "--config", tmp_path / "sizes.json")
    assert_one_line(outcome)
    assert not (tmp_path / "out").exists()
