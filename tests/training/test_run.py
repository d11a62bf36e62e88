"""``pretrain``: a built dataset in, a model folder out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer, TrainerCallback

from ecg_hf.data import build_dataset
from ecg_hf.errors import ConfigurationError
from ecg_hf.training import pretrain, read_training_log

RUN: dict[str, Any] = {
    "size": "micro",
    "max_steps": 4,
    "per_device_train_batch_size": 16,
    "logging_steps": 1,
    "save_steps": 2,
    "eval_strategy": "no",
    "disable_tqdm": True,
    "use_cpu": True,
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_model_folder_is_complete(built_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    result = pretrain("cg-dmer", built_path, output, **{**RUN, "eval_strategy": "steps", "eval_steps": 2})
    assert result.steps == 4
    assert result.records["train"] + result.records["validation"] < 160
    assert set(result.train) >= {"loss", "loss_contrastive", "loss_siglip", "masked_error_vs_zero"}
    assert "eval_loss_ecg_reconstruction" in result.evaluation
    assert json.loads((output / "pretrain_report.json").read_text())["steps"] == 4
    model, loading = AutoModel.from_pretrained(output, output_loading_info=True)
    assert not loading["missing_keys"]
    extractor, tokenizer = AutoFeatureExtractor.from_pretrained(output), AutoTokenizer.from_pretrained(output)
    assert extractor.sampling_rate == model.config.sampling_rate
    assert model.config.text_config.vocab_size == len(tokenizer)
    assert model.config.text_mask_token_id == tokenizer.mask_token_id
    kinds = [row["kind"] for row in read_training_log(output)]
    assert kinds.count("training") == 4
    assert kinds.count("evaluation") == 2


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KeyboardInterrupt


def test_interrupted_run_is_continued_to_the_same_weights(built_path: Path, tmp_path: Path) -> None:
    pretrain("cg-dmer", built_path, tmp_path / "whole", **RUN)
    with pytest.raises(KeyboardInterrupt):
        pretrain("cg-dmer", built_path, tmp_path / "cut", callbacks=[Stop()], **RUN)
    result = pretrain("cg-dmer", built_path, tmp_path / "cut", resume=True, **RUN)
    assert (result.resumed_from, result.steps) == (2, 4)
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_folder_of_another_run_is_not_taken(built_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    short = {**RUN, "max_steps": 1}
    pretrain("cg-dmer", built_path, output, resume=True, **short)  # nothing there: starts
    with pytest.raises(ConfigurationError, match="holds a run already"):
        pretrain("cg-dmer", built_path, output, **short)
    with pytest.raises(ConfigurationError, match=r"training.learning_rate was 0\.0002, is 0\.5"):
        pretrain("cg-dmer", built_path, output, resume=True, learning_rate=0.5, **short)
    with pytest.raises(ConfigurationError, match=r"config.mask_ratio was 0\.75, is 0\.5"):
        pretrain("cg-dmer", built_path, output, resume=True, model_options={"mask_ratio": 0.5}, **short)
    # The same rows per step by other means are the same run.
    split = {**short, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    pretrain("cg-dmer", built_path, output, resume=True, **split)
    pretrain("cg-dmer", built_path, output, overwrite=True, **{**short, "learning_rate": 0.5})


def test_accumulation_on_the_real_model_equals_one_batch(built_path: Path, tmp_path: Path) -> None:
    whole = pretrain("cg-dmer", built_path, tmp_path / "whole", **RUN)
    options = {**RUN, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    split = pretrain("cg-dmer", built_path, tmp_path / "split", **options)
    for name, value in whole.train.items():
        if name.startswith("loss"):
            assert split.train[name] == pytest.approx(value, rel=1e-4), name


def test_options_that_do_not_exist_are_refused(built_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="unknown training option"):
        pretrain("cg-dmer", built_path, tmp_path / "a", learning_rat=1.0)
    with pytest.raises(ConfigurationError, match="unknown model"):
        pretrain("cg-dme", built_path, tmp_path / "b")


def test_dataset_without_validation_trains_without_evaluation(tmp_path: Path) -> None:
    build_dataset(
        "synthetic",
        None,
        tmp_path / "data",
        records=40,
        progress=False,
        train_folds="1-10",
        validation_folds="",
        test_folds="",
    )
    options = {key: value for key, value in RUN.items() if key != "eval_strategy"}
    result = pretrain("cg-dmer", tmp_path / "data", tmp_path / "run", **{**options, "max_steps": 1})
    assert result.evaluation == {}
    with pytest.raises(ConfigurationError, match="no validation records"):
        pretrain("cg-dmer", tmp_path / "data", tmp_path / "other", **{**options, "eval_strategy": "epoch"})
