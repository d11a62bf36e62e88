"""Noise, logs and evaluation of EcgPreTrainer on a toy model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from toy_pretraining import ToyForPreTraining, toy_trainer, training_losses
from transformers import TrainingArguments

from ecg_hf.errors import ConfigurationError
from ecg_hf.training import EcgPreTrainer, read_training_log


def test_logs_every_loss_term_as_mean_since_the_last_log(tmp_path: Path) -> None:
    every, third = (
        toy_trainer(tmp_path / str(steps), max_steps=6, logging_steps=steps, per_device_train_batch_size=8)
        for steps in (1, 3)
    )
    every.train()
    third.train()
    fine, coarse = training_losses(every), training_losses(third)
    assert len(coarse) == 2
    for name in ("loss_contrastive", "loss_reconstruction", "error_ratio", "loss"):
        for index, row in enumerate(coarse):
            expected = sum(step[name] for step in fine[3 * index : 3 * index + 3]) / 3
            assert row[name] == pytest.approx(expected, abs=1e-5)
    for row in fine:
        assert row["loss"] == pytest.approx(row["loss_contrastive"] + row["loss_reconstruction"], abs=1e-5)
        assert "loss_error_ratio" not in row


def test_evaluation_covers_every_record_and_repeats_exactly(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, per_device_eval_batch_size=8)  # 20 records: 8 + 8 + 4
    first, second = trainer.evaluate(), trainer.evaluate()
    assert len(list(trainer.get_eval_dataloader())) == 3
    for name in ("eval_loss", "eval_loss_contrastive", "eval_loss_reconstruction", "eval_error_ratio"):
        assert math.isfinite(first[name])
        assert first[name] == second[name]
    terms = first["eval_loss_contrastive"] + first["eval_loss_reconstruction"]
    assert first["eval_loss"] == pytest.approx(terms, abs=1e-4)


def test_noise_differs_between_steps_and_not_between_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    forward = ToyForPreTraining.forward

    def spy(self: ToyForPreTraining, **inputs: torch.Tensor) -> object:
        seen.append(inputs["mask_noise"].clone())
        return forward(self, **inputs)

    monkeypatch.setattr(ToyForPreTraining, "forward", spy)
    for name in ("a", "b"):
        trainer = toy_trainer(tmp_path / name, max_steps=3, per_device_train_batch_size=4)
        torch.manual_seed(hash(name) % 1000)  # what was drawn before must not matter
        trainer.train()
    assert len(seen) == 6
    assert all(torch.equal(a, b) for a, b in zip(seen[:3], seen[3:], strict=True))
    assert not torch.equal(seen[0], seen[1])


def test_log_file_has_every_row_once(tmp_path: Path) -> None:
    trainer = toy_trainer(
        tmp_path, max_steps=4, per_device_train_batch_size=8, eval_strategy="steps", eval_steps=2
    )
    trainer.train()
    rows = read_training_log(tmp_path)
    assert [(row["step"], row["kind"]) for row in rows] == [
        (1, "training"),
        (2, "training"),
        (2, "evaluation"),
        (3, "training"),
        (4, "training"),
        (4, "evaluation"),
        (4, "summary"),
    ]
    assert rows[0]["loss_contrastive"] > 0
    assert rows[2]["eval_loss_contrastive"] > 0


def test_log_file_is_valid_json_when_the_loss_is_not_finite(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, max_steps=2, per_device_train_batch_size=8, learning_rate=1e30)
    trainer.train()

    def refuse(name: str) -> None:
        raise AssertionError(name)

    rows = [
        json.loads(line, parse_constant=refuse)
        for line in (tmp_path / "training_log.jsonl").read_text().splitlines()
    ]
    assert rows[1]["loss"] is None


def test_biases_and_scalars_do_not_decay(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, weight_decay=0.1)
    decaying, free = trainer.parameter_groups(trainer.model)
    assert decaying["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert all(parameter.ndim > 1 for parameter in decaying["params"])
    assert any(parameter is trainer.model.logit_scale for parameter in free["params"])
    total = len(decaying["params"]) + len(free["params"])
    assert total == len(list(trainer.model.parameters()))


def test_saved_folder_holds_no_pickle(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path)
    trainer.save_model()
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "training_args.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)


def test_a_card_that_is_there_stays(tmp_path: Path) -> None:
    """``Trainer.push_to_hub`` would write one that knows neither data nor method."""
    trainer = toy_trainer(tmp_path)
    (tmp_path / "README.md").write_text("written at the end of training")
    trainer.create_model_card(model_name="x")
    assert (tmp_path / "README.md").read_text() == "written at the end of training"


def test_other_arguments_are_refused(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path)
    with pytest.raises(ConfigurationError, match="EcgPreTrainingArguments"):
        EcgPreTrainer(trainer.model, TrainingArguments(output_dir=str(tmp_path), use_cpu=True))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_model_is_told_after_each_optimizer_step(tmp_path: Path, accumulation: int) -> None:
    """Teachers must see the weights the optimiser has just written, once per step whatever the micro-batches."""
    told: list[tuple[int, int, float]] = []

    def follow(step: int, total_steps: int) -> None:
        told.append((step, total_steps, float(trainer.model.ecg[0].weight.detach().sum())))

    trainer = toy_trainer(
        tmp_path, max_steps=3, per_device_train_batch_size=4, gradient_accumulation_steps=accumulation
    )
    start = float(trainer.model.ecg[0].weight.detach().sum())
    trainer.model.after_optimizer_step = follow
    trainer.train()
    assert [(step, total) for step, total, _ in told] == [(0, 3), (1, 3), (2, 3)]
    weights = [start, *(weight for _, _, weight in told)]
    assert len(set(weights)) == 4
    assert weights[-1] == float(trainer.model.ecg[0].weight.detach().sum())
