"""ECG-JEPA (Weimann) against its official code, through files as its scripts save them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining

from ecg_hf.errors import ConversionError, EcgError
from ecg_hf.hub.converting import convert_checkpoint
from ecg_hf.models.auto import AutoModelForEcgClassification
from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.weimann_jepa.configuration_weimann_jepa import WeimannJepaConfig
from ecg_hf.models.weimann_jepa.conversion_weimann_jepa import convert_official
from ecg_hf.models.weimann_jepa.modeling_weimann_jepa import WeimannJepaForPreTraining, WeimannJepaModel
from ecg_hf.nn.ema import ema_update
from ecg_hf.signal.leads import STANDARD_LEADS

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 0.0, "atol": 1e-5}
PARAMETERS = {"extra-small": 3_600_000, "small": 14_277_888, "base": 85_185_024}


@pytest.fixture(scope="module")
def official(shared_fixtures: Path) -> Path:
    return shared_fixtures / "weimann_ecg_jepa"


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
        told: dict[str, Any] = json.loads(file.metadata()["config"])
    return told


@pytest.fixture(scope="module")
def whole(
    weights: dict[str, Tensor], sizes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The file of the official pretraining, converted."""
    folder = tmp_path_factory.mktemp("weimann")
    torch.save(
        {"model": weights, "config": sizes, "step": 10, "optimizer": {"state": {}}}, folder / "chkpt.pt"
    )
    report = convert_checkpoint("weimann-jepa", folder / "chkpt.pt", folder / "out")
    assert report.model_class == "WeimannJepaForPreTraining"
    return folder / "out"


def teacher(weights: dict[str, Tensor], prefix: str = "target_encoder.") -> dict[str, Tensor]:
    return {
        prefix + key.removeprefix("target_encoder."): value
        for key, value in weights.items()
        if key.startswith("target_encoder.")
    }


def test_the_teacher_is_what_is_loaded(whole: Path, expected: dict[str, Tensor]) -> None:
    model, info = AutoModel.from_pretrained(whole, output_loading_info=True)
    assert type(model) is WeimannJepaModel
    assert not info["missing_keys"]
    output = model.eval()(expected["input"])
    torch.testing.assert_close(output.last_hidden_state, expected["target_tokens"], **CLOSE)
    torch.testing.assert_close(output.pooler_output, expected["pooler_mean"], **CLOSE)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("prefix", ["target_encoder.", "encoder.", "", "module.target_encoder."])
def test_files_of_one_encoder(
    weights: dict[str, Tensor],
    sizes: dict[str, Any],
    expected: dict[str, Tensor],
    tmp_path: Path,
    prefix: str,
) -> None:
    """The authors' smaller file, and the same under other names; then more pretraining."""
    save_file(teacher(weights, prefix), tmp_path / "model.safetensors")
    report = convert_checkpoint(
        "weimann-jepa", tmp_path / "model.safetensors", tmp_path / "out", config=sizes
    )
    assert report.model_class == "WeimannJepaModel"
    output = AutoModel.from_pretrained(tmp_path / "out").eval()(expected["input"])
    torch.testing.assert_close(output.last_hidden_state, expected["target_tokens"], **CLOSE)
    model = AutoModelForPreTraining.from_pretrained(tmp_path / "out")
    student = model.student.state_dict()
    assert all(
        torch.equal(student[name], value) for name, value in model.weimann_jepa.encoder.state_dict().items()
    )


