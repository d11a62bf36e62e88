"""A small planned run of every registered method."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ecg_hf.models.registry import METHODS, PRETRAINABLE
from ecg_hf.planning.memory import StoredRecords
from ecg_hf.planning.samples import SampleInputs, sample_inputs
from ecg_hf.planning.settings import PlannedRun, planned_run
from ecg_hf.training.recipe import Recipe

STORED = StoredRecords(sampling_rate=100.0)


def micro_run(name: str, **options: Any) -> PlannedRun:
    """The method's smallest preset, eight records at a time, in float32."""
    recipe = Recipe("micro", name, METHODS[name].sizes[0], training={"num_train_epochs": 2})
    return planned_run(name, recipe=recipe, **{"batch_size": 8, "precision": "fp32", **options})


def micro_inputs(run: PlannedRun) -> SampleInputs:
    return sample_inputs(run, STORED, text_tokens=16 if run.method.multimodal else None)


@pytest.fixture(params=sorted(PRETRAINABLE))
def run(request: pytest.FixtureRequest) -> PlannedRun:
    return micro_run(request.param)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
