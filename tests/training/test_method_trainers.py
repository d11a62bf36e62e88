"""ECG-CPC's three learning rates, the schedules and teachers of both ECG-JEPAs, SimSiam's constant rate."""

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
from ecg_hf.models.weimann_jepa.configuration_weimann_jepa import WeimannJepaConfig
from ecg_hf.models.weimann_jepa.modeling_weimann_jepa import WeimannJepaForPreTraining
from ecg_hf.training import EcgPreTrainingArguments, load_recipe, pretrain
from ecg_hf.training.method_trainers import (
    EcgCpcTrainer,
    EcgJepaTrainer,
    WeimannJepaTrainer,
    cosine_after_warmup,
    cosine_learning_rate,
)


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


def test_weimanns_schedule_is_the_published_formula() -> None:
    total, warmup = 1000, 100
    for step in range(total):
        if step < warmup:
            expected = 1e-6 + (1e-3 - 1e-6) * step / warmup
        else:
            done = (step - warmup) / (total - warmup - 1)
            expected = 1e-6 + 0.5 * (1 + math.cos(math.pi * done)) * (1e-3 - 1e-6)
        assert cosine_after_warmup(step, total, warmup, 1e-3, 1e-6, 1e-6) == pytest.approx(
            expected, rel=1e-12
        )
    assert cosine_after_warmup(total + 7, total, warmup, 1e-3, 1e-6, 1e-6) == pytest.approx(1e-6)


class _Decays(TrainerCallback):
    """Weight decay of each group at each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, ...]] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append(tuple(group["weight_decay"] for group in kwargs["optimizer"].param_groups))


def test_weimanns_weight_decay_rises_and_a_resumed_run_goes_on(tmp_path: Path) -> None:
    rows = [{"input_values": torch.randn(12, 1000)} for _ in range(8)]

    def run(folder: str) -> tuple[WeimannJepaTrainer, _Decays]:
        torch.manual_seed(0)
        arguments = EcgPreTrainingArguments(
            output_dir=str(tmp_path / folder), use_cpu=True, max_steps=4, per_device_train_batch_size=4,
            logging_steps=1, save_steps=2, report_to=[], disable_tqdm=True, learning_rate=1e-3, weight_decay=0.01,
            warmup_steps=1, lr_scheduler_kwargs={"final_weight_decay": 0.1},
        )  # fmt: skip
        model, decays = WeimannJepaForPreTraining(WeimannJepaConfig.preset("micro")), _Decays()
        return WeimannJepaTrainer(model=model, args=arguments, train_dataset=rows, callbacks=[decays]), decays

    whole, decays = run("a")
    whole.train()
    expected = [cosine_after_warmup(step, 4, 0, 0.01, 0.1, 0.01) for step in range(4)]
    assert [seen[0] for seen in decays.seen] == pytest.approx(expected)
    assert {seen[1] for seen in decays.seen} == {0.0}
    rates = [row["learning_rate"] for row in whole.state.log_history if "learning_rate" in row]
    assert rates == pytest.approx([cosine_after_warmup(step, 4, 1, 1e-3, 1e-6, 1e-6) for step in range(4)])
    again, later = run("a")
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert later.seen == decays.seen[2:]
    weights = [dict(trained.model.named_parameters()) for trained in (whole, again)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())

    spared = {id(parameter) for parameter in whole.parameter_groups(whole.model)[1]["params"]}
    names = {name for name, parameter in whole.model.named_parameters() if id(parameter) in spared}
    assert {"student.registers", "predictor.mask_token", "student.norm.weight"} < names
    assert all("norm" in name or name.endswith(("registers", "mask_token")) for name in names)


def test_recipe_of_weimanns_jepa_is_the_published_one() -> None:
    recipe = load_recipe("weimann_jepa")
    training, config = recipe.training, WeimannJepaConfig.preset(recipe.size, **recipe.model)
    assert (training["learning_rate"], training["weight_decay"], training["adam_beta2"]) == (1e-3, 0.01, 0.99)
    assert training["lr_scheduler_kwargs"] == {"lowest": 1e-6, "final_weight_decay": 0.1}
    assert (training["max_steps"], training["warmup_steps"]) == (100_000, 10_000)
    assert training["per_device_train_batch_size"] == 2048
    assert (config.hidden_size, config.num_hidden_layers, config.num_patches) == (384, 8, 200)
    assert (config.ema_momentum, config.ema_momentum_end, config.min_block_size) == (0.998, 0.9995, 10)