def test_loss_and_gradients(whole: Path, expected: dict[str, Tensor]) -> None:
    model = AutoModelForPreTraining.from_pretrained(whole)
    assert not any(parameter.requires_grad for parameter in model.weimann_jepa.parameters())
    context = model.student(expected["input"], None, expected["mask_encoder_keep_index"])
    torch.testing.assert_close(context, expected["context_tokens"], **CLOSE)
    times = {
        "visible_times": expected["mask_encoder_keep_index"],
        "masked_times": expected["mask_predictor_index"],
    }
    # The official forward pass begins with the move that ours makes after the step before. It shows in the loss; the
    # fixture's ``after_ema`` is the teacher before it, as the official code replaces tensors.
    assert (model(expected["input"], **times).loss - expected["loss"]).abs() > 5e-5
    ema_update(model.weimann_jepa.encoder, model.student, 0.998)
    present = {"lead_mask": torch.ones(3, 12), "sample_mask": torch.ones(3, 200)}
    for extra in ({}, present):
        model.zero_grad()
        loss = model(expected["input"], **times, **extra).loss
        torch.testing.assert_close(loss, expected["loss"], rtol=0.0, atol=1e-6)
        loss.backward()
        student, predictor = model.student, model.predictor
        found = {
            "encoder.blocks.0.attn.qkv.weight": student.layers.blocks[0].attention.qkv.weight,
            "encoder.norm.weight": student.norm.weight,
            "encoder.patch_embed.proj.weight": student.patch_projection.weight,
            "encoder.registers": student.registers,
            "predictor.mask_token": predictor.mask_token,
            "predictor.proj.weight": predictor.projection.weight,
        }
        assert {f"grad.{name}" for name in found} == {name for name in expected if name.startswith("grad.")}
        for name, parameter in found.items():
            torch.testing.assert_close(
                parameter.grad, expected[f"grad.{name}"], rtol=1e-4, atol=1e-6, msg=name
            )


@pytest.mark.parametrize("layout", ["encoder", "target_encoder", "whole"])
def test_the_authors_attention_pooling(
    weights: dict[str, Tensor],
    sizes: dict[str, Any],
    expected: dict[str, Tensor],
    tmp_path: Path,
    layout: str,
) -> None:
    head = {key: value for key, value in expected.items() if key.startswith("attn_pool.")}
    network = weights if layout == "whole" else teacher(weights, f"{layout}.")
    scale = {"mean": torch.arange(12.0) / 100, "std": 0.1 + torch.arange(12.0) / 100}
    channels = [name.upper() for name in (*STANDARD_LEADS[:4], "aVF", "aVL", *STANDARD_LEADS[6:])]
    content = {
        "model": {**network, **head},
        "config": {**sizes, "channels": channels},
        "eval_config": {"attn_pooling": True, "use_register": False, "bias": False},
        "preprocess": scale,
        "task": "superdiagnostic",
    }
    torch.save(content, tmp_path / "best.pt")
    report = convert_checkpoint("weimann-jepa", tmp_path / "best.pt", tmp_path / "out")
    assert report.model_class == "WeimannJepaForEcgClassification"
    assert any("student" in note for note in report.notes) == (layout == "whole")
    model = AutoModelForEcgClassification.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(model(expected["input"]).logits, expected["attn_pool_logits"], **CLOSE)
    output = AutoModel.from_pretrained(tmp_path / "out").eval()(expected["input"])
    torch.testing.assert_close(output.pooler_output, expected["pooler_mean"], **CLOSE)
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    assert extractor.lead_names[4:6] == ("aVF", "aVL")
    order = [0, 1, 2, 3, 5, 4, *range(6, 12)]
    assert extractor.mean == pytest.approx([index / 100 for index in order])
    assert extractor.std == pytest.approx([0.1 + index / 100 for index in order])
    assert "by its mean and deviation in the data set" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("bias", [False, True])
def test_the_authors_linear_layer(
    weights: dict[str, Tensor], sizes: dict[str, Any], expected: dict[str, Tensor], bias: bool
) -> None:
    head = {"fc.weight": torch.randn(4, 32), **({"fc.bias": torch.randn(4)} if bias else {})}
    state = OfficialState({**teacher(weights, "encoder."), **head}, sizes)
    result = convert_official(state)
    state.finish()
    model = AutoModelForEcgClassification.from_config(result.config).eval()
    model.load_state_dict(result.state_dict)
    logits = torch.nn.functional.linear(expected["pooler_mean"], head["fc.weight"], head.get("fc.bias"))
    torch.testing.assert_close(model(expected["input"]).logits, logits, rtol=1e-4, atol=1e-5)
    told = OfficialState({**teacher(weights, "encoder."), **head}, {**sizes, "use_register": True})
    with pytest.raises(ConversionError, match="pools registers too"):
        convert_official(told)


def test_biases_and_no_registers(weights: dict[str, Tensor], sizes: dict[str, Any]) -> None:
    """Networks of the official configuration that have not been published."""
    tensors = {key: value for key, value in teacher(weights).items() if not key.endswith("registers")}
    for key, value in list(tensors.items()):
        tensors[key.replace(".weight", ".bias")] = torch.full((value.shape[0],), 0.1)
    state = OfficialState(tensors, sizes)
    result = convert_official(state)
    state.finish()
    config = result.config
    assert (config.bias, config.qkv_bias, config.num_registers) == (True, True, 0)
    model = WeimannJepaModel(config)
    model.load_state_dict(result.state_dict)
    assert model(torch.randn(1, 12, 200)).last_hidden_state.shape == (1, 8, 32)


