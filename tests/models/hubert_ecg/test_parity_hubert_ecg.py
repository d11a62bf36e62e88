"""HuBERT-ECG against its official code: preprocessing, network, heads, files."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModel

from ecg_hf.errors import ConversionError, SamplingRateError
from ecg_hf.hub.converting import convert_checkpoint
from ecg_hf.models.auto import AutoModelForEcgClassification
from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.hubert_ecg.configuration_hubert_ecg import HubertEcgConfig
from ecg_hf.models.hubert_ecg.conversion_hubert_ecg import convert_official
from ecg_hf.models.hubert_ecg.feature_extraction_hubert_ecg import HubertEcgFeatureExtractor
from ecg_hf.models.hubert_ecg.modeling_hubert_ecg import HubertEcgModel
from ecg_hf.signal import STANDARD_LEADS

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 0.0, "atol": 1e-5}
PARAMETERS = {"small": 30_366_592, "base": 93_021_312, "large": 188_187_968}


@pytest.fixture(scope="module")
def official(shared_fixtures: Path) -> Path:
    return shared_fixtures / "hubert_ecg"


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


def converted(tensors: dict[str, Tensor], sizes: dict[str, object], folder: Path) -> Path:
    save_file(tensors, folder / "model.safetensors")
    convert_checkpoint("hubert-ecg", folder / "model.safetensors", folder / "out", config=sizes)
    return folder / "out"


def signal(expected: dict[str, Tensor]) -> Tensor:
    return expected["input"].view(2, 12, 200)


def test_embeddings_and_layers(
    weights: dict[str, Tensor], sizes: dict[str, object], expected: dict[str, Tensor], tmp_path: Path
) -> None:
    model = AutoModel.from_pretrained(converted(weights, sizes, tmp_path)).eval()
    assert type(model) is HubertEcgModel
    output = model(signal(expected), output_hidden_states=True)
    torch.testing.assert_close(output.last_hidden_state, expected["eval.last_hidden_state"], **CLOSE)
    torch.testing.assert_close(output.pooler_output, expected["eval.pooler_output"], **CLOSE)
    for index, state in enumerate(output.hidden_states):
        torch.testing.assert_close(state, expected[f"eval.hidden_states.{index}"], **CLOSE)
    tower = model.encoder
    torch.testing.assert_close(
        tower.stem(expected["input"][:, None]), expected["eval.conv_features"], **CLOSE
    )
    torch.testing.assert_close(tower.embed(expected["input"][:, None]), expected["eval.projected"], **CLOSE)
    torch.testing.assert_close(
        tower.positions(expected["eval.projected"]), expected["eval.pos_conv"], **CLOSE
    )


def test_tokens_that_are_not_attended_to(
    weights: dict[str, Tensor], sizes: dict[str, object], expected: dict[str, Tensor], tmp_path: Path
) -> None:
    """The tower under the official code's own token mask, of a signal that is zero where its mask is."""
    tower = AutoModel.from_pretrained(converted(weights, sizes, tmp_path)).eval().encoder
    held = expected["input"] * expected["attn.attention_mask"]
    encoded = tower(tower.embed(held[:, None]), expected["attn.token_mask"].bool())
    torch.testing.assert_close(encoded, expected["attn.last_hidden_state"], **CLOSE)


def test_heads(
    weights: dict[str, Tensor], sizes: dict[str, object], expected: dict[str, Tensor], tmp_path: Path
) -> None:
    network = {
        f"hubert_ecg.{key}": value
        for key, value in weights.items()
        if not key.startswith(("final_proj", "label_embedding"))
    }
    heads = {
        "cls": {
            key.removeprefix("cls."): value for key, value in expected.items() if key.startswith("cls.cl")
        },
        "cls_label_embedding": {"label_embedding.weight": expected["cls_label_embedding.weight"]},
    }
    for name, head in heads.items():
        folder = tmp_path / name
        folder.mkdir()
        model = AutoModelForEcgClassification.from_pretrained(converted({**network, **head}, sizes, folder))
        logits = model.eval()(signal(expected)).logits
        torch.testing.assert_close(logits, expected[f"{name}.logits"], **CLOSE)
        AutoModel.from_pretrained(folder / "out")


