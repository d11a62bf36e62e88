"""Every field of ``TrainingArguments`` with good, odd and wrong values: it trains, or says why not in one line."""

from __future__ import annotations

import dataclasses
import enum
from pathlib import Path
from typing import Any

import pytest
import torch

from ecg_hf.training import EcgPreTrainingArguments
from tests.cli.conftest import Cli

FIELDS = {field.name: field for field in dataclasses.fields(EcgPreTrainingArguments) if field.init}
NOT_TRIED = {
    "output_dir": "an option of the command",
    "torch_compile": "compiles for minutes",
    "resume_from_checkpoint": "the trainer's own; here it is --resume",
}


def values_of(field: dataclasses.Field[Any]) -> list[str]:
    """Values as they are typed on a command line."""
    if isinstance(field.type, type) and issubclass(field.type, enum.Enum):
        return [*(member.value for member in field.type), "x y"]
    kind, values = str(field.type), ["x y", "-1"]
    if "bool" in kind:
        values += ["true", "false"]
    if "int" in kind:
        values += ["0", "3"]
    if "float" in kind:
        values += ["0.5", "nan", "inf"]
    if "dict" in kind:
        values += ["{}", '{"a": 1}', "[1]"]
    if "str" in kind:
        values += ["nope", ""]
    return values


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FIELDS.keys() - NOT_TRIED.keys()))
def test_no_value_ends_in_a_traceback(name: str, dataset: Path, tmp_path: Path, cli: Cli) -> None:
    torch.set_num_threads(1)
    command: list[Any] = ["pretrain", "--model", "ecg-cpc", "--size", "micro", "--dataset", dataset]
    command += [
        "--max-steps",
        "1",
        "--max-records",
        "8",
        "--per-device-train-batch-size",
        "8",
        "--use-cpu",
        "true",
    ]
    for number, value in enumerate(values_of(FIELDS[name])):
        output = tmp_path / str(number)
        outcome = cli(*command, "--output", output, f"--{name.replace('_', '-')}={value}")
        if outcome.returncode == 0:
            assert (output / "model.safetensors").is_file(), value
            continue
        errors = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
        assert (outcome.returncode, len(errors)) == (2, 1), value
        assert list(output.glob("checkpoint-*")) or not (output / "run.json").exists(), value


def test_prepared_signals_are_kept_for_the_next_run(dataset: Path, tmp_path: Path, cli: Cli) -> None:
    torch.set_num_threads(1)
    command: list[Any] = ["pretrain", "--model", "ecg-cpc", "--size", "micro", "--dataset", dataset]
    command += ["--max-steps", "1", "--use-cpu", "true", "--cache-dir", tmp_path / "cache"]
    kept = []
    for run in ("first", "second"):
        outcome = cli(*command, "--output", tmp_path / run)
        assert outcome.returncode == 0, outcome.stderr
        kept.append({path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()})
    assert len(kept[0]) == 2  # of training records and of those for validation
    assert kept[0] == kept[1]
