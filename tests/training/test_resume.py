"""Interrupted and resumed runs against uninterrupted ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from toy_pretraining import toy_trainer

from ecg_hf.errors import ConfigurationError
from ecg_hf.training import read_training_log
from ecg_hf.training.checkpoints import (
    discard_incomplete_checkpoints,
    incompleteness,
    newest_complete_checkpoint,
)

# 40 records, 8 per optimiser step: 5 steps an epoch, so that epochs end off the save and log steps.
RUN: dict[str, Any] = {
    "records": 40,
    "config": {"dropout": 0.3},
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "save_strategy": "steps",
    "save_steps": 3,
    "save_total_limit": 4,
    "eval_strategy": "steps",
    "eval_steps": 3,
    "optim": "adamw_torch",
}


def in_process(folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("run_toy.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, str(script), str(folder), json.dumps({**RUN, **options})],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("step", [3, 6, 9])
def test_resumed_run_ends_with_the_same_bits(tmp_path: Path, step: int) -> None:
    whole = toy_trainer(tmp_path / "whole", **RUN)
    whole.train()
    resumed = toy_trainer(tmp_path / "whole", **RUN)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
    assert resumed.state.global_step == whole.state.global_step == 10
    assert same(whole.model.state_dict(), resumed.model.state_dict())
    after = [row for row in whole.state.log_history if row["step"] > step and "loss" in row]
    again = [row for row in resumed.state.log_history if row["step"] > step and "loss" in row]
    assert after == again


@pytest.mark.parametrize("left", ["nothing", "other rows"])
def test_a_log_that_was_lost_comes_back_from_the_checkpoint(tmp_path: Path, left: str) -> None:
    toy_trainer(tmp_path, **RUN).train()
    before = [row for row in read_training_log(tmp_path) if row["kind"] != "summary"]
    log = tmp_path / "training_log.jsonl"
    log.write_text("" if left == "nothing" else "".join(log.read_text().splitlines(keepends=True)[2:4]))
    if left == "nothing":
        log.unlink()
    toy_trainer(tmp_path, **RUN).train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    again = [row for row in read_training_log(tmp_path) if row["kind"] != "summary"]
    timed = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
    assert [{k: v for k, v in row.items() if k not in timed} for row in again] == [
        {k: v for k, v in row.items() if k not in timed} for row in before
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kill", [{"kill_at": 8}, {"kill_in_save": 6}])
def test_killed_run_resumes_to_the_same_bits(tmp_path: Path, kill: dict[str, int]) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert in_process(whole).returncode == 0
    assert in_process(killed, **kill).returncode == -signal.SIGKILL
    assert not (killed / "weights.safetensors").exists()
    finished = in_process(killed, resume=True)
    assert finished.returncode == 0, finished.stderr
    assert same(load_file(whole / "weights.safetensors"), load_file(killed / "weights.safetensors"))
    timing = ("train_runtime", "eval_runtime", "per_second", "train_loss")

    def rows(folder: Path) -> list[dict[str, Any]]:
        return [
            {name: value for name, value in row.items() if not any(part in name for part in timing)}
            for row in read_training_log(folder)
        ]

    assert rows(whole) == rows(killed)


def checkpoint(folder: Path) -> Path:
    trainer = toy_trainer(folder, **{**RUN, "num_train_epochs": 1, "save_steps": 2})
    trainer.train()
    return folder / "checkpoint-4"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("trainer_state.json", "trainer_state.json is unreadable"),
        ("model.safetensors", "the weights are missing or cut short"),
        ("optimizer.pt", "optimizer.pt is missing or cut short"),
        ("scheduler.pt", "scheduler.pt is missing or cut short"),
    ],
)
def test_incomplete_checkpoints_are_passed_over(tmp_path: Path, name: str, reason: str) -> None:
    newest = checkpoint(tmp_path)
    (tmp_path / "checkpoint-5").rename(tmp_path / "set-aside")
    assert newest_complete_checkpoint(tmp_path) == newest
    file = newest / name
    file.write_bytes(file.read_bytes()[:-100])
    assert incompleteness(newest) == reason
    assert newest_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    file.unlink()
    assert incompleteness(newest) is not None
    assert discard_incomplete_checkpoints(tmp_path) == [newest]
    assert not newest.exists()
    assert (tmp_path / "checkpoint-2").exists()


def test_nothing_to_resume_from_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no complete checkpoint"):
        toy_trainer(tmp_path, **RUN).train(resume_from_checkpoint=True)
