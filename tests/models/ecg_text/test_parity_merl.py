"""MERL against its official code: encoder, attention pool, projections, both losses, zero-shot, files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForPreTraining, BertConfig, BertModel

from ecg_hf import MerlConfig, MerlFeatureExtractor, MerlForEcgClassification, MerlForPreTraining, MerlModel
from ecg_hf.errors import ConfigurationError, ConversionError
from ecg_hf.hub.converting import convert_checkpoint, recognise_checkpoint
from ecg_hf.metrics.ranking import macro_auroc
from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.ecg_text.conversion_merl import LEADS, convert_official
from ecg_hf.nn.collapse import pair_accuracy
from ecg_hf.nn.precision import similarity

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 0.0, "atol": 1e-5}
SIZES = {"resnet18": {"options": {"num_attention_heads": 4}}, "vit": {"config": {"heads": 2, "dim_head": 64}}}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


@pytest.fixture(scope="module", params=["resnet18", "vit"])
def official(request: pytest.FixtureRequest, shared_fixtures: Path) -> tuple[str, dict[str, Tensor]]:
    return request.param, load_file(shared_fixtures / "merl" / f"tiny_{request.param}_ecgclip.safetensors")


@pytest.fixture(scope="module")
def folder(official: tuple[str, dict[str, Tensor]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training checkpoint as the authors write it, converted."""
    name, tensors = official
    folder = tmp_path_factory.mktemp(name)
    state = {f"module.{key}": value for key, value in part(tensors, "state.").items()}
    torch.save({"epoch": 3, "model_state_dict": state}, folder / "official.pth")
    known: dict[str, Any] = SIZES[name]
    convert_checkpoint(
        "merl",
        folder / "official.pth",
        folder / "out",
        config=known.get("config"),
        **known.get("options", {}),
    )
    return folder / "out"


def test_encoder_and_embeddings(official: tuple[str, dict[str, Tensor]], folder: Path) -> None:
    name, expected = official
    model = AutoModel.from_pretrained(folder).eval()
    assert type(model) is MerlModel
    ecg = expected["input.ecg"]
    output = model(ecg)
    if name == "vit":
        torch.testing.assert_close(output.pooler_output, expected["out.encoder_features"], **CLOSE)
        assert output.last_hidden_state.shape == (6, 8, 32)
    else:
        tokens = expected["out.encoder_features"].transpose(1, 2)
        torch.testing.assert_close(output.last_hidden_state, tokens, **CLOSE)
        torch.testing.assert_close(output.pooler_output, expected["out.avgpool_features"], **CLOSE)
    torch.testing.assert_close(model.get_ecg_features(ecg), expected["out.proj_ecg_emb"], **CLOSE)
    embedding, features = model.project_ecg(output.last_hidden_state, output.pooler_output)
    torch.testing.assert_close(embedding, expected["out.ext_ecg_emb"], **CLOSE)
    if name == "resnet18":
        torch.testing.assert_close(embedding, expected["out.att_pool"], **CLOSE)
        torch.testing.assert_close(features, expected["out.avgpool_downconv"], **CLOSE)
    texts = F.normalize(model.project_texts(expected["input.text_pooler_output"]), dim=-1)
    torch.testing.assert_close(texts, expected["out.proj_text_emb"], **CLOSE)


def test_losses(official: tuple[str, dict[str, Tensor]], folder: Path) -> None:
    _, expected = official
    model = AutoModelForPreTraining.from_pretrained(folder, view_dropout=0.0).eval()
    assert type(model) is MerlForPreTraining
    output = model(expected["input.ecg"], text_pooled=expected["input.text_pooler_output"])
    torch.testing.assert_close(output.loss_terms["contrastive"], expected["out.cma_loss"], **CLOSE)
    torch.testing.assert_close(output.loss_terms["unimodal"], expected["out.uma_loss"], **CLOSE)
    torch.testing.assert_close(output.loss, expected["out.total_loss"], **CLOSE)
    torch.testing.assert_close(output.ecg_embeds, expected["out.proj_ecg_emb"], **CLOSE)
    for top in (1, 5):
        accuracy = 100 * pair_accuracy(output.ecg_embeds, output.text_embeds, top=top)
        torch.testing.assert_close(accuracy, expected[f"out.cma_acc{top}"][0])


