"""ST-MEM against its official code: preprocessing, network, objective, files."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining

from ecg_hf.errors import ConversionError
from ecg_hf.hub.converting import convert_checkpoint
from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.st_mem.configuration_st_mem import StMemConfig
from ecg_hf.models.st_mem.conversion_st_mem import convert_official
from ecg_hf.models.st_mem.feature_extraction_st_mem import StMemFeatureExtractor
from ecg_hf.models.st_mem.modeling_st_mem import StMemForPreTraining, StMemModel

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 0.0, "atol": 1e-5}
ENCODER_PARAMETERS = 85_150_614


@pytest.fixture(scope="module")
def official(shared_fixtures: Path) -> Path:
    return shared_fixtures / "st_mem"


@pytest.fixture(scope="module", params=["true", "false"])
def recorded(official: Path, request: pytest.FixtureRequest) -> tuple[bool, dict[str, Tensor]]:
    return request.param == "true", load_file(official / f"tiny_st_mem_norm_pix_{request.param}.safetensors")


def part(recorded: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in recorded.items() if key.startswith(prefix)}


def converted(tensors: dict[str, Tensor], folder: Path, **sizes: object) -> Path:
    save_file({key: value.clone() for key, value in tensors.items()}, folder / "model.safetensors")
    convert_checkpoint("st-mem", folder / "model.safetensors", folder / "out", config=sizes)
    return folder / "out"


def test_objective_and_gradients(recorded: tuple[bool, dict[str, Tensor]], tmp_path: Path) -> None:
    norm_pix, expected = recorded
    folder = converted(part(expected, "state."), tmp_path, heads=2, norm_pix_loss=norm_pix)
    model = AutoModelForPreTraining.from_pretrained(folder).eval()
    assert type(model) is StMemForPreTraining
    output = model(expected["input.ecg"], noise=expected["input.noise"])
    torch.testing.assert_close(output.loss, expected["out.loss"], **CLOSE)
    hidden = expected["out.mask"].bool()
    torch.testing.assert_close(
        output.reconstruction, expected["out.pred"][hidden].view(3, -1, 10), rtol=0.0, atol=1e-5
    )
    assert torch.equal(output.masked_index, hidden.flatten(1).nonzero()[:, 1].view(3, -1))
    output.loss.backward()
    encoder = model.st_mem.encoder
    ours = {
        "decoder_head.weight": model.decoder.head.weight.grad,
        "encoder.block0.attn.fn.to_qkv.weight": encoder.layers.blocks[0].attention.qkv.weight.grad,
        "encoder.lead_embeddings.0": encoder.lead_embedding.grad[0],
        "encoder.lead_embeddings.11": encoder.lead_embedding.grad[11],
        "encoder.sep_embedding": encoder.sep_token.grad,
        "encoder.to_patch_embedding.2.weight": encoder.patch_projection.weight.grad,
        "to_patch_embedding.2.weight": encoder.patch_projection.weight.grad,
        "mask_embedding": model.decoder.mask_token.grad,
    }
    gradients = part(expected, "grad.")
    assert set(ours) == set(gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(ours[name], gradient, **CLOSE)


def test_tokens_of_visible_patches(recorded: tuple[bool, dict[str, Tensor]], tmp_path: Path) -> None:
    """The official code leaves visible patches in the order of their noise."""
    _, expected = recorded
    model = AutoModel.from_pretrained(converted(part(expected, "state."), tmp_path)).eval()
    torch.testing.assert_close(
        model.encoder.embed(expected["input.ecg"]), expected["out.patch_embedding"], **CLOSE
    )
    order = expected["input.noise"].argsort(-1)[..., :2]
    visible = (order + 8 * torch.arange(12)[:, None]).flatten(1)
    tokens, _ = model.encoder(expected["input.ecg"], visible=visible)
    torch.testing.assert_close(tokens, expected["out.latent"], **CLOSE)


@pytest.mark.parametrize("prefix", ["", "encoder.", "backbone.", "module.encoder."])
def test_embeddings(recorded: tuple[bool, dict[str, Tensor]], prefix: str, tmp_path: Path) -> None:
    """Of the whole file and of the encoder alone, under the prefixes that files have."""
    _, expected = recorded
    weights = part(expected, "state.")
    if prefix:
        weights = {f"{prefix}{key}": value for key, value in part(weights, "encoder.").items()}
    model = AutoModel.from_pretrained(converted(weights, tmp_path, heads=2)).eval()
    assert type(model) is StMemModel
    output = model(expected["input.ecg"])
    torch.testing.assert_close(output.last_hidden_state, expected["out.latent_nomask"], **CLOSE)
    torch.testing.assert_close(output.pooler_output, expected["out.encoder_pooled"], **CLOSE)


def test_the_authors_wrapper(recorded: tuple[bool, dict[str, Tensor]], tmp_path: Path) -> None:
    """Weights beside a configuration, an optimiser and counters, bare encoder keys; the folder says what it is."""
    norm_pix, expected = recorded
    content = {
        "epoch": 3,
        "model": part(expected, "state."),
        "optimizer": None,
        "scaler": None,
        "config": {"model": {"seq_len": 80, "norm_pix_loss": norm_pix}, "train": {"mask_ratio": 0.75}},
    }
    torch.save(content, tmp_path / "x.pth")
    report = convert_checkpoint("st-mem", tmp_path / "x.pth", tmp_path / "out", num_attention_heads=2)
    assert report.facts["epoch"] == 3
    config = StMemConfig.from_pretrained(tmp_path / "out")
    assert config.reconstruction_target == ("patch_zscore" if norm_pix else "raw")
    assert (config.num_attention_heads, config.head_size) == (2, 64)
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    assert (extractor.sampling_rate, extractor.filter_order) == (250, 5)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "cc-by-nc-4.0" in card
    assert "not for commercial use" in card


@pytest.mark.parametrize("size", ["base", "small"])
@pytest.mark.parametrize("whole", [True, False])
def test_published_files(official: Path, size: str, whole: bool) -> None:
    """Keys and shapes of the published sizes: all accounted for, and those of our models."""
    listed = json.loads((official / "state_dict_shapes.json").read_text())
    (name,) = (key for key in listed if f"_{size}" in key and ("full" in key) is whole)
    state = OfficialState({key: torch.zeros(()).expand(shape) for key, shape in listed[name].items()})
    result = convert_official(state)
    state.finish()
    assert result.config.to_dict() == StMemConfig.preset(size).to_dict()
    with torch.device("meta"):
        model = (StMemForPreTraining if whole else StMemModel)(result.config)
    own = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert own == {key: tuple(tensor.shape) for key, tensor in result.state_dict.items()}
    copies = sum(prod(shape) for key, shape in listed[name].items() if key.startswith("to_patch_embedding."))
    assert model.num_parameters() + (copies if whole else 0) == sum(map(prod, listed[name].values()))
    if size == "base":
        encoder = model.st_mem if whole else model
        assert encoder.num_parameters() == ENCODER_PARAMETERS


def test_every_key_counts(recorded: tuple[bool, dict[str, Tensor]]) -> None:
    spoilt = part(recorded[1], "state.")
    del spoilt["encoder.block1.attn.norm.bias"]
    spoilt["decoder_norm.bias"] = torch.zeros(3)
    spoilt["stray"] = torch.zeros(1)
    state = OfficialState(spoilt)
    convert_official(state)
    with pytest.raises(ConversionError) as error:
        state.finish()
    assert error.value.value == {
        "missing": ["encoder.block1.attn.norm.bias"],
        "mis-shaped": ["decoder_norm.bias is (3,), not (24,)"],
        "unexpected": ["stray"],
    }


def test_contradictions_are_refused(recorded: tuple[bool, dict[str, Tensor]]) -> None:
    weights = part(recorded[1], "state.")
    with pytest.raises(ConversionError, match=r"3 heads do not divide an inner width of 128"):
        convert_official(OfficialState(weights), num_attention_heads=3)
    other = {**weights, "to_patch_embedding.2.bias": torch.ones(32)}
    with pytest.raises(ConversionError, match=r"two different tensors to_patch_embedding\.2\.bias"):
        convert_official(OfficialState(other))
    del weights["encoder.lead_embeddings.11"]
    with pytest.raises(ConversionError, match="embeddings of 11 leads"):
        convert_official(OfficialState(weights))


def test_preprocessing(official: Path) -> None:
    """Both filters at 250 Hz, and resampling from 500 Hz, each by itself as the fixture has them."""
    recorded = load_file(official / "transforms.safetensors")
    leads = ["I", "II"]
    plain = {"lead_names": leads, "normalization": "none", "duration_s": None}
    signal = recorded["input.signal_250hz"].numpy()
    filtered = StMemFeatureExtractor(**plain)(signal, 250.0, leads, return_tensors="pt")["input_values"][0]
    torch.testing.assert_close(filtered, recorded["out.lowpass_40"].float(), rtol=0.0, atol=1e-5)
    resample = StMemFeatureExtractor(**plain, highpass_hz=None, lowpass_hz=None)
    signal = recorded["input.resample_500hz"].numpy()
    resampled = resample(signal, 500.0, leads, return_tensors="pt")["input_values"][0]
    torch.testing.assert_close(resampled, recorded["out.resample_250hz"].float(), rtol=0.0, atol=1e-5)
