"""Official checkpoints through conversion, saving and the Auto classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, AutoModelForPreTraining

from ecg_hf.errors import ConversionError
from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.ecg_jepa.conversion_ecg_jepa import convert_official

pytestmark = pytest.mark.fixtures

HEADS = {"num_attention_heads": 4, "predictor_num_attention_heads": 2}


def encoder_only(weights: dict[str, Tensor], prefix: str = "encoder.") -> dict[str, Tensor]:
    return {prefix + k.removeprefix("encoder."): v for k, v in weights.items() if k.startswith("encoder.")}


def converted_folder(weights: dict[str, Tensor], folder: Path, **options: int) -> Path:
    from ecg_hf.models.registry import get_method

    state = OfficialState(weights)
    converted = convert_official(state, **options)
    state.finish()
    model = get_method("ecg-jepa").load(converted.role)(converted.config)
    model.load_state_dict(converted.state_dict)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("prefix", ["encoder.", ""])
def test_released_layout_loads_as_a_model(
    official_weights: dict[str, Tensor], shared_fixtures: Path, tmp_path: Path, prefix: str
):
    converted_folder(encoder_only(official_weights, prefix), tmp_path, num_attention_heads=4)
    expected = load_file(shared_fixtures / "ecg_jepa" / "tiny_io.safetensors")
    model, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    pooled = model.eval()(expected["input"]).pooler_output
    torch.testing.assert_close(pooled, expected["representation"], rtol=0.0, atol=2e-5)
    one = AutoModel.from_pretrained(tmp_path, lead_names=["II"]).eval()
    pooled = one(expected["input"][:, 1:2]).pooler_output
    torch.testing.assert_close(pooled, expected["representation_leads_1"], rtol=0.0, atol=2e-5)


def test_training_starts_from_a_released_encoder_with_its_own_teacher(
    official_weights: dict[str, Tensor], tmp_path: Path
):
    converted_folder(encoder_only(official_weights), tmp_path, num_attention_heads=4)
    model, info = AutoModelForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert {name.split(".")[0] for name in info["missing_keys"]} == {"target_encoder", "predictor"}
    student, teacher = model.ecg_jepa.encoder.state_dict(), model.target_encoder.state_dict()
    assert all(torch.equal(teacher[name], value) for name, value in student.items())
    assert torch.equal(student["patch_projection.weight"], official_weights["encoder.W_P.weight"])


def test_whole_module_keeps_teacher_and_student_apart(
    official_weights: dict[str, Tensor], shared_fixtures: Path, tmp_path: Path
):
    converted_folder(official_weights, tmp_path, **HEADS)
    expected = load_file(shared_fixtures / "ecg_jepa" / "tiny_io.safetensors")
    model, info = AutoModelForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    masked = expected["mask"].bool()
    times = {"visible_times": (~masked).nonzero().T, "masked_times": masked.nonzero().T}
    times = {name: index.expand(2, -1) for name, index in times.items()}
    loss = model.eval()(expected["input"], **times).loss
    torch.testing.assert_close(loss, expected["loss"][0], rtol=0.0, atol=1e-6)
    raw = model.target_encoder(expected["input"])
    torch.testing.assert_close(raw, expected["target_tokens_raw"], rtol=0.0, atol=2e-5)
    assert not any(p.requires_grad for p in model.target_encoder.parameters())


def test_heads_are_asked_for(official_weights: dict[str, Tensor]):
    with pytest.raises(ConversionError, match=r"--num-attention-heads \(16 in the published"):
        convert_official(OfficialState(encoder_only(official_weights)))
    with pytest.raises(ConversionError, match=r"--predictor-num-attention-heads \(12 in"):
        convert_official(OfficialState(official_weights), num_attention_heads=4)
    with pytest.raises(ConversionError, match="5 heads do not divide"):
        convert_official(OfficialState(encoder_only(official_weights)), num_attention_heads=5)


@pytest.mark.parametrize("key", ["encoder.pos_embed", "target_encoder.pos_embed", "predictor.pos_embed"])
def test_learned_positions_are_refused(official_weights: dict[str, Tensor], key: str):
    weights = {**official_weights, key: official_weights[key] + 1e-4}
    with pytest.raises(ConversionError, match=f"{key} is not the fixed sine-cosine table"):
        convert_official(OfficialState(weights), **HEADS)


def test_every_key_counts(official_weights: dict[str, Tensor]):
    weights = dict(official_weights)
    del weights["encoder.encoder_blocks.blocks.1.norm2.bias"]
    weights["predictor.mask_token"] = weights["predictor.mask_token"][..., :8]
    weights["encoder.cls_token"] = torch.zeros(1)
    state = OfficialState(weights)
    convert_official(state, **HEADS)
    with pytest.raises(ConversionError) as error:
        state.finish()
    assert error.value.value == {
        "missing": ["encoder.encoder_blocks.blocks.1.norm2.bias"],
        "mis-shaped": ["predictor.mask_token is (1, 1, 8), not (1, 1, 16)"],
        "unexpected": ["encoder.cls_token"],
    }


def test_another_methods_checkpoint_is_refused():
    with pytest.raises(ConversionError, match="not a checkpoint of this method"):
        convert_official(OfficialState({"conv.weight": torch.zeros(3, 3)}), num_attention_heads=4)
