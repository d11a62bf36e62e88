import torch
from torch import nn

from ecg_hf.nn.grouped import GroupedMlp


def test_groups_are_separate_mlps():
    torch.manual_seed(0)
    grouped = GroupedMlp(3, [6, 10, 5])
    values = torch.randn(8, 3, 6)
    projected = grouped(values)
    for g in range(3):
        linears = [nn.Linear(6, 10, bias=False), nn.Linear(10, 5, bias=False)]
        for linear, layer in zip(linears, grouped.layers, strict=True):
            linear.weight.data = layer.weight[g].detach()
        alone = nn.Sequential(linears[0], nn.BatchNorm1d(10), nn.ReLU(), linears[1])
        torch.testing.assert_close(projected[:, g], alone(values[:, g]))


def test_starts_with_a_scale_that_depth_keeps():
    torch.manual_seed(0)
    projected = GroupedMlp(2, [64, 256, 256, 64])(torch.randn(512, 2, 64))
    assert 0.7 < projected.std() < 1.4
