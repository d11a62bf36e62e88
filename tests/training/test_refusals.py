"""Training options that can't work are refused in words; faults of the package are not taken for such."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ecg_hf.errors import ConfigurationError
from ecg_hf.nn.losses.disentanglement import orthogonality_loss
from ecg_hf.training import EcgPreTrainingArguments, pretrain
from ecg_hf.training.refusals import library_refusals


def test_grouping_by_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"group_by_length.*one length"):
        EcgPreTrainingArguments(output_dir=str(tmp_path), train_sampling_strategy="group_by_length")


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", float("nan")), ("weight_decay", -1.0), ("eval_accumulation_steps", 0)],
)
def test_impossible_numbers(name: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=name):
        EcgPreTrainingArguments(output_dir=str(tmp_path), **{name: value})
    EcgPreTrainingArguments(output_dir=str(tmp_path), max_grad_norm=float("inf"))  # no clipping


def test_a_refused_run_leaves_nothing_behind(built_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="optim='lomo'"):
        pretrain(
            "ecg-cpc", built_path, tmp_path / "run", max_steps=1, per_device_train_batch_size=8, use_cpu=True,
            optim="lomo",
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_faults_of_this_package_are_not_hidden() -> None:
    with pytest.raises(AttributeError), library_refusals({"optim": "adamw_torch"}):
        orthogonality_loss(torch.zeros(2, 3), None)  # type: ignore[arg-type]
    with (
        pytest.raises(ConfigurationError, match=r"can't train with optim='odd': odd\?"),
        library_refusals({"optim": "odd", "max_steps": 3}),
    ):
        raise_as_a_library("odd?")
    with pytest.raises(ConfigurationError, match="out of memory"), library_refusals({}):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")


def raise_as_a_library(message: str) -> None:
    raise ValueError(message)
