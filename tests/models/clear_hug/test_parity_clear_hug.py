"""Against tensors made with the official code, through conversion and Auto classes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForPreTraining

from ecg_hf.errors import ConversionError
from ecg_hf.hub.converting import convert_checkpoint
from ecg_hf.models.auto import AutoModelForEcgClassification
from ecg_hf.models.clear_hug.encoder_clear_hug import normalize_beats
from ecg_hf.models.clear_hug.modeling_clear_hug import ClearHugForEcgClassification, ClearHugForPreTraining
from ecg_hf.nn.beats import BeatTokens, slice_beats
from ecg_hf.nn.masks.beats import beat_mask_indices, conduction_decoder_mask, official_encoder_bias

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 0.0, "atol": 1e-5}
HEADS = {"num_attention_heads": 4, "decoder_num_attention_heads": 4}


@pytest.fixture(scope="module")
def folder(shared_fixtures: Path) -> Path:
    return shared_fixtures / "clear_hug"


@pytest.fixture(scope="module")
def stage1(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "clear_stage1_io.safetensors")


@pytest.fixture(scope="module")
def stage2(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "clear_hug_io.safetensors")


@pytest.fixture(scope="module")
def tokens(stage1: dict[str, torch.Tensor]) -> BeatTokens:
    assert torch.equal(stage1["in_chan"][0], torch.arange(36) // 3 + 1)
    return BeatTokens(stage1["signals"], stage1["in_time"], stage1["in_time"] > 0)


def convert(state: dict[str, torch.Tensor], path: Path, **heads: int) -> Path:
    """As the authors save: weights beside a command line, in a pickle."""
    arguments = argparse.Namespace(model="CLEAR", mask_ratio=0.8)
    torch.save({"model": state, "epoch": "best", "args": arguments, "scaler": {}}, path / "official.pth")
    convert_checkpoint("clear-hug", path / "official.pth", path / "model", overwrite=True, **heads)
    return path / "model"


@pytest.fixture(scope="module")
def pretraining_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = load_file(folder / "clear_stage1_state_dict.safetensors")
    return convert(state, tmp_path_factory.mktemp("stage1"), **HEADS)


@pytest.fixture(scope="module")
def classifier_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    backbone = load_file(folder / "clear_stage1_state_dict.safetensors")
    state = {f"backbone.{key}": value for key, value in backbone.items()}
    state |= load_file(folder / "clear_hug_head_state_dict.safetensors")
    return convert(state, tmp_path_factory.mktemp("stage2"), num_attention_heads=4)


def official(path: Path, **options: Any) -> ClearHugForPreTraining:
    model = AutoModelForPreTraining.from_pretrained(path, encoder_attention="official_bias", **options)
    assert isinstance(model, ClearHugForPreTraining)
    return model.eval()


def record_outputs(modules: dict[str, torch.nn.Module]) -> tuple[dict[str, Any], list[Any]]:
    """What passes through modules: inputs under ``name/in``, outputs under ``name``."""
    seen: dict[str, Any] = {}

    def hook(name: str) -> Any:
        def keep(module: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            seen[f"{name}/in"], seen[name] = inputs[0], output

        return keep

    return seen, [module.register_forward_hook(hook(name)) for name, module in modules.items()]


# ---------------------------------------------------------------- stage 1: CLEAR


def test_pretraining_forward(
    pretraining_folder: Path, stage1: dict[str, torch.Tensor], tokens: BeatTokens
) -> None:
    """Encoder, decoder, prediction and loss, step by step."""
    model = official(pretraining_folder)
    encoder, decoder = model.clear_hug.encoder, model.decoder
    seen, hooks = record_outputs(
        {
            "convolution": encoder.embedding.convolution,
            "embedding": encoder.embedding,
            "encoder_layers": encoder.layers,
            "encoder_layer0": encoder.layers.blocks[0],
            "encoder": encoder,
            "decoder_layers": decoder.layers,
            "decoder_layer0": decoder.layers.blocks[0],
        }
    )
    with torch.no_grad():
        output = model.rebuild(tokens, None, stage1["noise"].expand(2, -1))
    for hook in hooks:
        hook.remove()
    expected = {
        "encoder_layers/in": "encoder_input",
        "embedding": "act/after_spatial_temporal",
        "encoder_layer0": "act/encoder_layer0",
        "encoder_layers": "act/encoder_out_prenorm",
        "encoder": "act/encoder_out",
        "decoder_layers/in": "decoder_input",
        "decoder_layer0": "act/decoder_layer0",
    }
    for ours, theirs in expected.items():
        torch.testing.assert_close(seen[ours], stage1[theirs], **CLOSE, msg=lambda m, o=ours: f"{o}: {m}")
    torch.testing.assert_close(seen["convolution"].transpose(1, 2), stage1["act/token_embed"], **CLOSE)
    with torch.no_grad():
        decoded = decoder.norm(seen["decoder_layers"])
        torch.testing.assert_close(decoded, stage1["act/decoder_out"], **CLOSE)
        torch.testing.assert_close(decoder.head(decoded), stage1["pred_all"], **CLOSE)
    index = output.masked_index.unsqueeze(-1).expand(-1, -1, 16)
    torch.testing.assert_close(output.beat_reconstruction, stage1["pred"].gather(1, index), **CLOSE)
    torch.testing.assert_close(output.loss, stage1["loss"], **CLOSE)
    assert set(output.masked_index[0].tolist()) == set(stage1["mask"][0].nonzero().flatten().tolist())


def test_beats_are_standardised_as_officially(stage1: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(normalize_beats(stage1["signals"]), stage1["signals_normalised"], **CLOSE)


def test_gradients(pretraining_folder: Path, stage1: dict[str, torch.Tensor], tokens: BeatTokens) -> None:
    model = official(pretraining_folder)
    model.rebuild(tokens, None, stage1["noise"].expand(2, -1)).loss.backward()
    encoder = model.clear_hug.encoder
    pairs = {
        "cls_token": encoder.lead_tokens,
        "mask_token": model.decoder.mask_token,
        "decoder_pred.bias": model.decoder.head.bias,
        "token_embed.tokenConv.weight": encoder.embedding.convolution.weight,
        "encoder_transformer.layers.0.self_attn.in_proj_weight": encoder.layers.blocks[
            0
        ].attention.qkv.weight,
    }
    for name, parameter in pairs.items():
        torch.testing.assert_close(parameter.grad, stage1[f"grad/{name}"], **CLOSE)


def test_eager_attention_gives_the_same_loss(
    pretraining_folder: Path, stage1: dict[str, torch.Tensor], tokens: BeatTokens
) -> None:
    model = official(pretraining_folder, attn_implementation="eager")
    with torch.no_grad():
        loss = model.rebuild(tokens, None, stage1["noise"].expand(2, -1)).loss
    torch.testing.assert_close(loss, stage1["loss"], **CLOSE)


def test_masks_of_the_tiny_case(stage1: dict[str, torch.Tensor]) -> None:
    visible, masked = beat_mask_indices(stage1["noise"], 0.8)
    assert torch.equal(visible, stage1["ids_keep"])
    assert torch.equal(torch.cat([visible, masked], 1), stage1["ids_shuffle"])
    assert torch.equal(official_encoder_bias(visible // 3, 12)[0, 0], stage1["encoder_attn_bias"])
    blocked = ~conduction_decoder_mask(stage1["mask"].bool(), 12)[0, 0]
    assert torch.equal(blocked, stage1["decoder_attn_mask"].bool())


def test_masks_at_the_published_size(folder: Path) -> None:
    expected = load_file(folder / "mask_12x15.safetensors")
    visible, masked = beat_mask_indices(expected["noise"], 0.8)
    assert visible.shape[1] == int(expected["n_keep"]) == 35
    hidden = torch.zeros(1, 180, dtype=torch.bool).scatter(1, masked, True)
    assert torch.equal(hidden, expected["mask"].bool())
    allowed = conduction_decoder_mask(hidden, 12)[0, 0]
    assert torch.equal(~allowed, expected["decoder_attn_mask"].bool())
    assert allowed.float().mean().item() == pytest.approx(0.0905, abs=5e-5)
    assert torch.equal(official_encoder_bias(visible // 15, 12)[0, 0], expected["encoder_attn_bias"])


# ---------------------------------------------------------------- stage 2: HUG


@pytest.mark.parametrize(
    ("variant", "attention"), [("identity", "official_bias"), ("dense", "dense"), ("view", "view")]
)
def test_hug_on_the_encoder(
    classifier_folder: Path,
    stage2: dict[str, torch.Tensor],
    tokens: BeatTokens,
    variant: str,
    attention: str,
) -> None:
    model = AutoModelForEcgClassification.from_pretrained(
        classifier_folder, encoder_attention=attention
    ).eval()
    check_hug(model, stage2, tokens, variant, None)


def test_hug_with_the_official_shuffling(
    classifier_folder: Path, stage2: dict[str, torch.Tensor], tokens: BeatTokens
) -> None:
    """The official code permutes tokens in inference; its float bias makes the result depend on that."""
    options = {"encoder_attention": "official_bias"}
    model = AutoModelForEcgClassification.from_pretrained(classifier_folder, **options).eval()
    order, _ = beat_mask_indices(stage2["shuffled/noise"], 0.0)
    check_hug(model, stage2, tokens, "shuffled", order)
    assert (stage2["shuffled/logits"] - stage2["identity/logits"]).abs().max() > 1e-4


def check_hug(
    model: ClearHugForEcgClassification,
    stage2: dict[str, torch.Tensor],
    tokens: BeatTokens,
    variant: str,
    visible: torch.Tensor | None,
) -> None:
    base = model.clear_hug
    with torch.no_grad():
        encoded = base.encoder(base.network_input(tokens), tokens.time_ids, None, visible)
        pooled = model.pool_tokens(encoded)
        logits = model.classifier(pooled)
        features = model.classifier_hug(encoded[:, :12])
    torch.testing.assert_close(features, stage2[f"{variant}/group_features"], **CLOSE)
    torch.testing.assert_close(logits, stage2[f"{variant}/logits"], **CLOSE)
    if f"{variant}/pooled" in stage2:
        torch.testing.assert_close(pooled, stage2[f"{variant}/pooled"], **CLOSE)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, stage2["labels"])
        torch.testing.assert_close(loss, stage2[f"{variant}/bce_loss"], **CLOSE)


def test_hug_alone(classifier_folder: Path, stage2: dict[str, torch.Tensor]) -> None:
    model = AutoModelForEcgClassification.from_pretrained(classifier_folder)
    with torch.no_grad():
        features = model.classifier_hug(stage2["hug_only/cls_tokens"])
    torch.testing.assert_close(features, stage2["hug_only/outputs"], **CLOSE)


# ---------------------------------------------------------------- tokeniser

CASES = (
    "exact_15",
    "fallback_linspace",
    "fast_20",
    "first_at_zero",
    "irregular",
    "regular_11",
    "single_early",
    "single_late",
    "single_mid",
    "slow_5",
)


@pytest.mark.parametrize("case", CASES)
def test_tokeniser_cases_are_exact(folder: Path, case: str) -> None:
    expected = load_file(folder / "tokenizer.safetensors")
    found = None if case == "fallback_linspace" else expected[f"{case}/qrs_inds"][None]
    tokens = slice_beats(
        expected["signal"][None], found, beats_per_lead=15, beat_length=96, sampling_rate=100.0
    )
    beats = tokens.beats[0].float().unflatten(0, (12, 15))
    assert torch.equal(beats[0], expected[f"{case}/tokens_lead0"])
    assert torch.equal(beats[11], expected[f"{case}/tokens_lead11"])
    assert torch.equal(tokens.time_ids[0], expected[f"{case}/in_times"])
    assert torch.equal((~tokens.beat_mask[0]).long(), expected[f"{case}/mask_pad_saved"])


def test_all_tokeniser_cases_in_one_batch(folder: Path) -> None:
    """Vectorised over records with different numbers of beats, one of them without any."""
    expected = load_file(folder / "tokenizer.safetensors")
    table = torch.full((len(CASES), 40), -1)
    for row, case in zip(table, CASES, strict=True):
        if case != "fallback_linspace":
            peaks = expected[f"{case}/qrs_inds"]
            row[: len(peaks)] = peaks
    signal = expected["signal"].expand(len(CASES), -1, -1)
    tokens = slice_beats(signal, table, beats_per_lead=15, beat_length=96, sampling_rate=100.0)
    for i, case in enumerate(CASES):
        beats = tokens.beats[i].float().unflatten(0, (12, 15))
        assert torch.equal(beats[0], expected[f"{case}/tokens_lead0"])
        assert torch.equal(tokens.time_ids[i], expected[f"{case}/in_times"])


# ---------------------------------------------------------------- conversion


def test_converted_folders_load_as_what_they_are(
    pretraining_folder: Path, classifier_folder: Path, folder: Path
) -> None:
    state = load_file(folder / "clear_stage1_state_dict.safetensors")
    base = AutoModel.from_pretrained(pretraining_folder)
    assert torch.equal(base.encoder.lead_tokens, state["cls_token"])
    assert base.config.encoder_attention == "dense"
    assert (base.config.beats_per_lead, base.config.beat_length) == (3, 16)
    classifier = AutoModelForEcgClassification.from_pretrained(classifier_folder)
    assert classifier.config.num_labels == 5
    assert classifier.classifier_hug is not None
    tuned = AutoModelForEcgClassification.from_pretrained(pretraining_folder, num_labels=5)
    assert torch.equal(tuned.clear_hug.encoder.lead_tokens, classifier.clear_hug.encoder.lead_tokens)


def test_the_mean_baseline_converts(folder: Path, tmp_path: Path, tokens: BeatTokens) -> None:
    backbone = load_file(folder / "clear_stage1_state_dict.safetensors")
    heads = load_file(folder / "clear_hug_head_state_dict.safetensors")
    state = {f"backbone.{key}": value for key, value in backbone.items()}
    state |= {key: value for key, value in heads.items() if key.startswith("mlp_head")}
    model = AutoModelForEcgClassification.from_pretrained(
        convert(state, tmp_path, num_attention_heads=4)
    ).eval()
    assert model.config.head_type == "mean"
    base = model.clear_hug
    with torch.no_grad():
        encoded = base.encoder(base.network_input(tokens), tokens.time_ids)
        logits = model.classifier(model.pool_tokens(encoded))
    expected = encoded[:, :12].mean(1) @ heads["mlp_head.weight"].T + heads["mlp_head.bias"]
    torch.testing.assert_close(logits, expected, **CLOSE)


def test_what_tensors_do_not_tell_is_asked_for(folder: Path, tmp_path: Path) -> None:
    source = folder / "clear_stage1_state_dict.safetensors"
    with pytest.raises(ConversionError, match="--num-attention-heads"):
        convert_checkpoint("clear-hug", source, tmp_path / "a")
    with pytest.raises(ConversionError, match="--decoder-num-attention-heads"):
        convert_checkpoint("clear-hug", source, tmp_path / "b", num_attention_heads=4)
    with pytest.raises(ConversionError, match="5 heads"):
        convert_checkpoint("clear-hug", source, tmp_path / "c", num_attention_heads=5)


def test_other_files_are_refused(folder: Path, tmp_path: Path) -> None:
    state = load_file(folder / "clear_stage1_state_dict.safetensors")
    torch.save({"state": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ConversionError, match="not a checkpoint of this method"):
        convert_checkpoint("clear-hug", tmp_path / "other.pth", tmp_path / "a", **HEADS)
    del state["norm_layer.bias"]
    torch.save({"model": state}, tmp_path / "part.pth")
    with pytest.raises(ConversionError, match=r"1 missing: norm_layer\.bias"):
        convert_checkpoint("clear-hug", tmp_path / "part.pth", tmp_path / "a", **HEADS)
