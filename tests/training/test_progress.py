"""What a run shows: the step, the time left, two losses; and a warning before a run that will not fit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from ecg_hf.planning.headroom import warn_if_too_large
from ecg_hf.training import pretrain
from ecg_hf.training.progress import duration

RUN: dict[str, Any] = {
    "size": "micro",
    "max_steps": 4,
    "per_device_train_batch_size": 16,
    "logging_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_strategy": "no",
    "use_cpu": True,
}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (190, "3 min 10 s"), (7500, "2 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("disable_tqdm", [True, False])
def test_lines_instead_of_dictionaries(
    disable_tqdm: bool, built_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    pretrain("ecg-cpc", built_path, tmp_path / "run", disable_tqdm=disable_tqdm, **RUN)
    shown = capfd.readouterr()
    assert shown.out == ""
    lines = [line for line in shown.err.splitlines() if line.startswith("step ")]
    assert "{" not in shown.err
    assert [line.split()[:4] for line in lines] == 2 * [["step", "2", "/", "4"]] + 2 * [
        ["step", "4", "/", "4"]
    ]
    assert "loss" in lines[0]
    assert lines[0].endswith(" left")
    assert "validation loss" in lines[1]
    assert "left" not in lines[3]


def test_a_bar_on_a_terminal(
    built_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    pretrain("ecg-cpc", built_path, tmp_path / "run", disable_tqdm=False, **RUN)
    shown = capfd.readouterr().err
    assert "4/4" in shown
    assert "validation loss" in shown
    assert "step 2 / 4" not in shown


def test_a_run_that_will_not_fit_is_announced(
    built_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ecg_hf"):
        pretrain("ecg-cpc", built_path, tmp_path / "fits", before_start=warn_if_too_large, **RUN)
        assert not [record for record in caplog.records if "GiB" in record.message]
        monkeypatch.setattr("ecg_hf.planning.headroom.memory_bytes", lambda device: 2**29)
        pretrain("ecg-cpc", built_path, tmp_path / "large", before_start=warn_if_too_large, **RUN)
    (warning,) = [record.message for record in caplog.records if "GiB" in record.message]
    for words in (
        "0.5 GiB of this machine",
        "--per-device-train-batch-size (now 16",
        "--gradient-checkpointing",
    ):
        assert words in warning
