"""MELP: poolers against the official code, structure of the files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoFeatureExtractor, AutoModel

from ecg_hf.errors import ConfigurationError, ConversionError, ModelFolderError
from ecg_hf.hub.converting import convert_checkpoint, recognise_checkpoint
from ecg_hf.models.auto import AutoModelForEcgClassification
from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.melp.configuration_melp import MelpConfig
from ecg_hf.models.melp.conversion_melp import convert_official
from ecg_hf.models.melp.feature_extraction_melp import MelpFeatureExtractor
from ecg_hf.models.melp.modeling_melp import MelpForEcgClassification, MelpModel

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 0.0, "atol": 1e-5}
SIZES = {
    "encoder_attention_heads": 4,
    "conv_feature_layers": "[(8, 2, 2)] * 4",
    "attn_pooler_heads": 4,
}
"""Of the micro preset, under the authors' names."""

LAYERS = {
    "attention.output": "self_attn.out_proj",
    "attention_norm": "self_attn_layer_norm",
    "mlp.0": "fc1",
    "mlp.3": "fc2",
    "mlp_norm": "final_layer_norm",
}


def official_pooler(pooler: nn.Module, prefix: str) -> dict[str, Tensor]:
    state = {key: value.clone() for key, value in pooler.state_dict().items()}
    names = {"query_norm.": "ln_q.", "token_norm.": "ln_k.", "attention.": "attn."}
    renamed = {}
    for key, value in state.items():
        ours = next((name for name in names if key.startswith(name)), "")
        renamed[prefix + key.replace(ours, names.get(ours, ""), 1)] = value
    return renamed


def official_layout(model: MelpModel, tower: str = "ecg_encoder.ecg_encoder.") -> dict[str, Tensor]:
    """The authors' file: the inverse of the converter, written apart from it, with what it leaves out."""
    tensors: dict[str, Tensor] = {}

    def put(official: str, module: nn.Module) -> None:
        for name, value in module.state_dict().items():
            tensors[f"{tower}{official}.{name}"] = value.clone()

    encoder = model.encoder
    for index, convolution in enumerate(encoder.stem.convolutions):
        put(f"feature_extractor.conv_layers.{index}.0", convolution)
    put("feature_extractor.conv_layers.0.2", encoder.stem.norm)
    put("layer_norm", encoder.stem_norm)
    put("post_extract_proj", encoder.projection)
    put("encoder.layer_norm", encoder.norm)
    positions = f"{tower}conv_pos.pos_conv.0."
    tensors[f"{positions}parametrizations.weight.original0"] = encoder.positions.scale.data.clone()
    tensors[f"{positions}parametrizations.weight.original1"] = encoder.positions.direction.data.clone()
    tensors[f"{positions}bias"] = encoder.positions.bias.data.clone()
    for index, block in enumerate(encoder.layers.blocks):
        for ours, official in LAYERS.items():
            put(f"encoder.layers.{index}.{official}", block.get_submodule(ours))
        for kind in ("weight", "bias"):
            thirds = getattr(block.attention.qkv, kind).data.chunk(3)
            for letter, third in zip("qkv", thirds, strict=True):
                tensors[f"{tower}encoder.layers.{index}.self_attn.{letter}_proj.{kind}"] = third.clone()
    width = model.config.hidden_size
    tensors[f"{tower}mask_emb"] = torch.ones(width)
    for name in ("quantizer.vars", "project_q.weight", "final_proj.bias"):
        tensors[tower + name] = torch.ones(2)

    prefix = tower.removesuffix("ecg_encoder.")
    tensors |= official_pooler(model.beat_pool, f"{prefix}attn_pool_contrast.")
    tensors |= official_pooler(model.token_pool, f"{prefix}attn_pool_caption.")
    for name, norm in (("ln_contrast", model.beat_norm), ("ln_caption", model.token_norm)):
        tensors |= {f"{prefix}{name}.{kind}": value.clone() for kind, value in norm.state_dict().items()}
    tensors[f"{prefix}proj_contrast"] = model.projection.weight.data.T.contiguous()
    tensors[f"{prefix}logit_scale"] = torch.tensor(2.6)
    tensors |= {f"{prefix}bn.running_mean": torch.ones(width), f"{prefix}bn.running_var": torch.ones(width)}
    tensors[f"{prefix}bn.num_batches_tracked"] = torch.tensor(3)
    return tensors


