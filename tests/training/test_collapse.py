"""A collapse is said once, and only when it lasts."""

from __future__ import annotations

import logging

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from ecg_hf.training.collapse import CollapseWatch


def test_a_collapse_is_one_line(tmp_path: object, caplog: pytest.LogCaptureFixture) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    watch, control = CollapseWatch(), TrainerControl()
    with caplog.at_level(logging.WARNING, "ecg_hf"):
        for step, spread in enumerate((0.9, 0.01, 0.8, 0.01, None, 0.004, 0.003, 0.002, 0.7, 0.01, 0.01)):
            logs = {"eval_loss": 1.0} if spread is None else {"loss": 1.0, "embedding_spread": spread}
            watch.on_log(arguments, TrainerState(global_step=step), control, logs=logs)
    assert [record.message.split(",")[0] for record in caplog.records] == [
        "step 5: the embeddings have collapsed",
        "step 10: the embeddings have collapsed",
    ]
    assert "embedding_spread 0.004, healthy 1" in caplog.records[0].message


@pytest.mark.parametrize(("batch", "warnings"), [(16, ["step 2"]), (4, [])])
def test_a_collapse_to_a_line_is_said_too(
    batch: int, warnings: list[str], tmp_path: object, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", per_device_train_batch_size=batch
    )
    watch, control = CollapseWatch(), TrainerControl()
    with caplog.at_level(logging.WARNING, "ecg_hf"):
        for step, rank in enumerate((10.8, 1.4, 1.3, 1.2)):
            logs = {"loss": 1.0, "embedding_spread": 0.97, "effective_rank": rank}
            watch.on_log(arguments, TrainerState(global_step=step), control, logs=logs)
    assert [record.message.split(":")[0] for record in caplog.records] == warnings
    assert all("effective_rank 1.3, healthy above 2" in record.message for record in caplog.records)
