"""Teachers against the formula."""

import copy

import pytest
import torch
from torch import nn

from ecg_hf.nn.ema import copy_weights, cosine_momentum, ema_update, linear_momentum


def small_net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))


def test_update_is_the_formula_and_leaves_the_student_alone():
    teacher, student = small_net(0), small_net(1)
    before, source = copy.deepcopy(teacher), copy.deepcopy(student)
    ema_update(teacher, student, 0.9)
    for new, old, own in zip(teacher.parameters(), before.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * own)
    for left, right in zip(student.parameters(), source.parameters(), strict=True):
        assert torch.equal(left, right)


def test_buffers_follow_at_once():
    teacher, student = small_net(0), small_net(1)
    student(torch.randn(8, 3))
    ema_update(teacher, student, 0.996)
    assert torch.equal(teacher[1].running_mean, student[1].running_mean)


@pytest.mark.parametrize(("momentum", "winner"), [(1.0, "teacher"), (0.0, "student")])
def test_extremes(momentum: float, winner: str):
    teacher, student = small_net(0), small_net(1)
    expected = copy.deepcopy(teacher if winner == "teacher" else student)
    ema_update(teacher, student, momentum)
    for left, right in zip(teacher.parameters(), expected.parameters(), strict=True):
        assert torch.equal(left, right)


def test_copies_are_frozen_equals():
    teacher, student = small_net(0), small_net(1)
    copy_weights(teacher, student)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert torch.equal(teacher[0].weight, student[0].weight)


def test_other_shapes_and_momenta_are_errors():
    with pytest.raises(ValueError, match="differ"):
        ema_update(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), 0.9)
    with pytest.raises(ValueError, match="momentum"):
        ema_update(nn.Linear(2, 2), nn.Linear(2, 2), 1.1)


def test_momentum_rises_linearly_to_its_end():
    values = [linear_momentum(step, 10, 0.996, 1.0) for step in range(12)]
    assert values[0] == 0.996
    assert values[5] == pytest.approx(0.998)
    assert values[10] == values[11] == 1.0


def test_momentum_rises_by_a_cosine_to_its_end():
    values = [cosine_momentum(step, 10, 0.996) for step in range(12)]
    assert values[0] == pytest.approx(0.996)
    assert values[5] == pytest.approx(0.998)
    assert values[1] - values[0] < values[5] - values[4]
    assert values[10] == values[11] == 1.0