def test_projector_of_the_vit_in_training(shared_fixtures: Path, tmp_path: Path) -> None:
    expected = load_file(shared_fixtures / "merl" / "tiny_vit_ecgclip.safetensors")
    save_file(part(expected, "state."), tmp_path / "vit.safetensors")
    convert_checkpoint("merl", tmp_path / "vit.safetensors", tmp_path / "out", config=SIZES["vit"]["config"])
    model = MerlForPreTraining.from_pretrained(tmp_path / "out").train()
    head = model.ecg_text.signal_projection
    features = expected["out.encoder_features"]
    found = head(features[:, None], features, None)[0]
    torch.testing.assert_close(found, expected["out.proj_e_train_mode"], **CLOSE)
    norm = head.layers[1]
    torch.testing.assert_close(
        norm.running_mean, expected["out.proj_e_train_mode.running_mean_after"], **CLOSE
    )
    torch.testing.assert_close(norm.running_var, expected["out.proj_e_train_mode.running_var_after"], **CLOSE)


@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_loss_and_gradients(shared_fixtures: Path, temperature: float) -> None:
    expected = load_file(shared_fixtures / "merl" / "clip_loss.safetensors")
    name = f"tau{temperature}"
    first, second = (expected[key].clone().requires_grad_() for key in "xy")
    model = MerlForPreTraining(MerlConfig.preset("micro", temperature=temperature, unimodal_weight=0.0))
    loss = model.weighted_sum(model.terms({"ecg": first, "text": second}))
    loss.backward()
    torch.testing.assert_close(loss, expected[f"{name}.loss"], **CLOSE)
    torch.testing.assert_close(first.grad, expected[f"{name}.grad_x"], **CLOSE)
    torch.testing.assert_close(second.grad, expected[f"{name}.grad_y"], **CLOSE)
    for top in (1, 5):
        accuracy = 100 * pair_accuracy(first, second, top=top)
        torch.testing.assert_close(accuracy, expected[f"{name}.acc{top}"][0])


def test_zero_shot_scores(shared_fixtures: Path) -> None:
    expected = load_file(shared_fixtures / "merl" / "zeroshot.safetensors")
    config = MerlConfig.preset(
        "micro", text_side="head", projection_dim=16, projection_hidden_size=20, text_config=None
    )
    model = MerlModel(config).eval()
    model.text_projection.load_state_dict(part(expected, "state.proj_t."))
    texts = F.normalize(model.project_texts(expected["input.text_pooler_output"]), dim=-1)
    torch.testing.assert_close(texts.T, expected["out.class_weights_DxK"], **CLOSE)
    scores = similarity(F.normalize(expected["input.ecg_emb"], dim=-1), texts)
    torch.testing.assert_close(scores, expected["out.logits"], **CLOSE)
    labels = expected["input.labels"].numpy()
    assert macro_auroc(labels, scores.detach().numpy())[0] == pytest.approx(
        float(expected["out.macro_auroc"])
    )


def test_an_encoder_alone(shared_fixtures: Path, tmp_path: Path) -> None:
    """Bottleneck blocks; the file's unused classifier is left out, and there is nothing to ask zero-shot."""
    expected = load_file(shared_fixtures / "merl" / "tiny_resnet50_encoder.safetensors")
    save_file(part(expected, "state."), tmp_path / "encoder.safetensors")
    report = convert_checkpoint("merl", tmp_path / "encoder.safetensors", tmp_path / "out")
    assert "MIT" in " ".join(report.notes)
    assert "MIT" in (tmp_path / "out" / "README.md").read_text()
    model = AutoModel.from_pretrained(tmp_path / "out").eval()
    output = model(expected["input.ecg"])
    tokens = expected["out.encoder_features"].transpose(1, 2)
    torch.testing.assert_close(output.last_hidden_state, tokens, **CLOSE)
    torch.testing.assert_close(output.pooler_output, tokens.mean(1), **CLOSE)
    with pytest.raises(ConfigurationError, match="encoder alone"):
        model.get_ecg_features(expected["input.ecg"])
    with pytest.raises(ConfigurationError, match="no text tower"):
        model.get_text_features(torch.ones(1, 4, dtype=torch.long))
    with pytest.raises(ConfigurationError, match="nothing to align"):
        MerlForPreTraining(model.config)
    classifier = MerlForEcgClassification.from_pretrained(tmp_path / "out", num_labels=3)
    assert classifier(expected["input.ecg"]).logits.shape == (2, 3)


