"""Every tensor of the official code's fixture, with each way of computing CroPA."""

import pytest
import torch
from torch.testing import assert_close

from ecg_hf.models.ecg_jepa.modeling_ecg_jepa import EcgJepaModel

from .conftest import Official

pytestmark = pytest.mark.fixtures

TOKENS = {"rtol": 0.0, "atol": 2e-5}


def test_all_tokens_and_their_mean(official: Official):
    output = official.model.ecg_jepa(official.input)
    assert_close(output.last_hidden_state, official.tensors["encoder_tokens_full"], **TOKENS)
    assert_close(output.pooler_output, official.tensors["representation"], **TOKENS)


def test_cropa_mask(official: Official):
    expected = official.tensors["attention_mask_cropa"].bool()
    assert torch.equal(official.model.ecg_jepa.encoder.cropa, expected)
    assert expected.sum(1).unique().tolist() == [57]


@pytest.mark.parametrize("rows", [[1], [0, 1], [1, 2, 6]], ids=str)
@pytest.mark.parametrize("how", ["lead_names", "lead_mask"])
def test_reduced_leads(official: Official, rows: list[int], how: str):
    expected = official.tensors[f"representation_leads_{'_'.join(map(str, rows))}"]
    if how == "lead_names":
        config = official.model.config.from_dict(official.model.config.to_dict())
        config.lead_names = [config.lead_names[row] for row in rows]
        config._attn_implementation = official.model.config._attn_implementation
        model = EcgJepaModel(config).eval()
        model.load_state_dict(official.model.ecg_jepa.state_dict())
        pooled = model(official.input[:, rows]).pooler_output
    else:
        lead_mask = torch.zeros(2, 8, dtype=torch.long)
        lead_mask[:, rows] = 1
        pooled = official.model.ecg_jepa(official.input, lead_mask=lead_mask).pooler_output
    assert_close(pooled, expected, **TOKENS)


@pytest.mark.parametrize("mask_per", ["batch", "sample"])
def test_visible_tokens(official: Official, mask_per: str):
    official.model.config.mask_per = mask_per
    context = official.model.ecg_jepa.encoder(official.input, None, official.times.visible)
    assert_close(context, official.tensors["context_tokens"], **TOKENS)


def test_targets(official: Official):
    raw = official.model.target_encoder(official.input)
    assert_close(raw, official.tensors["target_tokens_raw"], **TOKENS)
    normed = torch.nn.functional.layer_norm(raw, raw.shape[-1:])
    assert_close(normed, official.tensors["target_tokens_ln"], **TOKENS)
    target, weights = official.model.targets(official.input, official.times)
    assert weights is None
    assert_close(target, official.tensors["target_masked"], **TOKENS)


@pytest.mark.parametrize("mask_per", ["batch", "sample"])
def test_predictor(official: Official, mask_per: str):
    official.model.config.mask_per = mask_per
    predicted = official.model.predictor(official.tensors["context_tokens"], official.times)
    assert_close(predicted, official.tensors["predictor_tokens"], **TOKENS)
    masked = predicted.unflatten(1, (8, -1))[:, :, 25:].flatten(1, 2)
    assert_close(masked, official.tensors["pred_masked"], **TOKENS)


@pytest.mark.parametrize("all_present", [False, True])
def test_loss_and_gradients(official: Official, all_present: bool):
    """A mask that hides nothing takes other code and must give the same."""
    extra = {}
    if all_present:
        extra = {"lead_mask": torch.ones(2, 8), "sample_mask": torch.ones(2, 2500)}
    visible, masked = official.times
    output = official.model(official.input, visible_times=visible, masked_times=masked, **extra)
    assert_close(output.loss, official.tensors["loss"][0], rtol=0.0, atol=1e-6)
    output.loss.backward()
    model = official.model
    for name, parameter in {
        "encoder.W_P.weight": model.ecg_jepa.encoder.patch_projection.weight,
        "predictor.mask_token": model.predictor.mask_token,
        "encoder.encoder_blocks.blocks.0.attn.qkv.weight": model.ecg_jepa.encoder.layers.blocks[
            0
        ].attention.qkv.weight,
    }.items():
        expected = official.tensors[f"grad.{name}"]
        # These gradients are down to 1e-5 themselves: relative to the largest, not only absolute.
        assert_close(parameter.grad, expected, rtol=0.0, atol=min(1e-5, 1e-4 * float(expected.abs().max())))
    assert all(p.grad is None for p in model.target_encoder.parameters())


def test_momentum_step(official: Official):
    official.model.after_optimizer_step(0, 1000)
    teacher = official.model.target_encoder
    for parameter, name in ((teacher.patch_projection.weight, "W_P"), (teacher.norm.weight, "norm")):
        assert_close(parameter, official.tensors[f"ema0996.{name}.weight"], rtol=0.0, atol=1e-6)
