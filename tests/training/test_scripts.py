"""The scripts run as their docstrings say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from ecg_hf.evaluation.results import read_results
from ecg_hf.models.registry import METHODS

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
        "--labels",
        "super",
        "--model",
        encoder,
        "--output_dir",
        classifier,
        "--num_train_epochs",
        "1",
    )
    assert "test macro AUROC" in capsys.readouterr().out
    assert (tmp_path / "classifier" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS))
def test_probe_of_every_method_with_both_heads(
    method: str,
    built_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.set_num_threads(1)
    spec = METHODS[method]
    config = spec.load("config").preset(spec.sizes[0])
    spec.load("model")(config).save_pretrained(tmp_path / "model")
    spec.load("feature_extractor")(
        sampling_rate=config.sampling_rate, lead_names=config.lead_names,
        duration_s=config.num_samples / config.sampling_rate,
    ).save_pretrained(tmp_path / "model")  # fmt: skip
    paths = [
        "--model",
        str(tmp_path / "model"),
        "--dataset",
        str(built_path),
        "--output",
        str(tmp_path / "probe"),
    ]
    options = ["--heads", "linear", "attention", "--fractions", "0.5", "1.0", "--seeds", "1"]
    run("probe.py", monkeypatch, *paths, *options, "--benchmark", "synthetic-findings")
    assert "attention" in capsys.readouterr().out
    results = read_results(tmp_path / "probe" / "results.json")
    found = {(row["encoder"], row["head"], row["fraction"], row["seed"]) for row in results["probe"]}
    assert found >= {
        (encoder, head, fraction, 1)
        for encoder in ("pretrained", "untrained")
        for head in ("linear", "attention")
        for fraction in (0.5, 1.0)
    }
    assert {"linear", "attention"} <= {row["head"] for row in results["paired"]}
