"""Hostile and broken model folders through the command: one line, exit code 2, no code run, nothing left behind."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoFeatureExtractor, AutoModel

import ecg_hf  # noqa: F401  (registers the methods)
from ecg_hf.models.registry import METHODS
from tests.cli.conftest import Cli
from tests.cli.test_errors import assert_one_line
from tests.models.conftest import make_case
from tests.models.hostile import IGNORED, REFUSED, Payload, canary_of, edit_json

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A whole folder of every method's base model."""
    folders = {}
    for name in METHODS:
        case = make_case(name)
        folders[name] = tmp_path_factory.mktemp(name) / "good"
        case.spec.load("model")(case.config).save_pretrained(folders[name])
        case.spec.feature_extractor_for(case.config).save_pretrained(folders[name])
    return folders


@pytest.mark.parametrize("method", METHODS)
def test_embed_refuses(good: dict[str, Path], dataset: Path, cli: Cli, tmp_path: Path, method: str) -> None:
    for name, spoil in REFUSED.items():
        folder = Path(shutil.copytree(good[method], tmp_path / name / "model"))
        spoil(folder)
        output = tmp_path / "embeddings.safetensors"
        outcome = cli("embed", "--model", folder, "--dataset", dataset, "--output", output, "--device", "cpu")
        assert_one_line(outcome, str(folder))
        assert not canary_of(folder).exists(), name
        assert not output.exists(), name


@pytest.mark.parametrize("name", REFUSED)
def test_predict_and_evaluate_refuse(
    pretrained: Path, dataset: Path, record: Path, cli: Cli, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(pretrained, folder, ignore=shutil.ignore_patterns("checkpoint-*"))
    REFUSED[name](folder)
    assert_one_line(cli("predict", "--model", folder, record, "--labels", "normal ECG", "--device", "cpu"))
    assert_one_line(cli("predict", "--model", folder, record, "--device", "cpu"))
    output = tmp_path / "evaluation"
    command = ("evaluate", "--model", folder, "--benchmark", "synthetic-findings", "--dataset", dataset)
    assert_one_line(cli(*command, "--output", output, "--device", "cpu"), str(folder))
    assert not output.exists()
    assert not canary_of(folder).exists()


@pytest.mark.parametrize("name", IGNORED)
def test_additions_are_ignored(pretrained: Path, record: Path, cli: Cli, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(pretrained, folder, ignore=shutil.ignore_patterns("checkpoint-*"))
    command = ("predict", "--model", folder, record, "--labels", "normal ECG,asystole", "--device", "cpu")
    before = cli(*command)
    IGNORED[name](folder)
    assert cli(*command).stdout == before.stdout != ""
    assert not canary_of(folder).exists()


def test_tokenizers(pretrained: Path, record: Path, cli: Cli, tmp_path: Path) -> None:
    """Neither damaged ones nor such as name files elsewhere or bring code."""
    outside = tmp_path / "outside.json"
    shutil.copy(pretrained / "tokenizer.json", outside)

    def elsewhere(folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        edit_json(
            folder, "tokenizer_config.json", tokenizer_file="../outside.json", vocab_file="../outside.json"
        )

    def code(folder: Path) -> None:
        (folder / "evil.py").write_text(
            f"import os\nos.system('touch {canary_of(folder)}')\nclass Evil: pass\n"
        )
        auto_map = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
        edit_json(folder, "tokenizer_config.json", auto_map=auto_map, tokenizer_class="Evil")
        (folder / "tokenizer.json").unlink()

    def damaged(folder: Path) -> None:
        (folder / "tokenizer.json").write_text("{")

    for spoil in (elsewhere, code, damaged):
        folder = tmp_path / spoil.__name__ / "model"
        shutil.copytree(pretrained, folder, ignore=shutil.ignore_patterns("checkpoint-*"))
        spoil(folder)
        outcome = cli("predict", "--model", folder, record, "--labels", "normal ECG", "--device", "cpu")
        assert_one_line(outcome, str(folder))
        assert not canary_of(folder).exists()


def test_models_and_extractors_of_other_kinds(
    pretrained: Path, record: Path, cli: Cli, tmp_path: Path
) -> None:
    """A pickle may come with a model type that is none of ours; the library itself would read it."""
    command = ("predict", record, "--labels", "normal ECG", "--device", "cpu", "--model")
    foreign = tmp_path / "foreign"
    shutil.copytree(pretrained, foreign, ignore=shutil.ignore_patterns("checkpoint-*", "*.safetensors"))
    edit_json(foreign, "config.json", model_type="bert")
    torch.save({"weight": Payload(canary_of(foreign))}, foreign / "pytorch_model.bin")
    assert_one_line(cli(*command, foreign), "bert", "not a method")
    adapter = tmp_path / "adapter"
    shutil.copytree(pretrained, adapter, ignore=shutil.ignore_patterns("checkpoint-*"))
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "../x"}')
    assert_one_line(cli(*command, adapter), "adapter")
    deaf = tmp_path / "deaf"
    shutil.copytree(pretrained, deaf, ignore=shutil.ignore_patterns("checkpoint-*"))
    edit_json(deaf, "preprocessor_config.json", feature_extractor_type="WhisperFeatureExtractor")
    outcome = cli("embed", "--model", deaf, "--dataset", tmp_path, "--output", tmp_path / "x")
    assert outcome.returncode == 2
    assert not canary_of(foreign).exists()


@pytest.mark.parametrize("name", ["x.pth", "x.bin", "x.ckpt", "x.safetensors", "x"])
def test_convert_never_unpickles(cli: Cli, tmp_path: Path, name: str) -> None:
    source, canary = tmp_path / name, tmp_path / "canary"
    for write in (
        lambda: torch.save({"state_dict": {"w": torch.ones(2)}, "hook": Payload(canary)}, source),
        lambda: source.write_bytes(pickle.dumps(Payload(canary))),
        lambda: source.write_bytes(b""),
        lambda: source.write_bytes(b"PK\x03\x04garbage"),
    ):
        write()
        for method, spec in METHODS.items():
            if spec.official_weights is not None:
                assert_one_line(cli("convert", method, source, tmp_path / "out"), name)
        assert not canary.exists()
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["cut", "huge-header", "wrong-keys", "no-tensor"])
def test_convert_refuses_damaged_files(cli: Cli, tmp_path: Path, damage: str) -> None:
    source = tmp_path / "x.safetensors"
    save_file({"some.weight": torch.ones(100, 100)}, source)
    content = source.read_bytes()
    if damage == "cut":
        source.write_bytes(content[: len(content) // 2])
    elif damage == "huge-header":
        source.write_bytes((1 << 60).to_bytes(8, "little") + content)
    elif damage == "no-tensor":
        save_file({}, source)
    for method, spec in METHODS.items():
        if spec.official_weights is not None:
            assert_one_line(cli("convert", method, source, tmp_path / "out"), "x.safetensors")


def test_good_folders_are_accepted(good: dict[str, Path]) -> None:
    """The checks above mean nothing if everything is refused."""
    for folder in good.values():
        AutoModel.from_pretrained(folder)
        AutoFeatureExtractor.from_pretrained(folder)