@pytest.fixture(scope="module")
def model() -> MelpModel:
    torch.manual_seed(0)
    return MelpModel(MelpConfig.preset("micro")).eval()


@pytest.fixture(scope="module")
def weights(model: MelpModel) -> dict[str, Tensor]:
    return official_layout(model)


@pytest.fixture(scope="module")
def converted(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("melp")
    save_file(weights, folder / "model.safetensors")
    report = convert_checkpoint("melp", folder / "model.safetensors", folder / "out", config=SIZES)
    assert report.model_class == "MelpModel"
    assert report.notes[0].startswith("structure only")
    assert recognise_checkpoint(folder / "model.safetensors")[0] == "melp"
    return folder / "out"


@pytest.fixture(scope="module")
def values() -> Tensor:
    return torch.rand(3, 12, 1000, generator=torch.Generator().manual_seed(1))


def test_poolers_equal_the_official_code(shared_fixtures: Path, model: MelpModel) -> None:
    file = shared_fixtures / "melp_poolers" / "poolers.safetensors"
    expected = load_file(file)
    with safe_open(file, "pt") as opened:
        told = {"heads": opened.metadata()["heads"]}
    official = {
        key.removeprefix("state."): value for key, value in expected.items() if key.startswith("state.")
    }
    # The fixture has no transformer: that of a micro model, of the same width, takes its place.
    tower = {
        key.removeprefix("ecg_encoder."): value
        for key, value in official_layout(model).items()
        if key.startswith("ecg_encoder.ecg_encoder.")
    }
    state = OfficialState({**official, **tower}, {**SIZES, **told, "attn_pooler_heads": 4})
    made = convert_official(state)
    state.finish()
    assert (made.config.num_beat_queries, made.config.num_token_queries) == (13, 8)
    loaded = MelpModel(made.config).eval()
    loaded.load_state_dict(made.state_dict)
    tokens = expected["encoder_tokens"]
    with torch.inference_mode():
        beats = loaded.beats(tokens)
        projected = loaded.project(beats)
        torch.testing.assert_close(projected, expected["ecg_beat_emb"], **CLOSE)
        torch.testing.assert_close(projected.mean(1), expected["proj_ecg_emb_unnormalised"], **CLOSE)
        torch.testing.assert_close(loaded.pool(tokens), expected["proj_ecg_emb"], **CLOSE)
        torch.testing.assert_close(loaded.caption_tokens(tokens), expected["ecg_token_emb"], **CLOSE)
        torch.testing.assert_close(beats.mean(1), expected["ext_ecg_emb_for_finetune"], **CLOSE)
        probe = F.normalize(beats.mean(1), dim=-1)
        torch.testing.assert_close(probe, expected["ext_ecg_emb_normalised"], **CLOSE)


def test_a_converted_folder_gives_what_its_weights_gave(
    converted: Path, model: MelpModel, values: Tensor
) -> None:
    loaded = AutoModel.from_pretrained(converted).eval()
    assert type(loaded) is MelpModel
    with torch.inference_mode():
        output, expected = loaded(values), model(values)
        torch.testing.assert_close(output.last_hidden_state, expected.last_hidden_state, **CLOSE)
        torch.testing.assert_close(output.pooler_output, expected.pooler_output, **CLOSE)
        torch.testing.assert_close(
            loaded.get_token_features(values), model.get_token_features(values), **CLOSE
        )
        beats = loaded.get_beat_features(values)
    torch.testing.assert_close(F.normalize(beats.mean(1), dim=-1), output.pooler_output, **CLOSE)
    assert beats.shape == (3, 3, 16)
    assert loaded.config.lead_names[3:6] == ["aVR", "aVF", "aVL"]
    extractor = AutoFeatureExtractor.from_pretrained(converted)
    assert type(extractor) is MelpFeatureExtractor
    assert extractor.lead_names == tuple(loaded.config.lead_names)
    assert "license: apache-2.0" in (converted / "README.md").read_text()


def test_range_of_a_record(values: Tensor) -> None:
    extractor = MelpFeatureExtractor(sampling_rate=100, lead_names=("I", "aVF", "aVL"))
    given = 3.0 * values[:1, :3] - 1.0
    found = extractor(given.numpy(), 100.0, ("I", "aVL", "aVF"), return_tensors="pt")["input_values"]
    span = given - given.min()
    torch.testing.assert_close(found, (span / span.max())[:, [0, 2, 1]], **CLOSE)


@pytest.mark.parametrize("layout", ["half", "training", "network alone", "without captions"])
def test_other_layouts(
    layout: str, weights: dict[str, Tensor], model: MelpModel, converted: Path, tmp_path: Path
) -> None:
    expected = load_file(converted / "model.safetensors")
    tensors, notes = dict(weights), 3
    if layout == "half":
        tensors = {
            key: value.half() if value.is_floating_point() else value for key, value in weights.items()
        }
        expected = {key: value.half().float() for key, value in expected.items()}
    elif layout == "training":
        tensors["text_encoder.weight"] = torch.ones(2)
        notes = 4
    elif layout == "network alone":
        tensors = official_layout(model, tower="ecg_encoder.")
    else:
        tensors = {key: value for key, value in weights.items() if "caption" not in key}
        expected = {key: value for key, value in expected.items() if not key.startswith("token_")}
    torch.save({"state_dict": tensors, "global_step": 7}, tmp_path / "x.ckpt")
    report = convert_checkpoint("melp", tmp_path / "x.ckpt", tmp_path / "out", config=SIZES)
    assert len(report.notes) == notes
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == expected.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0)
    if layout == "without captions":
        with pytest.raises(ConfigurationError, match="no pooler that reports"):
            AutoModel.from_pretrained(tmp_path / "out").get_token_features(torch.zeros(1, 12, 1000))


