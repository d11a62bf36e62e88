"""D-BETA against its official code: ECG branch, text, fusion, masks, losses, gradients, files."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, AutoModelForPreTraining

from ecg_hf import DBetaConfig, DBetaForEcgClassification, DBetaForPreTraining, DBetaModel
from ecg_hf.errors import ConfigurationError, ConversionError
from ecg_hf.hub.converting import convert_checkpoint, recognise_checkpoint
from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.d_beta.conversion_d_beta import convert_official
from ecg_hf.models.registry import METHODS, get_method
from ecg_hf.nn.tokenizers import gather_tokens

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 0.0, "atol": 1e-5}
BRANCH = ("class_embedding", "ecg_encoder.", "multi_modal_ecg_proj.", "unimodal_ecg_pooler.")


@pytest.fixture(scope="module")
def official(shared_fixtures: Path) -> Path:
    return shared_fixtures / "d_beta"


@pytest.fixture(scope="module")
def expected(official: Path) -> dict[str, Tensor]:
    return load_file(official / "tiny_io.safetensors")


@pytest.fixture(scope="module")
def weights(official: Path) -> dict[str, Tensor]:
    return load_file(official / "tiny_state_dict.safetensors")


@pytest.fixture(scope="module")
def sizes(official: Path) -> dict[str, Any]:
    """The authors' configuration, as the fixture tells it."""
    with safe_open(official / "tiny_state_dict.safetensors", "pt") as file:
        return json.loads(file.metadata()["config"])


@pytest.fixture(scope="module")
def folder(
    weights: dict[str, Tensor], sizes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("d_beta")
    mask = {"ecg_encoder.mask_emb": torch.zeros(32)}
    torch.save({"model": {**weights, **mask}}, folder / "sample.pt")
    assert recognise_checkpoint(folder / "sample.pt")[0] == "d-beta"
    report = convert_checkpoint("c-melt", folder / "sample.pt", folder / "out", config=sizes)
    assert "CC BY-NC 4.0" in report.summary()
    return folder / "out"


@pytest.fixture(scope="module")
def pretraining(folder: Path) -> DBetaForPreTraining:
    model = AutoModelForPreTraining.from_pretrained(folder).eval()
    assert type(model) is DBetaForPreTraining
    return model


def test_encoders(folder: Path, expected: dict[str, Tensor]) -> None:
    model = AutoModel.from_pretrained(folder).eval()
    assert type(model) is DBetaModel
    ecg = expected["input.ecg"]
    torch.testing.assert_close(model.embed(ecg), expected["ecg.token_embeddings"], **CLOSE)
    output = model(ecg)
    torch.testing.assert_close(output.last_hidden_state, expected["ecg.last_hidden_state"], **CLOSE)
    torch.testing.assert_close(output.pooler_output, expected["ecg.feature"], **CLOSE)
    torch.testing.assert_close(model.projection(output.last_hidden_state), expected["ecg.projected"], **CLOSE)
    ids, mask = expected["input.text"], expected["input.text_attention_mask"]
    texts = model.encode_texts(ids, mask)
    torch.testing.assert_close(model.pool_texts(texts), expected["text.feature"], **CLOSE)
    for attention, name in ((torch.ones_like(mask), "no_mask"), (mask, "masked_not_official")):
        tower = model.text_encoder(input_ids=ids, attention_mask=attention).last_hidden_state
        torch.testing.assert_close(tower, expected[f"text.t5_out_{name}"], **CLOSE)


def test_fusion_of_all_tokens(pretraining: DBetaForPreTraining, expected: dict[str, Tensor]) -> None:
    model, mask = pretraining.d_beta, expected["input.text_attention_mask"]
    texts = model.encode_texts(expected["input.text"], mask)
    text, ecg, _ = pretraining.fusion(texts, expected["ecg.projected"], mask == 0, None)
    torch.testing.assert_close(ecg, expected["nomask.multi_modal_ecg_feats"], **CLOSE)
    poolers = pretraining.fused_text_pooler, pretraining.fused_ecg_pooler
    pair = torch.cat([pooler(x[:, 0]).tanh() for pooler, x in zip(poolers, (text, ecg), strict=True)], -1)
    torch.testing.assert_close(pair, expected["nomask.multi_modal_cls_feats"], **CLOSE)
    torch.testing.assert_close(pretraining.match_head(pair), expected["nomask.etm_logits"], **CLOSE)


def test_losses_and_gradients(pretraining: DBetaForPreTraining, expected: dict[str, Tensor]) -> None:
    pretraining.zero_grad()
    output = pretraining(
        expected["input.ecg"],
        input_ids=expected["input.text"],
        attention_mask=expected["input.text_attention_mask"],
        noise=expected["mask.noise"],
        mlm_labels=expected["input.mlm_labels"],
        is_aligned=expected["input.is_aligned"],
    )
    names = {"masked_words": "mlm", "reconstruction": "mem", "matching": "etm", "siglip": "ets"}
    for ours, theirs in names.items():
        torch.testing.assert_close(output.loss_terms[ours], expected[f"loss.{theirs}"], **CLOSE)
    torch.testing.assert_close(output.loss, expected["loss.total"], **CLOSE)
    rebuilt = expected["mask.mem_logits"].flatten(2)
    torch.testing.assert_close(output.reconstruction, gather_tokens(rebuilt, output.masked_index), **CLOSE)
    hidden = torch.zeros(3, 25).scatter(1, output.masked_index, 1.0)
    assert torch.equal(hidden, expected["mask.mem_masks"])
    torch.testing.assert_close(
        pretraining._target(expected["input.ecg"]), expected["mask.mem_target"], **CLOSE
    )

    output.loss.backward()
    base, layer = pretraining.d_beta, pretraining.d_beta.encoder.layers.blocks[0]
    fused = pretraining.fusion.ecg_layers[0].cross_attention
    found = {
        "class_embedding": base.class_token,
        "ecg_encoder.conv_pos.pos_conv.0.weight_g": base.encoder.positions.scale,
        "ecg_encoder.feature_extractor.conv_layers.0.0.weight": base.encoder.stem.convolutions[0].weight,
        "ecg_encoder.layer_norm.weight": base.encoder.stem_norm.weight,
        "itm_head.fc.weight": pretraining.match_head.weight,
        "mlm_head.bias": pretraining.word_head.bias,
        "modality_type_embeddings.weight": pretraining.fusion.modality,
        "multi_modal_ecg_proj.weight": base.projection.weight,
        "unimodal_ecg_pooler.dense.bias": base.pooler.bias,
    }
    gradients = {name: parameter.grad for name, parameter in found.items()}
    gradients["ecg_encoder.encoder.layers.0.self_attn.q_proj.weight"] = layer.attention.qkv.weight.grad[:32]
    gradients["multi_modal_ecg_layers.0.crossattention.self.key.weight"] = fused.in_proj_weight.grad[24:48]
    gradients["mim_head.mask_token"] = pretraining.decoder.mask_token.grad[None, None]
    assert {f"grad.{name}" for name in gradients} == {key for key in expected if key.startswith("grad.")}
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[f"grad.{name}"], **CLOSE)


