"""``ecg-hf plan``: the numbers, and one line for what can't be planned."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Cli
from tests.cli.test_errors import assert_one_line

PLAN = ("plan", "--model", "ecg-cpc", "--dataset-size", "1000")
MICRO = ("--recipe", "ecg_cpc_cpu", "--record-rate", "100", "--device", "cpu", "--measured-steps", "1")


def test_text_and_json(cli: Cli) -> None:
    outcome = cli(
        *PLAN, *MICRO, "--gpus", "2", "--batch-size", "16", "--hidden-size", "32", "--card", "a100-40gb"
    )
    assert outcome.returncode == 0, outcome.stderr
    for words in (
        "parameters  ",
        "GFLOP",
        "memory per GPU",
        "measured  ",
        "assumed   ",
        "dataset  ",
        "a100-40gb",
    ):
        assert words in outcome.stdout
    assert "ecg-cpc micro, recipe ecg_cpc_cpu: 16 records x 2 GPUs = 32 a step, bf16" in outcome.stdout
    answer = cli(
        *PLAN, *MICRO, "--precision", "fp32", "--num-train-epochs", "2", "--max-steps", "-1", "--json"
    )
    assert answer.returncode == 0, answer.stderr
    values = json.loads(answer.stdout)
    assert values["run"]["precision"] == "fp32"
    assert values["schedule"]["steps"] == 2 * (1000 // 64)
    assert values["disk_bytes"]["record"] > 12 * 1000 * 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "nope"), ("nope", "cg-dmer")),
        (("--size", "huge"), ("huge", "micro")),
        (("--recipe", "nope"), ("nope", "ecg_cpc")),
        (("--recipe", "cg_dmer"), ("cg_dmer", "ecg-cpc")),
        (("--gpus", "0"), ("gpus",)),
        (("--dataset-size", "0"), ("dataset-size",)),
        (("--dataset-size", "3"), ("3 records", "batch of 8")),
        (("--batch-size", "0"), ("batch-size",)),
        (("--precision", "fp8"), ("fp8",)),
        (("--card", "abacus"), ("abacus", "h100")),
        (("--mfu", "1.5"), ("mfu", "1.5")),
        (("--device-tflops", "0"), ("device_tflops",)),
        (("--record-rate", "0"), ("sampling_rate",)),
        (("--record-rate", "20"), ("20",)),
        (("--device", "abacus"), ("abacus",)),
        (("--measured-records", "1"), ("measured-records",)),
        (("--frobnicate", "3"), ("--frobnicate",)),
        (("--cores", "3"), ("--cores", "--nodes")),
        (("--nodes", "2", "--storage-mbit", "0"), ("storage_mbit",)),
        (("--num-train-epochs", "0"), ("epochs",)),
        (("--optim", "adafactor"), ("adafactor",)),
    ],
)
def test_what_can_not_be_planned(options: tuple[str, ...], words: tuple[str, ...], cli: Cli) -> None:
    assert_one_line(cli(*PLAN, *options), *words)


def test_reports_longer_than_the_model_takes(cli: Cli) -> None:
    command = (
        "plan",
        "--model",
        "cg-dmer",
        "--recipe",
        "cg_dmer_cpu",
        "--dataset-size",
        "1000",
        "--text-tokens",
    )
    assert_one_line(cli(*command, "100000"), "100000", "tokens")
