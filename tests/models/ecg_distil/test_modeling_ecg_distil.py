"""ECG-Distil: pooling, crops, dropped leads, the teacher, and what a trained folder needs at use."""

from pathlib import Path

import pytest
import torch

from ecg_hf import (
    EcgBeatConfig,
    EcgBeatForPreTraining,
    EcgDistilConfig,
    EcgDistilForPreTraining,
    EcgDistilModel,
)
from ecg_hf.errors import ConfigurationError
from ecg_hf.models.ecg_distil.modeling_ecg_distil import pooled_statistics


def _config(**options: object) -> EcgDistilConfig:
    return EcgDistilConfig.preset("micro", **options)


def test_padding_does_not_count_in_the_pooled_statistics():
    tokens = torch.rand(2, 6, 3)
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    short = pooled_statistics(tokens[:1, :4])
    padded = pooled_statistics(tokens, mask)
    torch.testing.assert_close(padded[:1], short)
    expected = torch.cat([tokens[1].mean(0), tokens[1].std(0, correction=0), tokens[1].amax(0)])
    torch.testing.assert_close(padded[1], expected, atol=1e-4, rtol=1e-4)
    assert pooled_statistics(tokens, torch.zeros_like(mask)).isfinite().all()


def test_crops_follow_the_schedule_and_fit_the_stride():
    model = EcgDistilForPreTraining(_config())
    stride = model.ecg_distil.encoder.stride
    whole = model._crop_samples()
    model.after_optimizer_step(step=0, total_steps=100)
    early = model._crop_samples()
    resumed = EcgDistilForPreTraining(_config())
    resumed.load_state_dict(model.state_dict())
    assert resumed._crop_samples() == early
    model.after_optimizer_step(step=99, total_steps=100)
    late = model._crop_samples()
    assert (whole, early, late) == (late, 480 // stride * stride, 960 // stride * stride)
    with pytest.raises(ConfigurationError, match="rise to a share of 1"):
        _config(crop_schedule=[(0.6, 4.8)])


def test_dropped_leads_are_masked_and_one_always_stays():
    model = EcgDistilForPreTraining(_config(lead_drop=1.0, signal_noise=0.0))
    values = torch.randn(64, 12, 1000)
    noise = model.draw_noise({"input_values": values}, torch.Generator().manual_seed(0))
    _, _, kept = model._augmented(values, None, None, noise)
    assert kept is not None
    counts = kept.sum(1)
    assert counts.min() >= 1
    assert counts.max() <= 11
    assert len(counts.unique()) > 5
    _, _, none_dropped = EcgDistilForPreTraining(_config())._augmented(values, None, None, noise)
    assert none_dropped is None


def test_a_teacher_is_taken_over_frozen_and_another_is_refused(tmp_path: Path):
    torch.manual_seed(1)
    EcgBeatForPreTraining(EcgBeatConfig.preset("micro")).save_pretrained(tmp_path / "teacher")
    teacher_config = EcgBeatConfig.from_pretrained(tmp_path / "teacher")
    model = EcgDistilForPreTraining(_config(teacher_config=teacher_config))
    model.save_pretrained(tmp_path / "student")
    assert str(tmp_path) not in (tmp_path / "student" / "config.json").read_text()
    model.load_teacher(tmp_path / "teacher")
    trained = EcgBeatForPreTraining.from_pretrained(tmp_path / "teacher").ecg_beat.encoder.state_dict()
    assert model.teacher is not None
    assert all(torch.equal(value, trained[name]) for name, value in model.teacher.state_dict().items())
    assert not any(p.requires_grad for p in model.teacher.parameters())
    assert not model.train().teacher.training
    EcgBeatForPreTraining(EcgBeatConfig.preset("micro", trunk_size=16)).save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigurationError, match="not the teacher"):
        model.load_teacher(tmp_path / "other")
    with pytest.raises(ConfigurationError, match="name one"):
        EcgDistilForPreTraining(_config(teacher_config=None))


def test_the_encoder_alone_needs_no_teacher_and_no_measurements(tmp_path: Path):
    EcgDistilForPreTraining(_config()).save_pretrained(tmp_path)
    model = EcgDistilModel.from_pretrained(tmp_path).eval()
    assert not any("teacher" in name for name, _ in model.named_parameters())
    output = model(torch.randn(2, 12, 1000))
    assert output.pooler_output.shape == (2, model.config.hidden_size)
    assert output.last_hidden_state.shape[2] * 3 == model.config.hidden_size
