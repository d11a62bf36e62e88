"""``pretrain``: a built dataset in, a model folder out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    TrainerCallback,
)

from ecg_hf.data import build_dataset
from ecg_hf.errors import ConfigurationError
from ecg_hf.training import pretrain, read_training_log
from ecg_hf.training.vocabulary import make_tokenizer

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


def test_auxiliary_targets_are_fitted_once_and_count_alike_in_micro_batches(
    built_path: Path, tmp_path: Path
) -> None:
    options = {**RUN, "model_options": {"auxiliary_targets": ["terms", "measures"], "phrase_weight": 1.0}}
    whole = pretrain("cg-dmer", built_path, tmp_path / "whole", **options)
    assert 0.5 < whole.train["loss_auxiliary_terms"] < 2.0
    saved = load_file(tmp_path / "whole" / "model.safetensors")
    assert 0.0 < saved["auxiliary.prior"].max() < 1.0
    assert saved["auxiliary.measures.mean"].abs().sum() > 0
    # What targets need is left out of the extractor that is saved.
    assert not AutoFeatureExtractor.from_pretrained(tmp_path / "whole").return_measures
    halves = {**options, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    pretrain("cg-dmer", built_path, tmp_path / "halves", **halves)
    again = load_file(tmp_path / "halves" / "model.safetensors")
    for name, value in saved.items():
        torch.testing.assert_close(again[name], value, atol=2e-5, rtol=1e-3, msg=name)


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


def test_checkpointed_layers_draw_the_same_dropout(built_path: Path, tmp_path: Path) -> None:
    options = {
        **RUN,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "model_options": {"hidden_dropout_prob": 0.2},
    }
    plain = pretrain("cg-dmer", built_path, tmp_path / "plain", **options)
    spared = pretrain("cg-dmer", built_path, tmp_path / "spared", gradient_checkpointing=True, **options)
    assert spared.train["loss"] == pytest.approx(plain.train["loss"], rel=1e-6)
    assert spared.train["grad_norm"] == pytest.approx(plain.train["grad_norm"], rel=1e-4)


def test_pretrained_text_tower_brings_its_tokenizer(built_path: Path, tmp_path: Path) -> None:
    tower = tmp_path / "tower"
    tokenizer = make_tokenizer(["sinus rhythm normal ecg", "normal sinus rhythm"], max_length=64)
    tokenizer.save_pretrained(tower)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(tower)
    options = {**RUN, "max_steps": 1, "learning_rate": 0.0, "model_options": {"freeze_text_layers": 1}}
    pretrain("cg-dmer", built_path, tmp_path / "run", text_model=str(tower), **options)
    model = AutoModel.from_pretrained(tmp_path / "run")
    assert model.config.freeze_text_layers == 1
    assert model.config.text_special_token_ids == [0, 2, 3]
    theirs = load_file(tower / "model.safetensors")
    ours = model.text_encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "run")) == len(tokenizer)


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