def test_a_file_with_its_text_tower(shared_fixtures: Path, tmp_path: Path) -> None:
    official = load_file(shared_fixtures / "merl" / "tiny_vit_ecgclip.safetensors")
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "num_hidden_layers": 1, "intermediate_size": 32, "max_position_embeddings": 16}
    tower = BertModel(BertConfig(**sizes)).eval()
    language = {f"lm_model.{key}": value for key, value in tower.state_dict().items()}
    language["lm_model.embeddings.position_ids"] = torch.arange(16)[None]
    torch.save({**part(official, "state."), **language}, tmp_path / "whole.pth")
    convert_checkpoint("merl", tmp_path / "whole.pth", tmp_path / "out", config=SIZES["vit"]["config"])
    assert recognise_checkpoint(tmp_path / "whole.pth")[0] == "merl"
    model = AutoModel.from_pretrained(tmp_path / "out").eval()
    assert not any(parameter.requires_grad for parameter in model.text_encoder.parameters())
    ids = torch.randint(60, (3, 9))
    expected = tower(input_ids=ids).pooler_output
    torch.testing.assert_close(model.pool_texts(ids), expected, **CLOSE)
    found = model(official["input.ecg"], input_ids=ids)
    torch.testing.assert_close(found.ecg_embeds, official["out.proj_ecg_emb"], **CLOSE)
    assert found.logits_per_ecg.shape == (6, 3)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 3_848_832),
        ("resnet34", None),
        ("resnet50", None),
        ("resnet101", None),
        ("vit_tiny", 5_473_152),
        ("vit_small", None),
        ("vit_middle", None),
        ("vit_base", None),
    ],
)
def test_published_encoders(shared_fixtures: Path, name: str, parameters: int | None) -> None:
    """Keys and shapes of the published sizes: all accounted for, sizes recognised without being told."""
    shapes = json.loads((shared_fixtures / "merl" / "state_dict_shapes.json").read_text())[f"encoder/{name}"]
    state = OfficialState({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()})
    converted = convert_official(state)
    state.finish()
    assert converted.config.lead_names == list(LEADS)
    assert converted.config.num_samples == 5000
    with torch.device("meta"):
        model = MerlModel(converted.config)
    own = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert own == {key: tuple(tensor.shape) for key, tensor in converted.state_dict.items()}
    assert parameters in (None, model.num_parameters())


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny"])
def test_published_whole_files(shared_fixtures: Path, name: str) -> None:
    shapes = json.loads((shared_fixtures / "merl" / "state_dict_shapes.json").read_text())[f"ECGCLIP/{name}"]
    state = OfficialState({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()})
    converted = convert_official(state)
    state.finish()
    variant = "full" if name == "resnet18" else "vit"
    expected = MerlConfig.preset("base", variant=variant, lead_names=list(LEADS), text_side="head")
    assert converted.config.to_dict() == expected.to_dict()
    with torch.device("meta"):
        model = MerlForPreTraining(converted.config)
    own = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert own == {key: tuple(tensor.shape) for key, tensor in converted.state_dict.items()}


def test_what_is_not_known_or_does_not_fit_is_named(shared_fixtures: Path) -> None:
    folder = shared_fixtures / "merl"
    resnet, vit = (
        part(load_file(folder / f"tiny_{name}_ecgclip.safetensors"), "state.") for name in ("resnet18", "vit")
    )
    for tensors, missing in ((resnet, "heads"), (vit, "heads, dim_head")):
        with pytest.raises(ConversionError, match=f"tensors do not tell {missing}: .*--config"):
            convert_official(OfficialState(tensors))
    with pytest.raises(ConversionError, match="3 heads of width 42"):
        convert_official(OfficialState(vit), num_attention_heads=3)
    with pytest.raises(ConversionError, match="not a checkpoint of this method"):
        convert_official(OfficialState({"something.weight": torch.zeros(2)}))
    tuned = OfficialState(
        {**vit, "ecg_encoder.head.weight": torch.zeros(5, 32)}, {"heads": 2, "dim_head": 64}
    )
    assert any("classifier" in note for note in convert_official(tuned).notes)
    tuned.finish()
    state = OfficialState({**resnet, "stray": torch.zeros(1)}, {"heads": 4})
    convert_official(state)
    with pytest.raises(ConversionError, match="1 unexpected: stray"):
        state.finish()


def test_preprocessing(shared_fixtures: Path) -> None:
    recorded = load_file(shared_fixtures / "merl" / "signal_scaling.safetensors")
    names = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    extractor = MerlFeatureExtractor(lead_names=LEADS, duration_s=0.8)
    values = extractor(recorded["input.signal_mV_f64"].numpy(), 500.0, names, return_tensors="pt")
    expected = recorded["out.downstream_minmax_avl_avf_swapped_f32"]
    torch.testing.assert_close(values["input_values"][0], expected, **CLOSE)
