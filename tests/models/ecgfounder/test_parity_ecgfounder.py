"""ECGFounder against its official code: preprocessing, network, labels, files."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModel, pipeline

from ecg_hf.errors import ConfigurationError, ConversionError
from ecg_hf.hub.converting import convert_checkpoint
from ecg_hf.models.auto import AutoModelForEcgClassification
from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.ecgfounder.configuration_ecgfounder import EcgFounderConfig
from ecg_hf.models.ecgfounder.conversion_ecgfounder import convert_official
from ecg_hf.models.ecgfounder.feature_extraction_ecgfounder import EcgFounderFeatureExtractor
from ecg_hf.models.ecgfounder.modeling_ecgfounder import EcgFounderForEcgClassification, EcgFounderModel
from ecg_hf.signal import STANDARD_LEADS

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 0.0, "atol": 1e-5}


@pytest.fixture(scope="module")
def official(shared_fixtures: Path) -> Path:
    return shared_fixtures / "ecgfounder"


@pytest.fixture(scope="module")
def expected(official: Path) -> dict[str, Tensor]:
    return load_file(official / "tiny_io.safetensors")


@pytest.fixture(scope="module")
def weights(official: Path) -> dict[str, Tensor]:
    return load_file(official / "tiny_state_dict.safetensors")


@pytest.fixture(scope="module")
def sizes(official: Path) -> dict[str, object]:
    """The authors' configuration, as the fixture tells it."""
    with safe_open(official / "tiny_state_dict.safetensors", "pt") as file:
        return json.loads(file.metadata()["config"])


