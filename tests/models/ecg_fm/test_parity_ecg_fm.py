"""ECG-FM against its official code: preprocessing, network, classifier, files; and how pieces become one."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel

from ecg_hf.errors import ConfigurationError, ConversionError
from ecg_hf.hub.converting import convert_checkpoint
from ecg_hf.models.auto import AutoModelForEcgClassification
from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.ecg_fm.configuration_ecg_fm import EcgFmConfig
from ecg_hf.models.ecg_fm.conversion_ecg_fm import convert_official
from ecg_hf.models.ecg_fm.feature_extraction_ecg_fm import EcgFmFeatureExtractor
from ecg_hf.models.ecg_fm.labels_ecg_fm import LABELS
from ecg_hf.models.ecg_fm.modeling_ecg_fm import (
    EcgFmForEcgClassification,
    EcgFmForPreTraining,
    EcgFmModel,
)
from ecg_hf.signal import STANDARD_LEADS

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 0.0, "atol": 1e-5}
HEADS = ("quantizer", "project_q", "final_proj", "mask_emb")


@pytest.fixture(scope="module")
def official(shared_fixtures: Path) -> Path:
    return shared_fixtures / "ecg_fm"


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
def model(
    weights: dict[str, Tensor], sizes: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> EcgFmModel:
    """A checkpoint as fairseq writes it, with its configuration inside, converted and loaded."""
    folder = tmp_path_factory.mktemp("ecg_fm")
    torch.save({"args": None, "cfg": {"model": sizes}, "model": weights}, folder / "tiny.pt")
    convert_checkpoint("ecg-fm", folder / "tiny.pt", folder / "out")
    loaded = AutoModel.from_pretrained(folder / "out").eval()
    assert type(loaded) is EcgFmModel
    return loaded


def test_embeddings_and_layers(model: EcgFmModel, expected: dict[str, Tensor]) -> None:
    output = model(expected["input"], output_hidden_states=True)
    torch.testing.assert_close(output.last_hidden_state, expected["eval.last_hidden_state"], **CLOSE)
    torch.testing.assert_close(output.pooler_output, expected["eval.pooler_output"], **CLOSE)
    for index in (0, 1):
        torch.testing.assert_close(output.hidden_states[index + 1], expected[f"eval.layer{index}"], **CLOSE)
    tower = model.encoder
    stem = tower.stem(expected["input"])
    torch.testing.assert_close(stem, expected["eval.conv_features"], **CLOSE)
    torch.testing.assert_close(tower.stem_norm(stem), expected["eval.conv_features_ln"], **CLOSE)
    torch.testing.assert_close(tower.embed(expected["input"]), expected["eval.pos_conv_in"], **CLOSE)
    torch.testing.assert_close(
        tower.positions(expected["eval.pos_conv_in"]), expected["eval.pos_conv"], **CLOSE
    )


def test_padded_records(model: EcgFmModel, expected: dict[str, Tensor]) -> None:
    valid = torch.arange(400) < expected["pad.valid_samples"].reshape(-1, 1)
    output = model(expected["input"] * valid[:, None], attention_mask=valid.long())
    held = ~expected["pad.token_padding_mask"].bool()
    tokens = output.last_hidden_state
    torch.testing.assert_close(tokens[held], expected["pad.last_hidden_state"][held], **CLOSE)
    torch.testing.assert_close(output.pooler_output, expected["pad.pooler_output"], **CLOSE)
    assert torch.equal(model.token_mask(expected["input"], None, valid), held)
    with pytest.raises(ConfigurationError, match="mask of samples"):
        model(expected["input"], attention_mask=held)


def test_classifier(
    weights: dict[str, Tensor], sizes: dict[str, object], expected: dict[str, Tensor], tmp_path: Path
) -> None:
    tuned = {f"encoder.{key}": value for key, value in weights.items() if not key.startswith(HEADS)}
    head = {f"proj.{name}": expected[f"cls_head.{name}"] for name in ("weight", "bias")}
    torch.save({"model": {**tuned, **head}}, tmp_path / "tuned.pt")
    convert_checkpoint("ecg-fm", tmp_path / "tuned.pt", tmp_path / "out", config=sizes)
    model = AutoModelForEcgClassification.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(model(expected["input"]).logits, expected["cls.logits"], **CLOSE)


def test_preprocessing(official: Path) -> None:
    recorded = load_file(official / "preprocess.safetensors")
    rate = float(recorded["rate"])
    extractor = EcgFmFeatureExtractor()
    values = extractor(recorded["input"].numpy(), rate, STANDARD_LEADS, return_tensors="pt")["input_values"][
        0
    ]
    assert values.shape == (12, 5000)
    torch.testing.assert_close(values[1].view(2, 2500), recorded["segments_lead1"].float(), **CLOSE)
    standardised = recorded["standardised_leads_0_7_11"][:, :5000].float()
    torch.testing.assert_close(values[[0, 7, 11]], standardised, **CLOSE)


def test_published_files(official: Path) -> None:
    """Keys and shapes of the published size: all accounted for, sizes recognised, the official parameter count."""
    shapes = json.loads((official / "state_dict_shapes.json").read_text())
    assert len(shapes) == 215
    assert sum(map(prod, shapes.values())) == 90_883_072
    state = OfficialState({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()})
    converted = convert_official(state)
    state.finish()
    assert converted.config.to_dict() == EcgFmConfig.preset("base").to_dict()
    assert converted.role == "pretraining"
    with torch.device("meta"):
        model = EcgFmForPreTraining(converted.config)
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert own == {name: tuple(tensor.shape) for name, tensor in converted.state_dict.items()}
    assert model.num_parameters() == 90_883_072
    # Without any of the heads the network alone is converted.
    tower = OfficialState(
        {key: torch.zeros(()).expand(shape) for key, shape in shapes.items() if not key.startswith("quant")}
    )
    alone = convert_official(tower)
    tower.finish()
    assert alone.role == "model"


def test_a_fine_tuned_file_names_its_labels_and_how_pieces_become_one(official: Path) -> None:
    shapes = json.loads((official / "state_dict_shapes.json").read_text())
    tuned = {f"encoder.{key}": shape for key, shape in shapes.items() if not key.startswith(HEADS)}
    tuned |= {"proj.weight": [17, 768], "proj.bias": [17]}
    state = OfficialState({key: torch.zeros(()).expand(shape) for key, shape in tuned.items()})
    converted = convert_official(state)
    state.finish()
    assert converted.role == "classification"
    assert list(converted.config.id2label.values()) == list(LABELS)
    assert converted.config.piece_pooling == list(LABELS.values())


def test_ten_seconds_are_two_pieces(model: EcgFmModel, expected: dict[str, Tensor]) -> None:
    config = EcgFmConfig.from_dict({**model.config.to_dict(), "window_samples": 200})
    pieced = EcgFmModel(config).eval()
    pieced.load_state_dict(model.state_dict())
    values = expected["input"]
    output = pieced(values)
    halves = [pieced(values[..., :200]), pieced(values[..., 200:])]
    tokens = torch.cat([half.last_hidden_state for half in halves], dim=1)
    torch.testing.assert_close(output.last_hidden_state, tokens)
    torch.testing.assert_close(
        output.pooler_output, torch.stack([half.pooler_output for half in halves]).mean(0)
    )
    # A record that ends in the second piece: what it lacks is masked.
    shorter = pieced(values[..., :300])
    mask = pieced.token_mask(values[..., :300])
    assert mask.tolist() == [[True] * 12 + [True] * 7 + [False] * 5] * 4
    torch.testing.assert_close(
        shorter.pooler_output,
        pieced(values, sample_mask=(torch.arange(400) < 300).expand(4, -1)).pooler_output,
    )


def test_probabilities_of_pieces_become_their_mean_or_their_largest() -> None:
    torch.manual_seed(0)
    options = {"window_samples": 250, "num_labels": 2, "problem_type": "multi_label_classification"}
    classifier = EcgFmForEcgClassification(
        EcgFmConfig.preset("micro", piece_pooling=["mean", "max"], **options)
    ).eval()
    values = 3.0 * torch.randn(4, 12, 500)
    pieces = [classifier(values[..., cut]).logits.sigmoid() for cut in (slice(250), slice(250, 500))]
    found = classifier(values).logits.sigmoid()
    torch.testing.assert_close(found[:, 0], (pieces[0] + pieces[1])[:, 0] / 2)
    torch.testing.assert_close(found[:, 1], torch.maximum(*pieces)[:, 1])
    labels = torch.ones(4, 2)
    loss = classifier(values, labels=labels).loss
    torch.testing.assert_close(loss, torch.nn.functional.binary_cross_entropy(found, labels))
    # Only the first piece holds signal.
    first = classifier(values, sample_mask=(torch.arange(500) < 250).expand(4, -1)).logits.sigmoid()
    torch.testing.assert_close(first, pieces[0])


def test_wrong_ways_to_make_pieces_one_are_refused() -> None:
    for pooling in (["mean"], ["mean", "median"]):
        with pytest.raises(ConfigurationError, match="piece_pooling"):
            EcgFmConfig.preset("micro", piece_pooling=pooling, num_labels=2)


@pytest.mark.parametrize("layers", ["__import__('os').system('true')", "[]", 3, "[(16, 2)] * 4", "x" * 2000])
def test_layers_are_read_never_evaluated(
    layers: object, weights: dict[str, Tensor], sizes: dict[str, object]
) -> None:
    with pytest.raises(ConversionError, match="conv_feature_layers must be text"):
        convert_official(OfficialState(weights, {**sizes, "conv_feature_layers": layers}))


def test_sizes_that_no_tensor_shows_are_asked_for(weights: dict[str, Tensor]) -> None:
    with pytest.raises(
        ConversionError, match="tensors do not tell encoder_attention_heads, conv_feature_layers"
    ):
        convert_official(OfficialState(weights))


def test_every_key_counts(weights: dict[str, Tensor], sizes: dict[str, object]) -> None:
    spoilt = dict(weights)
    del spoilt["encoder.layers.1.fc2.bias"]
    spoilt["layer_norm.bias"] = torch.zeros(3)
    spoilt["stray"] = torch.zeros(1)
    state = OfficialState(spoilt, sizes)
    convert_official(state)
    with pytest.raises(ConversionError) as error:
        state.finish()
    assert error.value.value == {
        "missing": ["encoder.layers.1.fc2.bias"],
        "mis-shaped": ["layer_norm.bias is (3,), not (16,)"],
        "unexpected": ["stray"],
    }
