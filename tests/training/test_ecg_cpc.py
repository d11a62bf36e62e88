"""The three learning rates of ECG-CPC's optimiser."""

from pathlib import Path

import pytest
from datasets import Dataset

from ecg_hf.models.ecg_cpc.configuration_ecg_cpc import EcgCpcConfig
from ecg_hf.models.ecg_cpc.modeling_ecg_cpc import EcgCpcForPreTraining
from ecg_hf.training import EcgPreTrainingArguments, load_recipe
from ecg_hf.training.ecg_cpc import EcgCpcTrainer


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


def test_recipe_is_the_published_one():
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