@pytest.fixture(scope="module")
def converted(
    weights: dict[str, Tensor], sizes: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A training checkpoint as the authors publish it, converted."""
    folder = tmp_path_factory.mktemp("ecgfounder")
    torch.save({"epoch": 3, "state_dict": weights, "optimizer": {"state": {}}}, folder / "tiny.pth")
    report = convert_checkpoint("ecgfounder", folder / "tiny.pth", folder / "out", config=sizes)
    assert report.model_class == "EcgFounderForEcgClassification"
    return folder / "out"


def test_embeddings_and_stages(converted: Path, expected: dict[str, Tensor]) -> None:
    model = AutoModel.from_pretrained(converted).eval()
    assert type(model) is EcgFounderModel
    output = model(expected["input"], output_hidden_states=True)
    torch.testing.assert_close(output.last_hidden_state, expected["out.stage3"].transpose(1, 2), **CLOSE)
    torch.testing.assert_close(output.pooler_output, expected["out.features"], **CLOSE)
    # Blocks of the stages: 2, 1, 2, 1; odd lengths on the way.
    for stage, block in enumerate((2, 3, 5, 6)):
        torch.testing.assert_close(output.hidden_states[block], expected[f"out.stage{stage}"], **CLOSE)
    torch.testing.assert_close(model.encoder.stem(expected["input"]), expected["out.first_conv"], **CLOSE)


def test_logits_loss_and_gradients(converted: Path, expected: dict[str, Tensor]) -> None:
    model = AutoModelForEcgClassification.from_pretrained(converted).eval()
    assert type(model) is EcgFounderForEcgClassification
    output = model(expected["input"], labels=expected["labels"])
    torch.testing.assert_close(output.logits, expected["out.logits"], **CLOSE)
    torch.testing.assert_close(output.loss, expected["bce_loss"].reshape(()), **CLOSE)
    output.loss.backward()
    ours = {
        "dense.weight": model.classifier.weight,
        "first_conv.conv.weight": model.ecgfounder.encoder.stem.weight,
        "stage_list.0.block_list.0.conv2.conv.weight": model.ecgfounder.encoder.blocks[0].grouped.weight,
        "stage_list.1.block_list.0.conv1.conv.bias": model.ecgfounder.encoder.blocks[2].reduce.bias,
        "stage_list.1.block_list.0.se_fc1.weight": model.ecgfounder.encoder.blocks[2].squeeze.weight,
    }
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter.grad, expected[f"grad.{name}"], **CLOSE)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_filters_and_normalisation(official: Path, as_tensor: bool) -> None:
    recorded = load_file(official / "preprocess.safetensors")
    extractor = EcgFounderFeatureExtractor()
    signal = recorded["input"] if as_tensor else recorded["input"].numpy()
    values = extractor(signal, 500.0, STANDARD_LEADS, return_tensors="pt")["input_values"][0]
    torch.testing.assert_close(values[[0, 1, 6, 11]], recorded["normalised_leads_0_1_6_11"].float(), **CLOSE)
    plain = EcgFounderFeatureExtractor(normalization="none")
    values = plain(signal, 500.0, STANDARD_LEADS, return_tensors="pt")["input_values"][0]
    torch.testing.assert_close(values[[0, 1, 6, 11]], recorded["filtered_leads_0_1_6_11"].float(), **CLOSE)


def test_without_filter_as_the_authors_own_script(official: Path) -> None:
    signal = load_file(official / "preprocess.safetensors")["input"].numpy()
    values = EcgFounderFeatureExtractor(filter=None)(signal, 500.0, STANDARD_LEADS)["input_values"][0]
    np.testing.assert_allclose(values, (signal - signal.mean()) / signal.std(), rtol=0, atol=1e-5)


def test_a_rate_too_low_for_the_notch_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="filter=None"):
        EcgFounderFeatureExtractor(sampling_rate=100)
    EcgFounderFeatureExtractor(sampling_rate=100, filter=None)


@pytest.mark.parametrize("leads", [12, 1])
def test_published_files(official: Path, leads: int) -> None:
    """Keys and shapes of the published size: all accounted for, sizes recognised, the official parameter count."""
    shapes = json.loads((official / "state_dict_shapes.json").read_text())[f"{leads}_lead"]
    assert len(shapes) == 509
    state = OfficialState({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()})
    converted = convert_official(state)
    state.finish()
    size = "base" if leads == 12 else "base-1-lead"
    expected = EcgFounderConfig.preset(size, num_labels=150)
    assert converted.config.lead_names == expected.lead_names
    assert (converted.config.channels, converted.config.depths) == (
        list(expected.channels),
        list(expected.depths),
    )
    with torch.device("meta"):
        model = EcgFounderForEcgClassification(converted.config)
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert own == {name: tuple(tensor.shape) for name, tensor in converted.state_dict.items()}
    batch_norms = sum(
        prod(shape) for key, shape in shapes.items() if "bn" in key and key.endswith(("weight", "bias"))
    )
    assert batch_norms == 66_368
    assert model.num_parameters() + batch_norms == {12: 30_819_014, 1: 30_807_750}[leads]


def test_the_published_classifier_names_its_150_labels(official: Path, tmp_path: Path) -> None:
    names = (official / "labels.txt").read_text().splitlines()
    config = EcgFounderConfig.preset("micro", num_labels=150)
    model = EcgFounderForEcgClassification(config)
    tensors = official_layout(model)
    torch.save({"state_dict": tensors}, tmp_path / "file.pth")
    sizes = {"stride": 2, "use_bn": False}
    convert_checkpoint("ecgfounder", tmp_path / "file.pth", tmp_path / "out", config=sizes)
    loaded = AutoModelForEcgClassification.from_pretrained(tmp_path / "out")
    assert [loaded.config.id2label[index] for index in range(150)] == names
    classify = pipeline(
        "ecg-classification",
        model=loaded,
        feature_extractor=AutoFeatureExtractor.from_pretrained(tmp_path / "out"),
    )
    signal = np.random.default_rng(0).normal(size=(12, 5000)).astype(np.float32)
    entries = classify({"signal": signal, "sampling_rate": 500.0, "lead_names": list(STANDARD_LEADS)})
    assert {entry["label"] for entry in entries} == set(names)
    # Statements are independent of each other.
    assert sum(entry["score"] for entry in entries) > 2.0


def official_layout(model: EcgFounderForEcgClassification) -> dict[str, Tensor]:
    """A classifier's weights under the authors' names; the inverse of the converter, written apart from it."""
    tensors = {"dense.weight": model.classifier.weight.data, "dense.bias": model.classifier.bias.data}
    stem = model.ecgfounder.encoder.stem
    tensors |= {"first_conv.conv.weight": stem.weight.data, "first_conv.conv.bias": stem.bias.data}
    blocks = iter(model.ecgfounder.encoder.blocks)
    for stage, depth in enumerate(model.config.depths):
        for index in range(depth):
            block = next(blocks)
            parts = {"conv1.conv": block.reduce, "conv2.conv": block.grouped, "conv3.conv": block.expand}
            parts |= {"se_fc1": block.squeeze, "se_fc2": block.excite}
            for name, part in parts.items():
                for kind in ("weight", "bias"):
                    key = f"stage_list.{stage}.block_list.{index}.{name}.{kind}"
                    tensors[key] = getattr(part, kind).data.clone()
    return tensors


def test_an_encoder_alone_is_a_model(
    weights: dict[str, Tensor], sizes: dict[str, object], expected: dict[str, Tensor], tmp_path: Path
) -> None:
    alone = {f"module.{key}": value for key, value in weights.items() if not key.startswith("dense.")}
    torch.save(alone, tmp_path / "encoder.pth")
    report = convert_checkpoint("ecgfounder", tmp_path / "encoder.pth", tmp_path / "out", config=sizes)
    assert report.model_class == "EcgFounderModel"
    output = AutoModel.from_pretrained(tmp_path / "out").eval()(expected["input"])
    torch.testing.assert_close(output.pooler_output, expected["out.features"], **CLOSE)


def test_sizes_that_no_tensor_shows_are_asked_for(weights: dict[str, Tensor]) -> None:
    with pytest.raises(ConversionError, match=r"tensors do not tell stride, use_bn: .*--config FILE\.json"):
        convert_official(OfficialState(weights))
    with pytest.raises(ConversionError, match="batch norms"):
        convert_official(OfficialState(weights, {"stride": 2, "use_bn": True}))


def test_sizes_inside_the_checkpoint_serve_as_well(
    weights: dict[str, Tensor], sizes: dict[str, object], tmp_path: Path
) -> None:
    torch.save({"state_dict": weights, "config": sizes}, tmp_path / "told.pth")
    convert_checkpoint("ecgfounder", tmp_path / "told.pth", tmp_path / "out")


def test_every_key_counts(weights: dict[str, Tensor], sizes: dict[str, object]) -> None:
    spoilt = dict(weights)
    del spoilt["stage_list.0.block_list.0.se_fc1.bias"]
    spoilt["dense.bias"] = torch.zeros(3)
    spoilt["stray"] = torch.zeros(1)
    state = OfficialState(spoilt, sizes)
    convert_official(state)
    with pytest.raises(ConversionError) as error:
        state.finish()
    assert error.value.value == {
        "missing": ["stage_list.0.block_list.0.se_fc1.bias"],
        "mis-shaped": ["dense.bias is (3,), not (7,)"],
        "unexpected": ["stray"],
    }
