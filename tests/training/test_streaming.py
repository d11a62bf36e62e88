"""Pretraining from streamed Parquet: resumed runs see the rows of uninterrupted ones, on any number of processes."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from test_determinism import digest
from test_distributed import launch
from transformers import TrainerCallback

from ecg_hf.data import build_dataset, export_parquet, load_built
from ecg_hf.data.streaming import RowStream
from ecg_hf.errors import ConfigurationError
from ecg_hf.models.registry import get_method
from ecg_hf.training import BatchedEcgDataset, EcgCollator, pretrain, read_training_log
from ecg_hf.training.streams import StreamedEcgDataset

RUN: dict[str, Any] = {
    "size": "micro",
    "streaming": True,
    "sampling_weights": [0.75, 0.25],
    "shuffle_buffer": 16,
    "max_steps": 5,
    "save_steps": 2,
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 2,
    "per_device_eval_batch_size": 8,
    "logging_steps": 1,
    "eval_strategy": "no",
    "disable_tqdm": True,
    "use_cpu": True,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    # The library waits five seconds for its threads whenever a stream is closed.
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


@pytest.fixture(scope="module")
def sources(built_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("parquet")
    build_dataset("synthetic", None, root / "built", records=40, seed=3, progress=False)
    for name, built in (("one", built_path), ("two", root / "built")):
        export_parquet(built, root / name, rows_per_file=20, progress=False)
    return [root / "one", root / "two"]


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 5:
            raise KeyboardInterrupt


def test_a_resumed_stream_goes_on_with_the_same_rows(sources: list[Path], tmp_path: Path) -> None:
    """Some 150 rows, 32 a step: the run is resumed at step 4 of 5, within or at the end of its first epoch."""
    whole = pretrain("cg-dmer", sources, tmp_path / "whole", **RUN)
    with pytest.raises(KeyboardInterrupt):
        pretrain("cg-dmer", sources, tmp_path / "cut", callbacks=[Stop()], **RUN)
    cut = pretrain("cg-dmer", sources, tmp_path / "cut", resume=True, **RUN)
    assert (cut.resumed_from, cut.steps) == (4, 5)
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")
    assert whole.records["train"] > 64
    assert [source["sampling_weight"] for source in whole.datasets] == [0.75, 0.25]
    assert "eval_loss" in whole.evaluation
    with pytest.raises(ConfigurationError, match=r"shuffle_buffer was 16, is 17"):
        pretrain("cg-dmer", sources, tmp_path / "cut", resume=True, **{**RUN, "shuffle_buffer": 17})


@pytest.mark.slow
def test_two_processes_stream_and_resume(sources: list[Path], tmp_path: Path) -> None:
    options = {
        **RUN,
        "per_device_train_batch_size": 16,
        "gradient_accumulation_steps": 1,
        "num_train_epochs": 2,
    }
    options = {**options, "max_steps": -1, "save_steps": 2, "save_total_limit": 10}
    arguments = ("ecg-cpc", ",".join(map(str, sources)), str(tmp_path), json.dumps(options))
    launch(2, "run_pretrain.py", *arguments)
    run = tmp_path / "ecg-cpc"
    before, report = digest(run), json.loads((run / "pretrain_report.json").read_text())
    assert report["processes"] == 2
    assert report["steps"] == 2 * (report["records"]["train"] // 32)
    steps = [row["loss"] for row in read_training_log(run) if row["kind"] == "training"]
    checkpoints = sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    for checkpoint in checkpoints[len(checkpoints) // 2 :]:
        (checkpoint / "trainer_state.json").unlink()
    launch(2, "run_pretrain.py", *arguments[:3], json.dumps({**options, "resume": True}))
    assert digest(run) == before
    assert [row["loss"] for row in read_training_log(run) if row["kind"] == "training"] == steps


def test_streamed_batches_are_those_of_the_build(sources: list[Path], built_path: Path) -> None:
    spec = get_method("ecg-jepa")
    extractor = spec.feature_extractor_for(spec.load("config").preset("micro"))
    stream = RowStream.open(sources[:1], buffer_size=16)
    dataset = StreamedEcgDataset(stream, 8)
    batch, rows = next(iter(dataset)), next(stream.batches(0, 8))
    built = load_built(built_path)
    place = {name: i for i, name in enumerate(built["record_id"][:])}
    whole = BatchedEcgDataset(built).__getitems__([place[name] for name in rows["record_id"][:]])
    collate = EcgCollator(extractor)
    torch.testing.assert_close(collate(batch), collate(whole), rtol=0, atol=0)
    assert len(list(islice(dataset, 100))) == len(dataset) == len(stream) // 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"streaming": False}, "sampling_weights is for streamed datasets"),
        ({"streaming": False, "sampling_weights": None}, "shuffle_buffer is for streamed"),
        ({"sampling_weights": [1.0]}, "1 sampling weights for 2 datasets"),
        ({"max_records": 5}, "not for streamed"),
        ({"per_device_train_batch_size": 512}, "fewer than one batch"),
    ],
)
def test_options_that_do_not_fit(
    change: dict[str, Any], words: str, sources: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        pretrain("ecg-cpc", sources, tmp_path / "run", **{**RUN, **change})
    assert not (tmp_path / "run" / "run.json").exists()
