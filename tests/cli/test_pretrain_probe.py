"""``ecg-hf pretrain --probe``: shown, logged, drawn, and by one process only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ecg_hf.plotting import loss_series
from ecg_hf.training import read_training_log

from .conftest import PRETRAIN, Cli

PROBE = ("--probe", "synthetic-findings", "--probe-steps", "1", "--logging-steps", "1")


def test_a_run_shows_what_it_learns(dataset: Path, cli: Cli, tmp_path: Path) -> None:
    outcome = cli(*PRETRAIN, "--dataset", dataset, "--output", tmp_path / "run", *PROBE)
    assert outcome.returncode == 0, outcome.stderr
    assert "kNN probe 0." in outcome.stderr
    assert "% of the training time" in outcome.stderr
    assert "3 probes" in outcome.stderr
    log = read_training_log(tmp_path / "run")
    assert [row["step"] for row in log if row["kind"] == "probe"] == [0, 1, 2]
    series = loss_series(log)
    assert list(series)[:3] == ["loss", "probe_knn_auroc", "probe_linear_auroc"]
    assert series["probe_linear_auroc"]["train"][0].tolist() == [0, 1, 2]
    assert cli("plot", tmp_path / "run", "-o", tmp_path / "losses.png").returncode == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--probe-steps", "3"), "--probe"),
        (("--probe", "synthetic-findings", "--probe-steps", "0"), "probe-steps"),
        (("--probe", "nothing"), "nothing"),
        (("--probe", "ptbxl-super"), "ptbxl-super:FOLDER"),
        (("--probe", "synthetic-findings:nowhere"), "nowhere"),
        (("--probe", "ludb-delineation"), "delineation"),
    ],
)
def test_a_mistake_is_one_line_and_starts_nothing(
    options: tuple[str, ...], named: str, dataset: Path, cli: Cli, tmp_path: Path
) -> None:
    outcome = cli(*PRETRAIN, "--dataset", dataset, "--output", tmp_path / "run", *options)
    assert outcome.returncode == 2
    assert named in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_first_of_several_processes_probes(dataset: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    weights = []
    for name, options in (("with", PROBE), ("without", ())):
        command = [*torchrun, "-m", "ecg_hf.cli", *PRETRAIN, "--dataset", str(dataset), *options]
        done = subprocess.run(
            [*command, "--output", str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("of the training time") == (name == "with")
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    rows = [row for row in read_training_log(tmp_path / "with") if row["kind"] == "probe"]
    assert [row["step"] for row in rows] == [0, 1, 2]
