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

pytestmark = pytest.mark.slow


def run(
    folder: Path, processes: int, **options: Any
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    script = str(Path(__file__).with_name("run_toy.py"))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
    }
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    finished = subprocess.run(
        [*launcher, script, str(folder), json.dumps({"max_steps": 6, **options})],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
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
