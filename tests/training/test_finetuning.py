"""Fine-tuning: data, learning rates, the epoch kept, the folder written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch import nn
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from ecg_hf.errors import ConfigurationError, DatasetBuildError, ModelFolderError
from ecg_hf.models.registry import METHODS, get_method
from ecg_hf.training import finetune, pretrain, read_training_log
from ecg_hf.training.finetuning import layer_depths, layerwise_groups, macro_auroc

RUN: dict[str, Any] = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 32,
    "disable_tqdm": True,
    "use_cpu": True,
    "cache_inputs": True,
}


@pytest.fixture(scope="module")
def pretrained(built_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("pretrained")
    pretrain(
        "cg-dmer",
        built_path,
        output,
        size="micro",
        max_steps=1,
        save_strategy="no",
        eval_strategy="no",
        use_cpu=True,
    )
    return output


def test_finetuned_folder_loads_and_scores(pretrained: Path, built_path: Path, tmp_path: Path) -> None:
    result = finetune(pretrained, built_path, tmp_path, task="super", **RUN)
    assert result.labels == ("NORM", "MI", "STTC", "CD", "HYP")
    assert result.records["train"] > 50
    assert 0.0 <= result.validation["eval_macro_auroc"] <= 1.0
    assert 0.0 <= result.test["test_macro_auroc"] <= 1.0
    assert json.loads((tmp_path / "finetune_report.json").read_text())["task"] == "super"
    model = AutoModelForAudioClassification.from_pretrained(tmp_path)
    assert model.config.id2label[1] == "MI"
    assert AutoFeatureExtractor.from_pretrained(tmp_path).sampling_rate == model.config.sampling_rate
    scores = [row["eval_macro_auroc"] for row in read_training_log(tmp_path) if row["kind"] == "evaluation"]
    assert result.validation["eval_macro_auroc"] == pytest.approx(max(scores))


def test_encoder_starts_from_the_pretrained_weights_or_not(
    pretrained: Path, built_path: Path, tmp_path: Path
) -> None:
    still = {**RUN, "num_train_epochs": 1, "learning_rate": 0.0}
    name = "cg_dmer.ecg_encoder.norm.weight"
    weight = "cg_dmer.ecg_encoder.tokenizer.projection.weight"
    before = load_file(pretrained / "model.safetensors")
    finetune(pretrained, built_path, tmp_path / "a", **still)
    finetune(pretrained, built_path, tmp_path / "b", from_scratch=True, **still)
    kept, fresh = (load_file(tmp_path / run / "model.safetensors") for run in ("a", "b"))
    assert torch.equal(kept[name], before[name])
    assert torch.equal(kept[weight], before[weight])
    assert not torch.equal(fresh[weight], before[weight])


def test_fractions_are_nested(pretrained: Path, built_path: Path, tmp_path: Path) -> None:
    whole = finetune(pretrained, built_path, tmp_path / "a", **{**RUN, "num_train_epochs": 1})
    tenth = finetune(pretrained, built_path, tmp_path / "b", fraction=0.1, **{**RUN, "num_train_epochs": 1})
    assert tenth.records["train"] == round(0.1 * whole.records["train"])
    assert tenth.records["test"] == whole.records["test"]


def test_layers_nearer_to_the_signal_learn_slower() -> None:
    method = get_method("cg-dmer")
    model = method.load("classification")(method.load("config").preset("micro"))
    depths = layer_depths(model)
    assert depths["cg_dmer.ecg_encoder.positions.spatial"] == 0
    assert depths["cg_dmer.ecg_encoder.layers.blocks.1.mlp.0.weight"] == 2
    assert depths["cg_dmer.ecg_encoder.norm.weight"] == depths["classifier.weight"] == 3
    groups = layerwise_groups(model, 1.0, 0.5, 0.1, {"classifier.weight"})
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert rate[id(model.classifier.weight)] == 1.0
    assert rate[id(model.cg_dmer.ecg_encoder.positions.spatial)] == 0.125
    assert decay[id(model.classifier.weight)] == 0.1
    assert decay[id(model.classifier.bias)] == 0.0
    assert len(rate) == len(list(model.parameters()))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_names_its_layers(name: str) -> None:
    """Never guessed from lengths: the smallest CLEAR-HUG has more lead groups than layers."""
    spec = METHODS[name]
    for size in spec.sizes:
        with torch.device("meta"):
            model = spec.load("classification")(spec.load("config").preset(size, num_labels=3))
        layers = model.encoder_layers
        assert len(layers) == model.config.num_hidden_layers
        depths = layer_depths(model)
        inside = {
            id(parameter): depth for depth, layer in enumerate(layers, 1) for parameter in layer.parameters()
        }
        for parameter_name, parameter in model.named_parameters():
            assert depths[parameter_name] == inside.get(id(parameter), depths[parameter_name])
        assert set(depths.values()) == set(range(len(layers) + 2)) - ({0} if name == "acl-ecg" else set())
        assert depths["classifier.weight"] == len(layers) + 1
        wrapped = nn.Sequential(model)
        assert layer_depths(wrapped) == {f"0.{key}": depth for key, depth in depths.items()}


def test_a_model_without_layers_says_so() -> None:
    with pytest.raises(ConfigurationError, match="encoder_layers"):
        layer_depths(nn.Linear(2, 2))
    assert len(layerwise_groups(nn.Linear(2, 2), 1.0, 1.0, 0.1, {"weight"})) == 2


def test_macro_auroc_leaves_out_labels_that_do_not_occur() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random((50, 3)) < 0.4).astype(int)
    labels[:, 1] = 0
    scores = generator.random((50, 3))
    value, counted = macro_auroc(labels, scores)
    assert counted == 2
    assert value == pytest.approx(np.mean([roc_auc_score(labels[:, i], scores[:, i]) for i in (0, 2)]))
    assert macro_auroc(np.zeros((4, 2)), scores[:4, :2])[1] == 0


def test_wrong_arguments_are_typed_errors(pretrained: Path, built_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError):
        finetune(tmp_path, built_path, tmp_path / "a")
    with pytest.raises(DatasetBuildError):
        finetune(pretrained, tmp_path, tmp_path / "a")
    for options in ({"fraction": 0.0}, {"task": "none"}, {"layer_decay": 2.0}, {"learning_rat": 1.0}):
        with pytest.raises(ConfigurationError):
            finetune(pretrained, built_path, tmp_path / "a", **options)
