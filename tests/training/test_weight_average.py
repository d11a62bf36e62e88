"""The running average of weights: its value step by step, what it holds, and a checkpoint's round trip."""

from pathlib import Path

import pytest
import torch
from torch import nn

from ecg_hf.errors import ModelFolderError
from ecg_hf.training.weight_average import WeightAverage


def _model(frozen: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[2].requires_grad_(not frozen)
    return model


def _move(model: nn.Module, amount: float) -> None:
    with torch.no_grad():
        for tensor in (*model.parameters(), model[1].running_mean):
            tensor.add_(amount)


def test_first_steps_count_for_more_and_later_ones_by_the_decay():
    model = _model()
    average, expected = WeightAverage(model, 0.9), model[0].weight.detach().clone()
    for step in range(1, 40):
        _move(model, 1.0)
        average.update(model, step)
        decay = min(0.9, 1.0 - 1.0 / (1.0 + step / 2))
        expected = decay * expected + (1.0 - decay) * model[0].weight.detach()
    with average.installed(model):
        torch.testing.assert_close(model[0].weight.detach(), expected)


def test_running_statistics_follow_and_frozen_weights_are_left_alone():
    model = _model()
    average = WeightAverage(model, 0.5)
    _move(model, 1.0)
    average.update(model, 100)
    current = {name: value.clone() for name, value in model.state_dict().items()}
    with average.installed(model):
        inside = model.state_dict()
        torch.testing.assert_close(inside["1.running_mean"], current["1.running_mean"] - 0.5)
        assert torch.equal(inside["2.weight"], current["2.weight"])
        assert torch.equal(inside["1.num_batches_tracked"], current["1.num_batches_tracked"])
    assert all(torch.equal(value, current[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_brings_it_back(tmp_path: Path):
    model = _model()
    average = WeightAverage(model, 0.5)
    _move(model, 1.0)
    average.update(model, 3)
    average.save(tmp_path)
    again = WeightAverage(_model(), 0.5)
    again.load(tmp_path)
    other = _model()
    again.copy_to(other)
    with average.installed(model):
        assert torch.equal(model[0].weight, other[0].weight)
    with pytest.raises(ModelFolderError, match="another model"):
        WeightAverage(_model(frozen=False), 0.5).load(tmp_path)
    with pytest.raises(ModelFolderError, match="no averaged weights"):
        again.load(tmp_path / "nowhere")
