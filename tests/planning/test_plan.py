"""Runs, schedules, rates and whole plans."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.registry import METHODS, PRETRAINABLE
from ecg_hf.planning import Assumptions, make_plan, plan_lines, planned_run
from ecg_hf.planning.devices import CARDS, card_of_device, get_card, records_per_second, schedule
from ecg_hf.planning.headroom import peak_bytes
from ecg_hf.planning.measuring import first_step
from ecg_hf.planning.memory import PROCESS_BYTES
from ecg_hf.planning.samples import sample_inputs
from ecg_hf.planning.tracing import trace_memory
from ecg_hf.training import pretrain

from .conftest import STORED, micro_inputs, micro_run

DATASET = 4000


def test_the_published_recipe() -> None:
    run = planned_run("cg-dmer", recipe="cg_dmer", gpus=8)
    assert (run.recipe, run.size, run.batch_size, run.records_per_step) == ("cg_dmer", "base", 512, 4096)
    assert (run.epochs, run.checkpointing, run.precision) == (50, True, "bf16")
    assert run.config.text_config.num_hidden_layers == 12
    assert any("MedCPT" in note for note in run.notes)
    assert planned_run("ecg-cpc", recipe="ecg_cpc").precision == "fp32"  # its recipe says so


@pytest.mark.parametrize("recipe", [None, "own"])
@pytest.mark.parametrize("name", sorted(PRETRAINABLE))
def test_a_plan_is_of_the_run_with_the_same_options(
    name: str, recipe: str | None, built_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recipe, size and options come out alike in training and in planning, whichever of them is given."""
    spec = METHODS[name]
    chosen = None if recipe is None else f"{spec.module}_cpu"
    given: dict[str, Any] = {"recipe": chosen, "size": spec.sizes[0] if recipe is None else None}
    training = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2}
    plan = planned_run(name, **given, accelerator=False, training_options=training)
    seen: list[Any] = []

    def stop(method: Any, model: Any, arguments: Any, data: Any, extractor: Any, *rest: Any) -> Any:
        seen.extend((model.config, arguments, extractor))
        raise KeyboardInterrupt

    monkeypatch.setattr("ecg_hf.training.run._trainer", stop)
    with pytest.raises(KeyboardInterrupt):
        pretrain(name, built_path, tmp_path / "run", **given, **training, use_cpu=True)
    config, arguments, extractor = seen
    assert plan.batch_size == arguments.per_device_train_batch_size
    assert plan.accumulation == arguments.gradient_accumulation_steps
    assert plan.checkpointing == arguments.gradient_checkpointing
    assert (plan.max_steps, plan.epochs) == (arguments.max_steps, arguments.num_train_epochs)
    assert plan.precision == ("bf16" if arguments.bf16 else "fp32")
    assert plan.feature_extractor().to_dict() == extractor.to_dict()
    # The vocabulary is made from the reports, which a plan does not read.
    from_reports = {"text_config", "text_mask_token_id", "text_special_token_ids", "num_terms", "vocab_size"}
    from_reports |= {"transformers_version"}
    left, right = (
        {key: value for key, value in one.to_dict().items() if key not in from_reports}
        for one in (plan.config, config)
    )
    assert left == right


def test_the_plan_for_a_processor(tmp_path: Path) -> None:
    """float32 unless asked otherwise, the memory of the process, the rate measured there."""
    run = planned_run("ecg-cpc", size="micro", accelerator=False, batch_size=8)
    assert run.precision == "fp32"
    assert planned_run("ecg-cpc", size="micro").precision == "bf16"
    plan = make_plan(run, DATASET, assumptions=Assumptions(stored=STORED), measured_steps=1)
    assert plan.rate.records_per_s == plan.measured.records_per_s
    assert 2 <= plan.measured.records <= run.batch_size
    assert plan.peak_bytes > PROCESS_BYTES
    assert plan.fits
    text = "\n".join(plan_lines(plan))
    assert "GPU" not in text
    assert "fits: this machine has" in text


@pytest.mark.slow
def test_memory_planned_is_memory_taken(built_path: Path, tmp_path: Path) -> None:
    """Within 30 % of the peak of a training process, for a batch that takes a good part of a gigabyte."""
    options = ["--model", "cg-dmer", "--size", "tiny", "--per-device-train-batch-size", "4", "--use-cpu"]
    options += ["--max-steps", "1", "--mask-ratio", "0.6", "--patch-size", "25", "--eval-strategy", "no"]
    command = [sys.executable, "-m", "ecg_hf.cli", "pretrain", *options, "--dataset", str(built_path)]
    command += ["--output", str(tmp_path / "run"), "--max-records", "8", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    taken = json.loads(done.stdout)["peak_memory_bytes"]
    run = planned_run(
        "cg-dmer",
        size="tiny",
        batch_size=4,
        accelerator=False,
        model_options={"mask_ratio": 0.6, "patch_size": 25},
    )
    planned = peak_bytes(run, trace_memory(run, sample_inputs(run, STORED, records=2)))
    assert planned == pytest.approx(taken, rel=0.3)


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
        exact_accumulation=False,  # of which batch norms leave no other way; steps are all that counts here
        eval_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    options = {"training_options": {"gradient_accumulation_steps": accumulation}}
    run = micro_run("ecg-cpc", batch_size=16, **options)
    assert schedule(run, result.records["train"]).steps == result.steps


@pytest.mark.parametrize("name", sorted(PRETRAINABLE))
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
