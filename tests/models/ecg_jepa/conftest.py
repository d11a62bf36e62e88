"""The official tiny model, converted, and everything it computes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.ecg_jepa.conversion_ecg_jepa import convert_official
from ecg_hf.models.ecg_jepa.modeling_ecg_jepa import EcgJepaForPreTraining
from ecg_hf.nn.masks.time import TimeMask


@dataclass
class Official:
    """Inputs and results of the official code, and our model with its weights."""

    tensors: dict[str, Tensor]
    model: EcgJepaForPreTraining

    @property
    def input(self) -> Tensor:
        return self.tensors["input"]

    @property
    def times(self) -> TimeMask:
        masked = self.tensors["mask"].bool()
        moments = torch.arange(50)
        return TimeMask(moments[~masked].expand(2, -1), moments[masked].expand(2, -1))


@pytest.fixture(scope="session")
def official_weights(shared_fixtures: Path) -> dict[str, Tensor]:
    return load_file(shared_fixtures / "ecg_jepa" / "tiny_state_dict.safetensors")


@pytest.fixture(params=["factorised", "masked", "eager"])
def official(request, shared_fixtures: Path, official_weights: dict[str, Tensor]) -> Official:
    state = OfficialState(official_weights)
    converted = convert_official(state, num_attention_heads=4, predictor_num_attention_heads=2)
    state.finish()
    model = EcgJepaForPreTraining(converted.config).eval()
    model.load_state_dict(converted.state_dict)
    if request.param == "eager":
        model.set_attn_implementation("eager")
    else:
        model.config.attention_layout = request.param
    return Official(load_file(shared_fixtures / "ecg_jepa" / "tiny_io.safetensors"), model)
