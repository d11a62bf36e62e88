"""What the command's tests share: one built dataset, one pretrained micro model, one recording."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecg_hf.cli.main import main
from ecg_hf.signal import STANDARD_LEADS
from ecg_hf.signal.synthetic import simulate

RECORDS = 40
PRETRAIN = (
    *("pretrain", "--model", "cg-dmer", "--size", "micro", "--max-steps", "2"),
    *("--per-device-train-batch-size", "8", "--use-cpu"),
)

Outcome = subprocess.CompletedProcess[str]
Cli = Callable[..., Outcome]


def run_command(*arguments: object, timeout: float = 120.0) -> Outcome:
    """The command as a user starts it: a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ecg_hf.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="session")
def process() -> Cli:
    """Run the command in a new process."""
    return run_command


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run the command in this process: the same entry point, without the seconds of importing torch."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        try:
            main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stop:
            code = 0 if stop.code is None else int(stop.code)
        captured = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a dataset the command built."""
    folder = tmp_path_factory.mktemp("command") / "synthetic"
    outcome = run_command("data", "build", "synthetic", "--output", folder, "-o", f"records={RECORDS}")
    assert outcome.returncode == 0, outcome.stderr
    return folder


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    """Folder of a model the command pretrained, two steps long."""
    folder = tmp_path_factory.mktemp("pretrained") / "model"
    outcome = run_command(*PRETRAIN, "--dataset", dataset, "--output", folder)
    assert outcome.returncode == 0, outcome.stderr
    return folder


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WFDB record, format 16, 500 Hz."""
    folder = tmp_path_factory.mktemp("records")
    signal = simulate(1, seed=9, sampling_rate=500.0).signal[0]
    wfdb.wrsamp(
        "one",
        fs=500,
        units=["mV"] * 12,
        sig_name=list(STANDARD_LEADS),
        p_signal=signal.T.astype(np.float64),
        fmt=["16"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(folder),
    )
    return folder / "one"
