"""Losses and gradients of the reference implementations (fixtures), through the public classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ecg_hf import SimClrForPreTraining
from ecg_hf.models.joint_embedding.modeling import JointEmbeddingForPreTraining

pytestmark = pytest.mark.fixtures

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def make(kind: type[JointEmbeddingForPreTraining], width: int = 8, **options: Any) -> Any:
    """A model whose backbone's embeddings have ``width`` columns."""
    backbone = {"type": "resnet1d", "channels": [width], "depths": [1]}
    return kind(kind.config_class.preset("micro", backbone=backbone, **options)).train()


def leaf(values: Tensor) -> Tensor:
    return values.clone().requires_grad_()


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_simclr(shared_fixtures: Any, temperature: float) -> None:
    expected = load_file(shared_fixtures / "simclr" / "losses.safetensors")
    model = make(SimClrForPreTraining, temperature=temperature)
    first, second = leaf(expected["z1"]), leaf(expected["z2"])
    loss = model.weighted_sum(model.terms([first, second], [first, second]))
    loss.backward()
    name = f"nt_xent_tau{temperature}"
    torch.testing.assert_close(loss, expected[f"{name}.loss"], **CLOSE)
    torch.testing.assert_close(first.grad, expected[f"{name}.grad1"], **CLOSE)
    torch.testing.assert_close(second.grad, expected[f"{name}.grad2"], **CLOSE)
