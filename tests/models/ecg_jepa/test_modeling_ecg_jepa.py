"""What is particular to ECG-JEPA: its switches, its teacher, its start, its published size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import resample
from torch import nn
from torch.nn import functional as F

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.ecg_jepa.configuration_ecg_jepa import JEPA_LEADS, EcgJepaConfig
from ecg_hf.models.ecg_jepa.feature_extraction_ecg_jepa import EcgJepaFeatureExtractor
from ecg_hf.models.ecg_jepa.modeling_ecg_jepa import EcgJepaForPreTraining, EcgJepaModel
from ecg_hf.nn.cropa import cropa_mask, factorised_is_faster
from ecg_hf.signal.leads import STANDARD_LEADS

from ..conftest import make_case


def pretraining(seed: int = 0, **overrides) -> tuple[EcgJepaForPreTraining, dict[str, torch.Tensor]]:
    case = make_case("ecg-jepa", **overrides)
    torch.manual_seed(seed)
    model = EcgJepaForPreTraining(case.config).eval()
    noise = model.draw_noise(case.batch, torch.Generator().manual_seed(seed))
    return model, {**case.batch, **noise}


def test_leads_are_the_published_ones_by_name():
    config = EcgJepaConfig()
    assert tuple(config.lead_names) == tuple(config.table_lead_names) == JEPA_LEADS
    extractor = EcgJepaFeatureExtractor()
    names = ["V6", "V5", "V4", "V3", "V2", "V1", "aVF", "aVL", "aVR", "III", "II", "I"]
    signal = np.random.default_rng(0).normal(size=(12, 5000))
    features = extractor(signal, sampling_rate=500, lead_names=names, return_tensors="np")
    expected = resample(signal[[11, 10, 5, 4, 3, 2, 1, 0]], 2500, axis=-1)
    assert features["input_values"].shape == (1, 8, 2500)
    # FFT resampling, no filter, no normalisation; the ends of a record may be treated more gently.
    np.testing.assert_allclose(features["input_values"][0, :, 100:-100], expected[:, 100:-100], atol=0.05)
    same_rate = extractor(signal[:, :2500], sampling_rate=250, lead_names=names, return_tensors="np")
    np.testing.assert_allclose(
        same_rate["input_values"][0], signal[[11, 10, 5, 4, 3, 2, 1, 0], :2500], rtol=1e-6
    )


def test_other_leads_get_a_table_of_their_own():
    twelve = EcgJepaConfig.preset("micro", lead_names=STANDARD_LEADS, num_samples=3000)
    assert twelve.lead_rows == list(range(12))
    assert EcgJepaModel(twelve)(torch.randn(1, 12, 3000)).last_hidden_state.shape == (1, 12 * 60, 32)
    few = EcgJepaConfig.preset("micro", lead_names=["v6", "II"])
    assert few.lead_rows == [7, 1]
    with pytest.raises(ConfigurationError, match="no position for lead aVR; known: I, II, V1"):
        EcgJepaConfig.preset("micro", lead_names=["aVR"], table_lead_names=JEPA_LEADS)


def test_fewer_and_reordered_leads_of_a_saved_model(tmp_path: Path):
    torch.manual_seed(0)
    model = EcgJepaModel(EcgJepaConfig.preset("micro")).eval()
    model.save_pretrained(tmp_path)
    values = torch.randn(2, 8, 1000)
    lead_mask = torch.zeros(2, 8)
    lead_mask[:, [1, 5]] = 1
    masked = model(values, lead_mask=lead_mask).pooler_output
    fewer = EcgJepaModel.from_pretrained(tmp_path, lead_names=["V4", "II"]).eval()
    torch.testing.assert_close(fewer(values[:, [5, 1]]).pooler_output, masked, rtol=1e-4, atol=1e-6)
    with pytest.raises(ConfigurationError, match="no position for lead III"):
        EcgJepaModel.from_pretrained(tmp_path, lead_names=["III"])


def test_shorter_records_and_padding_agree():
    torch.manual_seed(0)
    model = EcgJepaModel(EcgJepaConfig.preset("micro")).eval()
    values = torch.randn(2, 8, 1000)
    sample_mask = torch.zeros(2, 1000)
    sample_mask[:, :600] = 1
    padded = model(values, sample_mask=sample_mask).pooler_output
    torch.testing.assert_close(model(values[..., :600]).pooler_output, padded, rtol=1e-4, atol=1e-6)
    for samples in (1050, 0, 630):
        with pytest.raises(ConfigurationError, match=r"not a multiple of 50 up to 1000|the model takes 1000"):
            model(torch.zeros(1, 8, samples))


@pytest.mark.parametrize("overrides", [{}, {"mask_per": "sample"}, {"mask_strategy": "random"}], ids=str)
def test_what_is_missing_neither_helps_nor_counts(overrides):
    model, batch = pretraining(**overrides)
    lead_mask, sample_mask = torch.ones(4, 8), torch.ones(4, 1000)
    lead_mask[0, 2], lead_mask[1, :7], sample_mask[2, 500:] = 0, 0, 0
    present = lead_mask.bool()[..., None] & sample_mask.bool()[:, None, :]
    losses = []
    for fill in (0.0, 30.0):
        batch["input_values"] = torch.where(present, batch["input_values"], fill)
        output = model(**batch, lead_mask=lead_mask, sample_mask=sample_mask)
        losses.append(torch.stack([output.loss, *output.metrics.values()]))
    torch.testing.assert_close(*losses)


def test_layouts_give_the_same_loss():
    losses = []
    for layout in ("masked", "factorised", "auto"):
        model, batch = pretraining(attention_layout=layout)
        lead_mask = torch.ones(4, 8)
        lead_mask[0, 2] = 0
        losses.append(model(**batch, lead_mask=lead_mask).loss)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses[0], losses[2], rtol=1e-5, atol=1e-6)


def test_factorised_attention_exports_and_compiles_to_one_graph():
    torch.manual_seed(0)
    model = EcgJepaModel(EcgJepaConfig.preset("micro", attention_layout="factorised")).eval()
    inputs = {"input_values": torch.randn(3, 8, 1000), "lead_mask": torch.ones(3, 8)}
    expected = model(**inputs).pooler_output
    exported = torch.export.export(
        model, (), inputs, dynamic_shapes={name: {0: torch.export.Dim("batch", min=2)} for name in inputs}
    ).module()
    torch.testing.assert_close(exported(**inputs).pooler_output, expected, rtol=1e-4, atol=1e-5)
    more = {name: torch.cat([value, value]) for name, value in inputs.items()}
    torch.testing.assert_close(exported(**more).pooler_output[3:], expected, rtol=1e-4, atol=1e-5)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**inputs).pooler_output, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["masked", "factorised"])
def test_weights_in_bfloat16(layout: str):
    model, batch = pretraining(attention_layout=layout)
    expected = model(**batch).loss
    model = model.to(torch.bfloat16)
    batch["input_values"] = batch["input_values"].to(torch.bfloat16)
    output = model(**batch)
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, expected, rtol=0.05, atol=0.0)
    assert model.ecg_jepa(batch["input_values"]).pooler_output.dtype == torch.float32


def test_automatic_layout_goes_by_device_and_size():
    cpu, elsewhere = torch.device("cpu"), torch.device("meta")
    assert factorised_is_faster(8, 50, cpu)
    assert factorised_is_faster(12, 150, cpu)
    assert not factorised_is_faster(8, 23, cpu)
    assert not factorised_is_faster(2, 50, cpu)
    assert not factorised_is_faster(12, 150, elsewhere)
    encoder = EcgJepaModel(EcgJepaConfig.preset("micro", patch_size=20)).encoder
    assert encoder._attention_mask(50, None, cpu, False).ndim == 5
    assert encoder._attention_mask(23, None, cpu, False).ndim == 4
    assert encoder._attention_mask(50, None, cpu, True).ndim == 4


def test_attention_weights_are_cropa_even_where_the_layout_has_none():
    model = EcgJepaModel(EcgJepaConfig.preset("micro", attention_layout="factorised")).eval()
    model.set_attn_implementation("eager")
    weights = model(torch.randn(1, 8, 1000), output_attentions=True).attentions[0]
    assert torch.equal(weights[0, 0] > 0, cropa_mask(8, 20))


@pytest.mark.parametrize(
    "overrides",
    [
        {"mask_strategy": "random"},
        {"mask_scale": [0.1, 0.1]},
        {"num_mask_blocks": 2},
        {"mask_last_patch": True},
        {"mask_per": "sample"},
        {"predictor_num_layers": 2},
    ],
    ids=str,
)
def test_every_switch_changes_the_loss(overrides):
    losses = []
    for options in ({}, overrides):
        model, _ = pretraining(**options)
        batch = make_case("ecg-jepa").batch
        generator = torch.Generator().manual_seed(3)
        losses.append(
            torch.stack([model(**batch, **model.draw_noise(batch, generator)).loss for _ in range(3)])
        )
    assert (losses[0] - losses[1]).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"hidden_size": 30}, "multiple of 4"),
        ({"num_attention_heads": 5}, "5 heads do not divide 32"),
        ({"predictor_num_attention_heads": 3}, "3 heads do not divide 32"),
        ({"num_samples": 1010}, "not a positive multiple"),
        ({"mask_scale": [0.2]}, "two rising shares"),
        ({"mask_scale": [0.3, 0.2]}, "two rising shares"),
        ({"mask_scale": [0.01, 0.02]}, "hides nothing of 20 patches"),
        ({"mask_scale": [0.2, 0.3], "mask_last_patch": True}, "may hide all"),
        ({"ema_momentum": 1.1}, "ema_momentum must rise"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"num_mask_blocks": 0}, "num_mask_blocks"),
        ({"mask_strategy": "tube"}, "mask_strategy"),
    ],
    ids=str,
)
def test_values_that_can_not_work(overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        EcgJepaConfig.preset("micro", **overrides)


def test_the_teacher_starts_as_the_student_and_follows_it():
    model, batch = pretraining(drop_path_rate=0.5)
    student, teacher = model.ecg_jepa.encoder, model.target_encoder
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), teacher.parameters(), strict=True))
    with torch.no_grad():
        student.norm.weight.add_(1.0)
    for step, momentum in ((0, 0.996), (50, 0.998), (99, 0.99996)):
        before = teacher.norm.weight.clone()
        model.after_optimizer_step(step, 100)
        expected = momentum * before + (1 - momentum) * student.norm.weight
        torch.testing.assert_close(teacher.norm.weight, expected, rtol=1e-6, atol=1e-7)
    model.train()
    model(**batch).loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_the_teacher_is_frozen_after_loading(tmp_path: Path):
    model, _ = pretraining()
    with torch.no_grad():
        model.target_encoder.norm.weight.mul_(2.0)
    model.save_pretrained(tmp_path)
    loaded = EcgJepaForPreTraining.from_pretrained(tmp_path)
    assert not any(p.requires_grad for p in loaded.target_encoder.parameters())
    assert all(p.requires_grad for p in loaded.ecg_jepa.parameters())
    assert torch.equal(loaded.target_encoder.norm.weight, model.target_encoder.norm.weight)


@pytest.mark.parametrize("flag", [True, False])
def test_drop_path_of_the_teacher(flag: bool):
    model, batch = pretraining(drop_path_rate=0.5, target_drop_path=flag)
    model.train()
    torch.manual_seed(0)
    first, second = (model.target_encoder(batch["input_values"]) for _ in range(2))
    assert torch.equal(first, second) == (not flag)
    assert model.ecg_jepa.training
    assert not model.eval().target_encoder.training


def test_masks_are_one_per_batch_unless_told_otherwise():
    for per, alike in (("batch", True), ("sample", False)):
        _, batch = pretraining(mask_per=per)
        assert (batch["masked_times"] == batch["masked_times"][:1]).all().item() == alike


def test_a_generator_of_another_device_is_read_by_its_seed():
    """Counts must not be fetched from a device; a stand-in, as there may be no accelerator here."""

    class Elsewhere:
        device = torch.device("meta")

        def initial_seed(self) -> int:
            return 7

    model, batch = pretraining()
    drawn = model.draw_noise(batch, Elsewhere())
    expected = model.draw_noise(batch, torch.Generator().manual_seed(7))
    assert all(torch.equal(drawn[name], expected[name]) for name in expected)


def test_initial_weights_are_the_official_ones():
    torch.manual_seed(0)
    overrides = {
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "predictor_num_layers": 3,
    }
    model = EcgJepaForPreTraining(EcgJepaConfig.preset("micro", initializer_range=0.02, **overrides))
    for stack in (model.ecg_jepa.encoder.layers, model.predictor.layers):
        for depth, block in enumerate(stack.blocks, start=1):
            assert block.attention.qkv.bias is None
            assert block.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
            for layer in (block.attention.output, block.mlp[-1]):
                assert layer.weight.std().item() == pytest.approx(0.02 / math.sqrt(2 * depth), rel=0.05)
                assert not layer.bias.any()
    assert model.ecg_jepa.encoder.patch_projection.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert 0.005 < model.predictor.mask_token.std().item() < 0.04
    wide = EcgJepaModel(EcgJepaConfig.preset("micro", initializer_range=4.0))
    assert wide.encoder.layers.blocks[0].mlp[0].weight.abs().max() <= 2.0  # cut at two, whatever the range


def reference_tokens(model: EcgJepaModel, values: torch.Tensor) -> torch.Tensor:
    """The encoder once more, written out densely from the description of the method."""
    encoder, heads = model.encoder, model.config.num_attention_heads
    width, patches = model.config.hidden_size, values.shape[-1] // 50
    half = width // 2
    frequency = 10_000.0 ** -(torch.arange(half // 2, dtype=torch.float64) / (half // 2))

    def code(index: int) -> torch.Tensor:
        return torch.cat([(index * frequency).sin(), (index * frequency).cos()])

    table = torch.stack(
        [torch.cat([code(t), code(lead)]) for lead in range(8) for t in range(patches)]
    ).float()
    grid = [(lead, t) for lead in range(8) for t in range(patches)]
    allowed = torch.tensor([[a[0] == b[0] or a[1] == b[1] for b in grid] for a in grid])
    x = F.linear(values.reshape(len(values), 8 * patches, 50), *encoder.patch_projection.parameters())
    for block in encoder.layers.blocks:
        x = x + table
        normed = F.layer_norm(x, (width,), block.attention_norm.weight, block.attention_norm.bias, 1e-5)
        q, k, v = F.linear(normed, block.attention.qkv.weight).chunk(3, -1)
        attended = torch.zeros_like(x)
        size = width // heads
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = q[..., part] @ k[..., part].mT / math.sqrt(size)
            attended[..., part] = scores.masked_fill(~allowed, -math.inf).softmax(-1) @ v[..., part]
        x = x + F.linear(attended, block.attention.output.weight, block.attention.output.bias)
        normed = F.layer_norm(x, (width,), block.mlp_norm.weight, block.mlp_norm.bias, 1e-5)
        inner = F.gelu(F.linear(normed, block.mlp[0].weight, block.mlp[0].bias))
        x = x + F.linear(inner, block.mlp[-1].weight, block.mlp[-1].bias)
    return F.layer_norm(x, (width,), encoder.norm.weight, encoder.norm.bias, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["masked", "factorised"])
def test_published_size(layout: str):
    torch.manual_seed(0)
    model = EcgJepaForPreTraining(EcgJepaConfig.preset("base", attention_layout=layout)).eval()
    count = {part: sum(p.numel() for p in module.parameters()) for part, module in model.named_children()}
    assert count == {"ecg_jepa": 85_067_520, "target_encoder": 85_067_520, "predictor": 11_232_000}
    assert model.num_parameters(only_trainable=True) == 85_067_520 + 11_232_000
    with torch.no_grad():
        for module in model.ecg_jepa.modules():  # away from the identity, or norms are not tested
            if isinstance(module, nn.LayerNorm):
                module.weight.add_(0.1 * torch.randn_like(module.weight))
                module.bias.add_(0.1 * torch.randn_like(module.bias))
        values = torch.randn(1, 8, 2500)
        output = model.ecg_jepa(values)
        expected = reference_tokens(model.ecg_jepa, values)
        torch.testing.assert_close(output.last_hidden_state, expected, rtol=0.0, atol=5e-5)
        torch.testing.assert_close(output.pooler_output, expected.mean(1), rtol=0.0, atol=2e-5)
        assert model(values).loss.isfinite()