@pytest.mark.parametrize("pooled", [True, False], ids=["with pooler", "encoder"])
def test_a_branch_alone(
    pooled: bool,
    weights: dict[str, Tensor],
    sizes: dict[str, Any],
    expected: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    kept = BRANCH if pooled else BRANCH[:2]
    torch.save({key: value for key, value in weights.items() if key.startswith(kept)}, tmp_path / "ecg.pt")
    convert_checkpoint("d-beta", tmp_path / "ecg.pt", tmp_path / "out", config=sizes)
    model = AutoModel.from_pretrained(tmp_path / "out").eval()
    output = model(expected["input.ecg"])
    tokens = expected["ecg.last_hidden_state"]
    torch.testing.assert_close(output.last_hidden_state, tokens, **CLOSE)
    embedding = expected["ecg.feature"] if pooled else tokens[:, 0]
    torch.testing.assert_close(output.pooler_output, embedding, **CLOSE)
    with pytest.raises(ConfigurationError, match="no text side"):
        model.get_text_features(torch.ones(1, 4, dtype=torch.long))
    for pooling in ("mean", "attention"):
        classifier = DBetaForEcgClassification.from_pretrained(
            tmp_path / "out", num_labels=3, classifier_pooling=pooling
        )
        assert classifier(expected["input.ecg"]).logits.shape == (3, 3)


def test_the_published_branch(official: Path) -> None:
    """Keys and shapes: all accounted for, sizes recognised, the official parameter count."""
    shapes = json.loads((official / "state_dict_shapes_ecg_branch.json").read_text())
    shapes = shapes.get("shapes", shapes)
    assert len(shapes) == 148
    assert sum(map(prod, shapes.values())) == 63_203_712
    state = OfficialState({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()})
    converted = convert_official(state)
    state.finish()
    with torch.device("meta"):
        model = DBetaModel(converted.config)
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert own == {name: tuple(tensor.shape) for name, tensor in converted.state_dict.items()}
    assert model.num_parameters() == 63_203_712
    base = DBetaConfig.preset("base", parts="branch", fusion_heads=1)
    assert converted.config.to_dict() == base.to_dict()


def test_sizes_that_are_not_known_are_named(weights: dict[str, Tensor], sizes: dict[str, Any]) -> None:
    with pytest.raises(ConversionError, match="encoder_attention_heads, conv_feature_layers"):
        convert_official(OfficialState(weights))
    encoder = {name: sizes[name] for name in ("encoder_attention_heads", "conv_feature_layers")}
    with pytest.raises(ConversionError, match="num_heads, mem_layer, mem_decoder_num_heads"):
        convert_official(OfficialState(weights, encoder))


def test_neighbours_swap_reports() -> None:
    model = DBetaForPreTraining(DBetaConfig.preset("micro"))
    ids = torch.tensor([[5, 6], [7, 8], [9, 9], [9, 9], [4, 0]])
    mask = torch.tensor([[1, 1]] * 4 + [[1, 0]])
    noise = torch.tensor([[0.1], [0.9], [0.2], [0.9], [0.0]])
    swapped, kept, aligned = model._swap(ids, mask, noise)
    assert swapped.tolist() == [[7, 8], [5, 6], [9, 9], [9, 9], [4, 0]]
    assert torch.equal(kept, mask)
    assert aligned.tolist() == [False, False, True, True, True]  # equal reports still belong


def test_the_first_name_means_it_too() -> None:
    assert get_method("c-melt") is METHODS["d-beta"]
