"""Training options that can't work are refused in words; faults of the package are not taken for such."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import wfdb

from ecg_hf.data import build_dataset, export_parquet
from ecg_hf.errors import ConfigurationError
from ecg_hf.nn.losses.disentanglement import orthogonality_loss
from ecg_hf.training import EcgPreTrainingArguments, pretrain
from ecg_hf.training.refusals import library_refusals


def test_grouping_by_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"group_by_length.*one length"):
        EcgPreTrainingArguments(output_dir=str(tmp_path), train_sampling_strategy="group_by_length")


def test_a_tracker_that_is_not_installed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecg_hf.training.arguments.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install trackio"):
        EcgPreTrainingArguments(output_dir=str(tmp_path), report_to="trackio")


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


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_without_reports_leads_to_methods_that_need_none(streaming: bool, tmp_path: Path) -> None:
    folder = tmp_path / "ecgs"
    for number in range(3):
        signal = np.random.default_rng(number).normal(size=(300, 2))
        wfdb.wrsamp(f"r{number}", fs=100, units=["mV"] * 2, sig_name=["I", "II"], p_signal=signal, fmt=["16"] * 2,
                    write_dir=str(folder.mkdir(exist_ok=True) or folder))  # fmt: skip
    folds = {"train_folds": "1-10", "validation_folds": "", "test_folds": ""}
    build_dataset("wfdb_folder", folder, tmp_path / "built", progress=False, **folds)
    data = tmp_path / "built"
    if streaming:
        export_parquet(data, tmp_path / "parquet", progress=False)
        data = tmp_path / "parquet"
    with pytest.raises(ConfigurationError, match=r"none of the 3 training records .* core-ecg, .*ecg-cpc"):
        pretrain("cg-dmer", data, tmp_path / "run", max_steps=1, use_cpu=True, streaming=streaming)


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
