"""The scripts run as their docstrings say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def run(name: str, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr("sys.argv", [name, *options])
    runpy.run_path(str(SCRIPTS / name), run_name="__main__")


@pytest.mark.slow
def test_pretrain_then_finetune(
    built_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    common = [
        "--dataset",
        str(built_path),
        "--use_cpu",
        "--disable_tqdm",
        "true",
        "--per_device_train_batch_size",
        "16",
    ]
    encoder, classifier = str(tmp_path / "encoder"), str(tmp_path / "classifier")
    run("pretrain.py", monkeypatch, *common, "--size", "micro", "--output_dir", encoder, "--max_steps", "2")
    assert "eval_loss_contrastive" in capsys.readouterr().out
    run(
        "finetune.py",
        monkeypatch,
        *common,
        "--model",
        encoder,
        "--output_dir",
        classifier,
        "--num_train_epochs",
        "1",
    )
    assert "test macro AUROC" in capsys.readouterr().out
    assert (tmp_path / "classifier" / "model.safetensors").is_file()
