"""What is particular to ECG-JEPA (Weimann): teacher and student, padding, its configuration."""

from __future__ import annotations

import pytest
import torch

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.weimann_jepa.configuration_weimann_jepa import WeimannJepaConfig
from ecg_hf.models.weimann_jepa.modeling_weimann_jepa import WeimannJepaForPreTraining, WeimannJepaModel
from ecg_hf.nn.ema import linear_momentum

from ..conftest import make_case


def pretraining(**overrides: object) -> tuple[WeimannJepaForPreTraining, dict[str, torch.Tensor]]:
    case = make_case("weimann-jepa", **overrides)
    torch.manual_seed(0)
    model = WeimannJepaForPreTraining(case.config).eval()
    return model, {**case.batch, **model.draw_noise(case.batch, torch.Generator().manual_seed(0))}


def test_the_teacher_starts_as_the_student_and_follows_it() -> None:
    model, _ = pretraining(ema_momentum=0.5, ema_momentum_end=0.9)
    teacher, student = model.weimann_jepa.encoder, model.student
    start = teacher.norm.weight.clone()
    assert torch.equal(start, student.norm.weight)
    with torch.no_grad():
        student.norm.weight += 1.0
    model.after_optimizer_step(0, 10)
    # The momentum of the next step's forward pass, before which the official code moves.
    share = 1.0 - linear_momentum(1, 10, 0.5, 0.9)
    torch.testing.assert_close(teacher.norm.weight, start + share)


def test_dropout_is_the_students_alone() -> None:
    model, batch = pretraining(hidden_dropout=0.5)
    model.train()
    assert model.student.training
    assert not model.weimann_jepa.training
    tokens = [model.weimann_jepa(batch["input_values"]).last_hidden_state for _ in range(2)]
    assert torch.equal(*tokens)
    losses = [model(**batch).loss for _ in range(2)]
    assert not torch.equal(*losses)


def test_what_is_missing_neither_helps_nor_counts() -> None:
    model, batch = pretraining()
    lead_mask, sample_mask = torch.ones(4, 12), torch.ones(4, 1000)
    lead_mask[0, 2], sample_mask[2, 510:], sample_mask[3, :100] = 0, 0, 0
    present = lead_mask.bool()[..., None] & sample_mask.bool()[:, None, :]
    losses = []
    for fill in (0.0, 30.0):
        batch["input_values"] = torch.where(present, batch["input_values"], fill)
        losses.append(model(**batch, lead_mask=lead_mask, sample_mask=sample_mask).loss)
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("registers", [0, 1, 3])
def test_shorter_records_and_padding_agree(registers: int) -> None:
    torch.manual_seed(0)
    model = WeimannJepaModel(WeimannJepaConfig.preset("micro", num_registers=registers)).eval()
    values, sample_mask = torch.randn(2, 12, 1000), torch.zeros(2, 1000)
    sample_mask[:, :600] = 1
    padded = model(values, sample_mask=sample_mask).pooler_output
    output = model(values[..., :600])
    torch.testing.assert_close(output.pooler_output, padded, rtol=1e-4, atol=1e-6)
    assert output.last_hidden_state.shape == (2, 24, 32)
    for samples in (610, 0, 1025):
        with pytest.raises(ConfigurationError, match=r"not a multiple of 25 up to 1000|the model takes 1000"):
            model(torch.zeros(1, 12, samples))


def test_a_student_that_sees_nothing_but_padding_learns_nothing_infinite() -> None:
    model, batch = pretraining(num_registers=0)
    sample_mask = torch.zeros(4, 1000)
    sample_mask[:, :25] = 1
    batch["visible_times"] = torch.arange(1, 8).expand(4, -1)
    batch["masked_times"] = torch.tensor([0, *range(8, 40)]).expand(4, -1)
    loss = model.train()(**batch, sample_mask=sample_mask).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_first_weights_of_blocks_outputs_are_smaller_the_deeper_the_encoder() -> None:
    config = WeimannJepaConfig.preset("micro", hidden_size=128, num_hidden_layers=8, initializer_range=0.02)
    model = WeimannJepaForPreTraining(config)
    block = model.student.layers.blocks[3]
    assert block.attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for layer in (block.attention.output, block.mlp[3]):
        assert layer.weight.std().item() == pytest.approx(0.02 / 4.0, rel=0.05)
    narrow = model.predictor.layers.blocks[0].mlp[3].weight
    assert narrow.std().item() == pytest.approx(0.02 / 4.0, rel=0.1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"hidden_size": 33, "num_attention_heads": 3}, "hidden_size must be even"),
        ({"num_attention_heads": 5}, "5 heads do not divide 32"),
        ({"predictor_num_attention_heads": 3}, "3 heads do not divide 32"),
        ({"num_samples": 1010}, "not a positive multiple"),
        ({"num_samples": 25}, "1 patches are not within"),
        ({"num_samples": 25 * 2**17}, "patches are not within"),
        ({"num_registers": -1}, "num_registers"),
        ({"keep_ratio": [0.3, 0.2]}, "two rising shares"),
        ({"keep_ratio": [0.2]}, "two rising shares"),
        ({"min_block_size": 0}, "min_block_size"),
        ({"ema_momentum": 1.1}, "ema_momentum must rise"),
        ({"hidden_dropout": 1.0}, "hidden_dropout"),
        ({"predictor_num_layers": 0}, "predictor_num_layers"),
    ],
    ids=str,
)
def test_contradictions_are_refused(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        WeimannJepaConfig.preset("micro", **overrides)