def test_the_published_file() -> None:
    """The published size is recognised without a configuration and has the published number of parameters."""
    config = MelpConfig.preset("base")
    with torch.device("meta"):
        model = MelpModel(config)
        state = OfficialState(official_layout(model))
    made = convert_official(state)
    state.finish()
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert own == {name: tuple(tensor.shape) for name, tensor in made.state_dict.items()}
    assert (made.config.num_attention_heads, made.config.pooler_heads) == (12, 8)
    # Quantiser, two projections and mask embedding of ECG-FM's pretraining, and the temperature, are in the file.
    left_out = 640 * 128 + 257 * 640 + 257 * 256 + 769 * 256 + 768 + 1
    assert 2 * (model.num_parameters() + left_out) == 131_187_202
    assert model(torch.zeros(1, 12, 5000, device="meta")).last_hidden_state.shape == (1, 312, 768)


@pytest.mark.parametrize("missing", SIZES)
def test_sizes_that_no_tensor_shows_are_asked_for(missing: str, weights: dict[str, Tensor]) -> None:
    told = {name: value for name, value in SIZES.items() if name != missing}
    with pytest.raises(ConversionError, match=rf"tensors do not tell {missing}: .*--config"):
        convert_official(OfficialState(weights, told))
    if missing == "encoder_attention_heads":
        made = convert_official(OfficialState(weights, told), num_attention_heads=2)
        assert made.config.num_attention_heads == 2


def test_a_classifier_is_trained_on_the_mean_of_beats(
    converted: Path, model: MelpModel, values: Tensor, tmp_path: Path
) -> None:
    classifier = AutoModelForEcgClassification.from_pretrained(converted, num_labels=3).eval()
    assert type(classifier) is MelpForEcgClassification
    classifier.save_pretrained(tmp_path)
    with torch.inference_mode():
        tokens = model(values).last_hidden_state
        probe = model.beats(tokens).mean(1)
        torch.testing.assert_close(classifier(values).logits, classifier.classifier(probe), **CLOSE)
        # Its folder loads as an encoder, whose embedding is what it was trained on.
        encoder = AutoModel.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(encoder(values).pooler_output, probe, **CLOSE)
    with pytest.raises(ConfigurationError, match="no projection"):
        encoder.project(probe)
    # Of a folder of the encoder itself the same parts are missing weights.
    rest = {key: value for key, value in model.state_dict().items() if not key.startswith("projection.")}
    model.save_pretrained(tmp_path / "damaged", state_dict=rest)
    with pytest.raises(ModelFolderError, match=r"1 weights are missing, first projection\.weight"):
        AutoModel.from_pretrained(tmp_path / "damaged")


def test_padding_changes_nothing(model: MelpModel, values: Tensor) -> None:
    mask = torch.ones(3, 1000, dtype=torch.long)
    mask[0, 640:] = 0
    noise = torch.where(mask[:, None].bool(), values, 7.0)
    with torch.inference_mode():
        first, second = (model(signal, sample_mask=mask).pooler_output for signal in (values, noise))
        nothing = model(values, sample_mask=torch.zeros_like(mask)).pooler_output
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert torch.isfinite(nothing).all()
