"""Same seed, same machine: the same bytes of weights, in another process and after an interruption too."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from ecg_hf.models.registry import PRETRAINABLE
from ecg_hf.training import pretrain

RUN: dict[str, Any] = {
    "max_steps": 3,
    "save_steps": 2,
    "per_device_train_batch_size": 8,
    "logging_steps": 1,
    "eval_strategy": "no",
    "disable_tqdm": True,
    "use_cpu": True,
}


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def elsewhere(
    request: pytest.FixtureRequest, built_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Each method that this run tests, trained in a process that hashes names in another order."""
    tests = [item for item in request.session.items if item.path == request.path]
    methods = sorted({test.callspec.params["method"] for test in tests if hasattr(test, "callspec")})
    output = tmp_path_factory.mktemp("elsewhere")
    subprocess.run(
        [
            *(sys.executable, str(Path(__file__).with_name("run_pretrain.py")), ",".join(methods)),
            *(str(built_path), str(output), json.dumps(RUN)),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "12345"},
        capture_output=True,
        timeout=300,
        check=True,
    )
    return output


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(PRETRAINABLE))
def test_same_seed_gives_the_same_bytes(
    method: str, built_path: Path, elsewhere: Path, tmp_path: Path
) -> None:
    torch.manual_seed(999)  # what was drawn before must not matter
    with pytest.raises(KeyboardInterrupt):
        pretrain(method, built_path, tmp_path / "run", callbacks=[Stop()], **RUN)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    resumed = pretrain(method, built_path, tmp_path / "run", resume=True, **RUN)
    assert (resumed.resumed_from, resumed.steps) == (2, 3)
    assert digest(tmp_path / "run") == digest(elsewhere / method)


def test_another_seed_gives_other_weights(built_path: Path, tmp_path: Path) -> None:
    for seed in (42, 43):
        pretrain("ecg-cpc", built_path, tmp_path / str(seed), **{**RUN, "max_steps": 1, "seed": seed})
    assert digest(tmp_path / "42") != digest(tmp_path / "43")
