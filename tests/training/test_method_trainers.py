"""ECG-CPC's three learning rates, ECG-JEPA's schedule and teacher, SimSiam's constant rate in their trainers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.ecg_cpc.configuration_ecg_cpc import EcgCpcConfig
from ecg_hf.models.ecg_cpc.modeling_ecg_cpc import EcgCpcForPreTraining
from ecg_hf.models.ecg_jepa.configuration_ecg_jepa import EcgJepaConfig
from ecg_hf.models.ecg_jepa.modeling_ecg_jepa import EcgJepaForPreTraining
from ecg_hf.models.registry import get_method
from ecg_hf.training import EcgPreTrainingArguments, load_recipe, pretrain
from ecg_hf.training.method_trainers import EcgCpcTrainer, EcgJepaTrainer, cosine_learning_rate


def test_stem_s4_and_head_have_their_own_rates(tmp_path: Path):
    model = EcgCpcForPreTraining(EcgCpcConfig.preset("micro"))
    arguments = EcgPreTrainingArguments(
        output_dir=str(tmp_path), learning_rate=3e-3, weight_decay=1e-3, use_cpu=True
    )
    trainer = EcgCpcTrainer(model, arguments, train_dataset=Dataset.from_dict({"x": [0]}))
    groups = trainer.create_optimizer().param_groups
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    rates = {"ecg_cpc.encoder": 3e-5, "ecg_cpc.context": 3e-4, "prediction_head.weight": 3e-3}
    for name, parameter in model.named_parameters():
        rate, decay = found.pop(id(parameter))
        assert rate == pytest.approx(rates[".".join(name.split(".")[:2])]), name
        assert decay == 1e-3, name
    assert not found


def test_recipe_of_ecg_cpc_is_the_published_one():
    recipe = load_recipe("ecg_cpc")
    assert (recipe.method, recipe.size) == ("ecg-cpc", "base")
    training, model = recipe.training, recipe.model
    assert (training["learning_rate"], training["weight_decay"]) == (3e-3, 1e-3)
    assert (training["lr_scheduler_type"], training["warmup_steps"], training["max_grad_norm"]) == (
        "constant",
        0,
        0,
    )
    assert (training["per_device_train_batch_size"], training["num_train_epochs"]) == (64, 10)
    assert (model["predictor_lr_factor"], model["encoder_lr_factor"], model["clip_mv"]) == (0.1, 0.01, 3.0)
    EcgCpcConfig.preset(recipe.size, **model)


def test_schedule_is_the_published_formula():
    peak, epochs, per_epoch = 5.5e-5, 100, 40
    total, warmup = epochs * per_epoch, 5 * per_epoch
    for step in range(total + 1):
        if step < warmup:
            expected = 1e-6 + step * (peak - 1e-6) / warmup
        else:
            expected = 1e-6 + 0.5 * (peak - 1e-6) * (1 + math.cos(math.pi * step / total))
        assert cosine_learning_rate(step, total, warmup, peak, 1e-6) == pytest.approx(expected, rel=1e-12)
    before, after = (cosine_learning_rate(s, total, warmup, peak, 1e-6) for s in (warmup - 1, warmup))
    assert before == pytest.approx(5.47e-5, abs=3e-7)
    assert after == pytest.approx(5.467e-5, abs=1e-8)
    assert cosine_learning_rate(total, total, warmup, peak, 1e-6) == pytest.approx(1e-6)
    assert cosine_learning_rate(0, total, 0, peak, 1e-6) == peak


def trainer(folder: Path, steps: int = 6, **options: object) -> EcgJepaTrainer:
    torch.manual_seed(0)
    rows = [{"input_values": torch.randn(8, 1000)} for _ in range(8)]
    arguments = EcgPreTrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        max_steps=steps,
        per_device_train_batch_size=4,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        **{"learning_rate": 1e-3, "weight_decay": 0.05, "warmup_steps": 2, **options},
    )
    model = EcgJepaForPreTraining(EcgJepaConfig.preset("micro"))
    return EcgJepaTrainer(model=model, args=arguments, train_dataset=rows)


def test_learning_rates_of_a_run(tmp_path: Path):
    run = trainer(tmp_path)
    run.train()
    logged = [row["learning_rate"] for row in run.state.log_history if "learning_rate" in row]
    assert logged == pytest.approx([cosine_learning_rate(s, 6, 2, 1e-3, 1e-6) for s in range(6)])


def test_lowest_rate_can_be_set_and_nothing_else(tmp_path: Path):
    run = trainer(tmp_path, lr_scheduler_kwargs={"lowest": 1e-4})
    run.create_optimizer_and_scheduler(6)
    assert run.lr_scheduler.get_last_lr() == pytest.approx([1e-4, 1e-4])
    with pytest.raises(ConfigurationError, match="knows 'lowest' only, not num_cycles"):
        trainer(tmp_path, lr_scheduler_kwargs={"num_cycles": 2}).create_optimizer_and_scheduler(6)
    other = trainer(tmp_path, lr_scheduler_type="constant")
    other.create_optimizer_and_scheduler(6)
    assert other.lr_scheduler.get_last_lr() == [1e-3, 1e-3]


def test_weight_decay_spares_biases_and_norms_but_not_the_mask_token(tmp_path: Path):
    run = trainer(tmp_path)
    groups = {
        group["weight_decay"]: {id(p) for p in group["params"]} for group in run.parameter_groups(run.model)
    }
    decayed = {name for name, p in run.model.named_parameters() if id(p) in groups[0.05]}
    spared = {name for name, p in run.model.named_parameters() if id(p) in groups[0.0]}
    assert "predictor.mask_token" in decayed
    assert all(name.endswith("bias") or "norm" in name for name in spared)
    assert not any(name.startswith("target_encoder") for name in decayed | spared)


def test_the_trainer_moves_the_teacher(tmp_path: Path):
    run = trainer(tmp_path)
    start = run.model.target_encoder.patch_projection.weight.clone()
    run.train()
    student = run.model.ecg_jepa.encoder.patch_projection.weight
    moved = run.model.target_encoder.patch_projection.weight - start
    assert 0 < moved.abs().max() < 0.1 * (student - start).abs().max()


def test_published_values():
    recipe = load_recipe("ecg_jepa")
    training, config = (
        recipe.training,
        get_method("ecg-jepa").load("config").preset(recipe.size, **recipe.model),
    )
    assert (training["learning_rate"], training["weight_decay"]) == (5.5e-5, 0.05)
    assert (training["num_train_epochs"], training["per_device_train_batch_size"]) == (100, 64)
    assert training["warmup_steps"] == 0.05
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (768, 12, 16)
    assert (config.sampling_rate, config.num_samples, config.num_patches, config.num_leads) == (
        250,
        2500,
        50,
        8,
    )
    assert (config.mask_scale, config.mask_last_patch, config.mask_per) == ([0.175, 0.225], False, "batch")
    assert (config.ema_momentum, config.ema_momentum_end, config.target_drop_path) == (0.996, 1.0, True)
    assert EcgJepaConfig(mask_strategy="random").mask_scale == [0.6, 0.7]


def test_simsiams_predictor_keeps_its_learning_rate(built_path: Path, tmp_path: Path) -> None:
    rates: list[dict[bool, float]] = []

    class Note(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            groups = kwargs["optimizer"].param_groups
            rates.append({group["constant_lr"]: group["lr"] for group in groups})

    options: dict[str, Any] = {
        "learning_rate": 1e-3,
        "lr_scheduler_type": "linear",
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "eval_strategy": "no",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    pretrain("simsiam", built_path, tmp_path, callbacks=[Note()], **options)
    assert [step[True] for step in rates] == [1e-3] * 4
    assert [step[False] for step in rates] == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])