@pytest.mark.parametrize("size", PARAMETERS)
def test_published_sizes_are_recognised(size: str) -> None:
    preset = WeimannJepaConfig.preset(size)
    with torch.device("meta"):
        model = WeimannJepaForPreTraining(preset)
    assert model.weimann_jepa.num_parameters() == PARAMETERS[size]
    ours = {
        "patch_projection": "patch_embed.proj",
        "layers.blocks": "blocks",
        "attention.output": "attn.proj",
        "attention.qkv": "attn.qkv",
        "attention_norm": "norm1",
        "mlp_norm": "norm2",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
        "predictor.embedding": "predictor.embed",
        "predictor.projection": "predictor.proj",
        "weimann_jepa.encoder.": "target_encoder.",
        "student.": "encoder.",
    }
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        for part, theirs in ours.items():
            name = name.replace(part, theirs)
        tensors[name] = torch.zeros(()).expand(value.shape)
    state = OfficialState(tensors)
    result = convert_official(state)
    state.finish()
    assert result.config.to_dict() == preset.to_dict()
    assert {name: value.shape for name, value in result.state_dict.items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }


def test_heads_are_asked_for_by_name(weights: dict[str, Tensor]) -> None:
    with pytest.raises(ConversionError, match=r"tensors do not tell num_heads: .*--config"):
        convert_official(OfficialState(weights))
    with pytest.raises(ConversionError, match="tensors do not tell pred_num_heads"):
        convert_official(OfficialState(weights), num_attention_heads=4)
    config = convert_official(
        OfficialState(weights), num_attention_heads=4, predictor_num_attention_heads=2
    ).config
    assert (config.num_attention_heads, config.predictor_num_attention_heads) == (4, 2)
    assert (config.num_samples, config.sampling_rate, config.patch_size) == (5000, 500, 25)


def test_every_key_counts(weights: dict[str, Tensor], sizes: dict[str, Any]) -> None:
    spoilt = dict(weights)
    del spoilt["encoder.blocks.1.attn.proj.weight"]
    spoilt["predictor.norm.weight"] = torch.zeros(3)
    spoilt["target_encoder.blocks.0.attn_ls.weight"] = torch.zeros(32)
    state = OfficialState(spoilt, sizes)
    convert_official(state)
    with pytest.raises(ConversionError) as error:
        state.finish()
    assert error.value.value == {
        "missing": ["encoder.blocks.1.attn.proj.weight"],
        "mis-shaped": ["predictor.norm.weight is (3,), not (16,)"],
        "unexpected": ["target_encoder.blocks.0.attn_ls.weight"],
    }


HOSTILE: dict[str, dict[str, Any]] = {
    "length": {"channel_size": 10**13},
    "length-that-fits-a-number": {"channel_size": 25 * 10**6},
    "heads": {"num_heads": 10**9},
    "heads-none": {"num_heads": 0},
    "heads-text": {"num_heads": "many"},
    "rate": {"sampling_frequency": -1},
    "leads": {"channels": ["I"] * 12},
    "leads-unknown": {"channels": [f"L{i}" for i in range(3)]},
    "leads-number": {"channels": 12},
    "momentum": {"encoder_momentum": 7.0},
    "share": {"min_keep_ratio": "x"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_sizes_that_can_not_be_are_refused(
    weights: dict[str, Tensor], sizes: dict[str, Any], tmp_path: Path, name: str
) -> None:
    torch.save({"model": teacher(weights), "config": {**sizes, **HOSTILE[name]}}, tmp_path / "x.pt")
    with pytest.raises(EcgError):
        convert_checkpoint("weimann-jepa", tmp_path / "x.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_folder_is_complete(whole: Path) -> None:
    extractor = AutoFeatureExtractor.from_pretrained(whole)
    assert (extractor.sampling_rate, extractor.n_samples, extractor.clip) == (500, 200, 5.0)
    assert (extractor.normalization, extractor.mean) == ("zscore_lead", None)
    assert "license: mit" in (whole / "README.md").read_text()