def test_a_linear_head_has_the_164_labels(
    official: Path, weights: dict[str, Tensor], sizes: dict[str, object], tmp_path: Path
) -> None:
    names = (official / "labels_cardio_learning.txt").read_text().split()
    network = {f"hubert_ecg.{key}": value for key, value in weights.items()}
    head = {"classifier.weight": torch.randn(164, 32), "classifier.bias": torch.zeros(164)}
    model = AutoModelForEcgClassification.from_pretrained(converted({**network, **head}, sizes, tmp_path))
    assert [model.config.id2label[index] for index in range(164)] == names
    assert model.config.problem_type == "multi_label_classification"
    assert "order of their published table (inferred)" in (tmp_path / "out" / "README.md").read_text()


def test_preprocessing(official: Path) -> None:
    recorded = load_file(official / "preprocess.safetensors")
    record = recorded["input"].numpy()
    for decimate, name in (("flat", "flattened_decimated"), ("lead", "per_lead_decimated_not_official")):
        extractor = HubertEcgFeatureExtractor(decimate=decimate)
        values = extractor(record, 500.0, STANDARD_LEADS, return_tensors="pt")["input_values"]
        assert values.shape == (1, 12, 500)
        torch.testing.assert_close(values.flatten(), recorded[name].flatten().float(), **CLOSE)


def test_recordings_without_47_hz_are_refused(official: Path) -> None:
    record = load_file(official / "preprocess.safetensors")["input"].numpy()
    with pytest.raises(SamplingRateError, match="published filter"):
        HubertEcgFeatureExtractor()(record, 90.0, STANDARD_LEADS)


@pytest.mark.parametrize("size", PARAMETERS)
@pytest.mark.parametrize("spelling", ["new", "old"])
def test_published_files(official: Path, size: str, spelling: str) -> None:
    """Keys and shapes of the published sizes: all accounted for, sizes recognised, the official parameter count."""
    shapes = json.loads((official / "state_dict_shapes.json").read_text())[size]
    assert sum(map(prod, shapes.values())) == PARAMETERS[size]
    if spelling == "old":
        old = {
            "parametrizations.weight.original0": "weight_g",
            "parametrizations.weight.original1": "weight_v",
        }
        for new, name in old.items():
            shapes = {key.replace(new, name): shape for key, shape in shapes.items()}
    state = OfficialState({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()})
    result = convert_official(state)
    state.finish()
    preset = HubertEcgConfig.preset(size).to_dict()
    assert {**result.config.to_dict(), "classifier_dropout": 0.1} == preset
    with torch.device("meta"):
        model = HubertEcgModel(result.config)
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert own == {name: tuple(tensor.shape) for name, tensor in result.state_dict.items()}
    left_out = sum(
        prod(shape)
        for key, shape in shapes.items()
        if key.startswith(("final_proj", "label_embedding", "masked_spec_embed"))
    )
    assert model.num_parameters() + left_out == PARAMETERS[size]


def test_sizes_that_no_tensor_shows_are_asked_for(weights: dict[str, Tensor]) -> None:
    with pytest.raises(
        ConversionError, match=r"tensors do not tell num_attention_heads, conv_stride: .*--config"
    ):
        convert_official(OfficialState(weights))


def test_a_pickled_configuration_is_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(
        {"model_config": SimpleNamespace(hidden_size=32), "model_state_dict": weights}, tmp_path / "x.pt"
    )
    with pytest.raises(ConversionError, match="safetensors"):
        convert_checkpoint("hubert-ecg", tmp_path / "x.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_key_counts(weights: dict[str, Tensor], sizes: dict[str, object]) -> None:
    spoilt = dict(weights)
    del spoilt["encoder.layers.1.attention.k_proj.bias"]
    spoilt["encoder.layer_norm.bias"] = torch.zeros(3)
    spoilt["stray"] = torch.zeros(1)
    state = OfficialState(spoilt, sizes)
    convert_official(state)
    with pytest.raises(ConversionError) as error:
        state.finish()
    assert error.value.value == {
        "missing": ["encoder.layers.1.attention.k_proj.bias"],
        "mis-shaped": ["encoder.layer_norm.bias is (3,), not (32,)"],
        "unexpected": ["stray"],
    }


def test_the_folder_has_the_published_extractor(
    weights: dict[str, Tensor], sizes: dict[str, object], tmp_path: Path
) -> None:
    extractor = AutoFeatureExtractor.from_pretrained(converted(weights, sizes, tmp_path))
    assert (extractor.decimate, extractor.sampling_rate, extractor.n_samples) == ("flat", 100, 500)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "cc-by-nc-4.0" in card
    assert "decimation by 5 over all leads laid end to end" in card
