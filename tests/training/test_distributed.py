"""Two processes (gloo) against one: the same rows give the same losses and weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ecg_hf.training import read_training_log

pytestmark = pytest.mark.slow


def launch(processes: int, script: str, *arguments: str) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
    }
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    finished = subprocess.run(
        [*launcher, str(Path(__file__).with_name(script)), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]


def run(
    folder: Path, processes: int, **options: Any
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    launch(processes, "run_toy.py", str(folder), json.dumps({"max_steps": 6, **options}))
    return json.loads((folder / "losses.json").read_text()), load_file(folder / "weights.safetensors")


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_two_processes_equal_one(tmp_path: Path, micro_batches: int) -> None:
    one, one_weights = run(tmp_path / "one", 1, per_device_train_batch_size=8)
    two, two_weights = run(
        tmp_path / "two",
        2,
        per_device_train_batch_size=4 // micro_batches,
        gradient_accumulation_steps=micro_batches,
    )
    for expected, found in zip(one, two, strict=True):
        for name in ("loss", "loss_contrastive", "loss_reconstruction", "grad_norm"):
            assert found[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-5), name
    for name, weight in one_weights.items():
        torch.testing.assert_close(two_weights[name], weight, rtol=0, atol=1e-6)


def test_two_processes_resume_to_the_same_bits(tmp_path: Path) -> None:
    options = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "save_strategy": "steps",
        "save_steps": 3,
        "config": {"dropout": 0.3},
    }
    whole, weights = run(tmp_path / "run", 2, **options)
    (tmp_path / "run" / "checkpoint-6" / "trainer_state.json").unlink()
    resumed, resumed_weights = run(tmp_path / "run", 2, resume=True, **options)
    assert all(torch.equal(weights[name], resumed_weights[name]) for name in weights)
    assert whole[3:] == resumed[3:]


def test_cg_dmer_on_two_processes_equals_one(built_path: Path, tmp_path: Path) -> None:
    common = {
        "size": "micro",
        "max_steps": 3,
        "logging_steps": 1,
        "save_strategy": "no",
        "eval_strategy": "steps",
        "eval_steps": 3,
        "disable_tqdm": True,
        "use_cpu": True,
    }
    one = {**common, "per_device_train_batch_size": 16, "per_device_eval_batch_size": 8}
    two = {
        **common,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "per_device_eval_batch_size": 4,
    }
    launch(1, "run_pretrain.py", "cg-dmer", str(built_path), str(tmp_path / "one"), json.dumps(one))
    launch(2, "run_pretrain.py", "cg-dmer", str(built_path), str(tmp_path / "two"), json.dumps(two))
    runs = [tmp_path / name / "cg-dmer" for name in ("one", "two")]
    rows = [read_training_log(run) for run in runs]
    trained = [[row for row in log if row["kind"] == "training"] for log in rows]
    assert len(trained[0]) == 3
    for expected, found in zip(*trained, strict=True):
        for name in expected:
            if name.startswith("loss"):
                assert found[name] == pytest.approx(expected[name], rel=1e-4), name
    reports = [json.loads((run / "pretrain_report.json").read_text()) for run in runs]
    assert [report["processes"] for report in reports] == [1, 2]
