"""The configurations for ``accelerate launch``: read by accelerate as meant, and FSDP2 trains as one process does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file
from test_distributed import launch
from transformers import AutoModelForPreTraining

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.registry import METHODS, PRETRAINABLE
from ecg_hf.training import pretrain, read_training_log
from ecg_hf.training.distributed import as_scalars, list_launch_configs, scalars_to_vectors

# One launch for several methods, as starting two processes takes longer than their two steps.
GROUPS = [sorted(PRETRAINABLE)[first::5] for first in range(5)]

RUN: dict[str, Any] = {
    "max_steps": 2,
    "optim": "sgd",
    "learning_rate": 1e-2,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 1e9,
    "logging_steps": 1,
    "save_strategy": "no",
    "eval_strategy": "no",
    "disable_tqdm": True,
    "use_cpu": True,
}


def environment(name: str) -> dict[str, str]:
    """What ``accelerate launch --config_file`` tells the processes it starts."""
    arguments = launch_command_parser().parse_args(
        ["--config_file", str(list_launch_configs()[name]), "-m", "ecg_hf.cli", "pretrain"]
    )
    return prepare_multi_gpu_env(_validate_launch_command(arguments)[0])


def test_accelerate_reads_the_configurations_as_meant() -> None:
    assert "ACCELERATE_USE_FSDP" not in environment("ddp")
    sharded = environment("fsdp2")
    assert sharded["ACCELERATE_USE_FSDP"] == "true"
    assert sharded["FSDP_VERSION"] == "2"
    assert sharded["FSDP_AUTO_WRAP_POLICY"] == "TRANSFORMER_BASED_WRAP"
    assert sharded["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"
    # Which blocks are divided follows from the model; every model says it.
    assert "FSDP_TRANSFORMER_CLS_TO_WRAP" not in sharded
    for spec in METHODS.values():
        model = spec.load(spec.whole)(spec.load("config").preset(spec.sizes[0]))
        assert model._no_split_modules, spec.name


@pytest.mark.slow
@pytest.mark.parametrize("methods", GROUPS, ids=",".join)
def test_methods_train_under_fsdp2_as_in_one_process(
    methods: list[str], built_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    for method in methods:
        one = {**RUN, "per_device_train_batch_size": 16}
        pretrain(method, built_path, tmp_path / "one" / method, **one)
    for name, value in environment("fsdp2").items():
        if name.startswith(("FSDP_", "ACCELERATE_")):
            monkeypatch.setenv(name, value)
    two = {**RUN, "per_device_train_batch_size": 8}
    launch(2, "run_fsdp.py", ",".join(methods), str(built_path), str(tmp_path / "two"), json.dumps(two))
    for method in methods:
        runs = [tmp_path / name / method for name in ("one", "two")]
        logs = [[row for row in read_training_log(run) if row["kind"] == "training"] for run in runs]
        assert len(logs[0]) == 2
        for expected, found in zip(*logs, strict=True):
            for name in expected:
                if name.startswith("loss") or name == "grad_norm":
                    assert found[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), (method, name)
        whole, divided = (load_file(run / "model.safetensors") for run in runs)
        assert whole.keys() == divided.keys()
        for name, weight in whole.items():
            assert divided[name].shape == weight.shape
            torch.testing.assert_close(divided[name], weight, rtol=1e-4, atol=1e-5, msg=f"{method}: {name}")
        AutoModelForPreTraining.from_pretrained(runs[1])


def test_fsdp_without_accelerators_is_refused(
    built_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith(("FSDP_", "ACCELERATE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    # The library looks at its environment once per process.
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        with pytest.raises(ConfigurationError, match="no accelerators to divide the model among"):
            pretrain("ecg-cpc", built_path, tmp_path / "run", per_device_train_batch_size=8, **RUN)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_scalars_are_divided_as_vectors_and_saved_as_scalars() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2))
    module.scale = torch.nn.Parameter(torch.tensor(3.0), requires_grad=False)
    module[0].temperature = torch.nn.Parameter(torch.tensor(0.5))
    names = scalars_to_vectors(module)
    assert names == {"scale", "0.temperature"}
    assert module.scale.shape == (1,)
    assert not module.scale.requires_grad
    saved = as_scalars(module.state_dict(), names)
    assert saved["0.temperature"].shape == ()
    assert saved["0.temperature"].item() == 0.5
    assert saved["0.weight"].shape == (2, 2)
