"""The convolutional network trained from scratch."""

from __future__ import annotations

import pytest
import torch

from ecg_hf.nn.backbones.xresnet1d import Xresnet1d, XresnetBlock


def test_published_size() -> None:
    model = Xresnet1d(12, 5)
    assert sum(p.numel() for p in model.parameters()) == 2_446_469
    assert model.blocks(model.stem(torch.zeros(1, 12, 500))).shape == (1, 256, 16)
    assert sum(isinstance(m, XresnetBlock) for m in model.modules()) == 8


@pytest.mark.parametrize("samples", [500, 333, 33, 8])
def test_any_length_and_width(samples: int) -> None:
    model = Xresnet1d(3, 7, width=8, depths=(1, 1)).eval()
    assert model(torch.randn(2, 3, samples)).shape == (2, 7)


def test_a_new_block_passes_its_shortcut_on() -> None:
    block = XresnetBlock(4, 4).eval()
    features = torch.rand(2, 4, 16)
    torch.testing.assert_close(block(features), features)
    torch.testing.assert_close(
        XresnetBlock(4, 4, stride=2).eval()(features), features.unflatten(2, (8, 2)).mean(dim=3)
    )


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    model = Xresnet1d(2, 3, width=4, depths=(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # the zero-initialised norms let gradients through from the second step on
        optimizer.zero_grad()
        model(torch.randn(8, 2, 64)).square().sum().backward()
        optimizer.step()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())
