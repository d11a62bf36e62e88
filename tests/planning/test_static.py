"""Parameters, optimiser state and files against the real things, for every method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.registry import PRETRAINABLE
from ecg_hf.planning.counts import count_parameters
from ecg_hf.planning.measuring import TrainingStep
from ecg_hf.planning.memory import StoredRecords, checkpoint_bytes, static_memory
from ecg_hf.planning.settings import PlannedRun
from ecg_hf.planning.tracing import meta_model

from .conftest import micro_inputs, micro_run


def stepped(run: PlannedRun) -> TrainingStep:
    step = TrainingStep(run, micro_inputs(run), rows=2, device="cpu", precision="fp32")
    step()
    return step


def test_parameters_add_up(run: PlannedRun) -> None:
    model = run.method.load("pretraining")(run.config)
    counts = count_parameters(meta_model(run))
    assert counts.total == sum(parameter.numel() for parameter in model.parameters())
    assert counts.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(total for total, _ in counts.parts.values()) == counts.total
    assert sum(trainable for _, trainable in counts.parts.values()) == counts.trainable
    for name, (total, _) in counts.parts.items():
        part = model.get_parameter(name) if name in dict(model.named_parameters()) else None
        expected = (
            part.numel()
            if part is not None
            else sum(p.numel() for p in model.get_submodule(name).parameters())
        )
        assert total == expected, name


def test_a_teacher_is_not_trained() -> None:
    counts = count_parameters(meta_model(micro_run("ecg-jepa")))
    total, trainable = counts.parts["target_encoder"]
    assert total > 0
    assert trainable == 0


def test_static_memory_and_files_are_those_of_a_stepped_optimizer(run: PlannedRun, tmp_path: Path) -> None:
    step = stepped(run)
    planned = static_memory(meta_model(run), processes=1)
    state = [value for entry in step.optimizer.state.values() for value in entry.values()]
    assert planned.optimizer == sum(value.numel() * value.element_size() for value in state)
    trainable = [p for p in step.model.parameters() if p.requires_grad]
    assert planned.gradients == sum(p.numel() * p.element_size() for p in trainable)
    held = [*step.model.parameters(), *step.model.buffers()]
    assert planned.weights == sum(value.numel() * value.element_size() for value in held)
    assert planned.communication == 0
    assert static_memory(meta_model(run), processes=2).communication == planned.gradients

    files = checkpoint_bytes(meta_model(run))
    step.model.save_pretrained(tmp_path)
    torch.save(step.optimizer.state_dict(), tmp_path / "optimizer.pt")
    weights = (tmp_path / "model.safetensors").stat().st_size
    # Headers, and up to a few hundred bytes around each tensor in the optimiser's archive.
    assert files.weights <= weights < files.weights + 200 * len(held) + 2000
    optimizer = (tmp_path / "optimizer.pt").stat().st_size
    planned_optimizer = files.checkpoint - files.weights
    assert planned_optimizer <= optimizer < planned_optimizer + 1000 * len(state) + 5000


def test_dataset_bytes_are_those_of_a_built_dataset(built_path: Path, built: Dataset) -> None:
    on_disk = sum(file.stat().st_size for file in built_path.rglob("*.arrow"))
    planned = StoredRecords(sampling_rate=100.0, seconds=10.0).record_bytes
    assert planned == pytest.approx(on_disk / len(built), rel=0.01)
    assert StoredRecords(500.0, 10.0, 12).sample_bytes == 12 * 5000 * 2


@pytest.mark.parametrize(
    "values", [(0.0, 10.0, 12), (500.0, -1.0, 12), (500.0, float("inf"), 12), (500.0, 10.0, 0)]
)
def test_records_that_can_not_be_stored(values: tuple[float, float, int]) -> None:
    with pytest.raises(ConfigurationError, match="positive"):
        StoredRecords(*values)


def test_every_method_is_there() -> None:
    assert {micro_run(name).method.name for name in PRETRAINABLE} == set(PRETRAINABLE)
