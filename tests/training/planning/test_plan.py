"""Runs, schedules, rates and whole plans."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.registry import METHODS
from ecg_hf.training import pretrain
from ecg_hf.training.planning import Assumptions, make_plan, plan_lines, planned_run
from ecg_hf.training.planning.cards import CARDS, card_of_device, get_card
from ecg_hf.training.planning.measuring import first_step
from ecg_hf.training.planning.wall_time import records_per_second, schedule

from .conftest import STORED, micro_inputs, micro_run

DATASET = 4000


def test_the_published_recipe_is_the_default() -> None:
    run = planned_run("cg-dmer", gpus=8)
    assert (run.recipe, run.size, run.batch_size, run.records_per_step) == ("cg_dmer", "base", 512, 4096)
    assert (run.epochs, run.checkpointing, run.precision) == (50, True, "bf16")
    assert run.config.text_config.num_hidden_layers == 12
    assert any("MedCPT" in note for note in run.notes)
    assert planned_run("ecg-cpc").precision == "fp32"  # its recipe says so
    for name in METHODS:
        assert planned_run(name).recipe == METHODS[name].module


def test_options_take_precedence(tmp_path: Path) -> None:
    run = planned_run(
        "cg-dmer",
        size="micro",
        recipe="cg_dmer_cpu",
        batch_size=32,
        precision="fp16",
        model_options={"hidden_size": 64},
        training_options={"num_train_epochs": 3, "gradient_accumulation_steps": 4},
    )
    assert (run.batch_size, run.accumulation, run.epochs, run.precision) == (32, 4, 3, "fp16")
    assert run.config.hidden_size == 64
    assert run.feature_extractor().normalization == "zscore_record"
    assert run.config.freeze_text_layers == 0  # trained from scratch
    # A text tower that is there is looked at, one that is not is taken to be BERT-base.
    BertConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2).save_pretrained(tmp_path / "text")
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        f"method: cg-dmer\nmodel: {{size: micro, freeze_text_layers: 1}}\ntext_model: {tmp_path / 'text'}\n"
    )
    local = planned_run("cg-dmer", recipe=recipe)
    assert local.config.text_config.hidden_size == 24
    assert local.config.freeze_text_layers == 1
    assert local.notes == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "nope"}, "cg-dmer"),
        ({"size": "huge"}, "huge"),
        ({"recipe": "nope"}, "cg_dmer"),
        ({"recipe": "ecg_jepa"}, "ecg-jepa"),
        ({"gpus": 0}, "gpus"),
        ({"batch_size": 0}, "batch_size"),
        ({"precision": "fp8"}, "fp8"),
        ({"training_options": {"num_train_epochs": 0}}, "epochs"),
        ({"training_options": {"gradient_accumulation_steps": 0}}, "accumulation"),
        ({"training_options": {"optim": "adafactor"}}, "adafactor"),
        ({"model_options": {"mask_ratio": 3.0}}, "mask_ratio"),
    ],
)
def test_impossible_runs(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        planned_run(**{"model": "cg-dmer", **options})


@pytest.mark.parametrize("values", [{"card": "h1000"}, {"mfu": 0.0}, {"mfu": 1.1}, {"device_tflops": 0.0}])
def test_impossible_assumptions(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Assumptions(**values)


def test_cards() -> None:
    assert card_of_device("NVIDIA H100 80GB HBM3") is CARDS["h100"]
    assert card_of_device("NVIDIA H100 PCIe") is CARDS["h100-pcie"]
    assert card_of_device("NVIDIA H200") is CARDS["h200"]
    assert card_of_device("NVIDIA A100-SXM4-80GB") is CARDS["a100-80gb"]
    assert card_of_device("NVIDIA A100-SXM4-40GB") is CARDS["a100-40gb"]
    assert card_of_device("NVIDIA A10G") is None
    assert card_of_device("NVIDIA GeForce RTX 9090") is None
    assert get_card("H100").tflops("bf16") == 989.4
    assert get_card("h100").tflops("fp32") < 100.0


def test_rate_by_hand() -> None:
    """8 x 1000 TFLOP/s at 40 % do 3.2e15 operations a second: 3.2e4 records of 1e11."""
    assert records_per_second(1e11, 8, 1000.0, 0.4) == pytest.approx(3.2e4)


@pytest.mark.parametrize(
    ("size", "batch", "gpus", "accumulation", "drop_last", "expected"),
    [
        (800_035, 512, 8, 1, True, 195),  # 195.3 whole steps of 4096
        (1000, 100, 2, 2, True, 3),  # 5 batches each: 2 + 2 + 1
        (1050, 100, 2, 1, False, 6),  # 11 batches: the last is dealt to both
    ],
)
def test_schedule_by_hand(
    size: int, batch: int, gpus: int, accumulation: int, drop_last: bool, expected: int
) -> None:
    run = replace(
        micro_run("ecg-cpc"),
        batch_size=batch,
        gpus=gpus,
        accumulation=accumulation,
        drop_last=drop_last,
        epochs=3,
    )
    steps = schedule(run, size)
    assert steps.steps_per_epoch == expected
    assert steps.steps == 3 * expected
    assert steps.hours(rate=steps.records / 7200.0) == pytest.approx(2.0)
    assert schedule(replace(run, max_steps=5), size).steps == 5
    with pytest.raises(ConfigurationError, match="do not fill"):
        schedule(replace(run, drop_last=True), batch * gpus - 1)
    with pytest.raises(ConfigurationError, match="hold records"):
        schedule(run, 0)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 3])
def test_schedule_is_the_trainers(built_path: Path, tmp_path: Path, accumulation: int) -> None:
    result = pretrain(
        "ecg-cpc",
        built_path,
        tmp_path / "run",
        size="micro",
        num_train_epochs=2,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=accumulation,
        eval_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    options = {"training_options": {"gradient_accumulation_steps": accumulation}}
    run = micro_run("ecg-cpc", batch_size=16, **options)
    assert schedule(run, result.records["train"]).steps == result.steps


@pytest.mark.parametrize("name", sorted(METHODS))
def test_plan_of_every_method(name: str) -> None:
    run = micro_run(name, gpus=2)
    tokens = 16 if run.method.multimodal else None
    assumptions = Assumptions(stored=STORED, text_tokens=tokens, device_tflops=1.0, mfu=0.5)
    plan = make_plan(run, DATASET, assumptions=assumptions, measured_steps=1)
    values = json.loads(json.dumps(plan.to_dict()))
    operations = values["operations_per_record"]
    assert operations["lowest"] <= operations["total"] * (1 + 1e-9)
    assert operations["total"] <= operations["highest"] * (1 + 1e-9)
    matrix = operations["model"]["products"] + operations["model"]["convolutions"]
    estimated, scheduled = values["estimated"], values["schedule"]
    assert estimated["records_per_s"] == pytest.approx(2 * 1e12 * 0.5 / matrix)
    assert scheduled["records"] == 2 * DATASET
    assert estimated["run_hours"] == pytest.approx(2 * DATASET / estimated["records_per_s"] / 3600)
    assert estimated["epoch_hours"] == pytest.approx(estimated["run_hours"] / 2)
    measured = values["measured"]
    assert measured["records_per_s"] == pytest.approx(2 / measured["step_s"])
    memory = values["memory_bytes"]
    parts = ("weights", "optimizer", "communication", "inputs", "peak")
    assert memory["peak_total"] == sum(memory[part] for part in parts)
    assert memory["peak_total"] > memory["gradients"] + memory["activations"]
    assert values["disk_bytes"]["dataset"] == DATASET * values["disk_bytes"]["record"]
    text = "\n".join(plan_lines(plan))
    assert f"{plan.parameters.total:,}" in text
    assert "2 x 1 TFLOP/s (as given) x 50% utilisation, perfect scaling: all assumed" in text
    assert "measured  " in text


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    run = micro_run("ecg-cpc")
    tried = []
    model = run.method.load("pretraining")
    forward = model.forward

    def small_device(self: torch.nn.Module, input_values: torch.Tensor, **inputs: torch.Tensor) -> object:
        tried.append(len(input_values))
        if len(input_values) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, input_values, **inputs)

    monkeypatch.setattr(model, "forward", small_device)
    step = first_step(run, micro_inputs(run), rows=8, device="cpu", precision="fp32")
    assert (step.rows, tried) == (2, [8, 4, 2])
