"""Batches and runs over recordings of several rates, lengths and leads."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from toy_pretraining import LEADS, SAMPLES, WORDS, ToyConfig, ToyForPreTraining, training_losses
from transformers import TrainerCallback

from ecg_hf.data import build_dataset, load_mixed
from ecg_hf.errors import ConfigurationError
from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.signal import STANDARD_LEADS
from ecg_hf.training import BatchedEcgDataset, EcgCollator, EcgPreTrainingArguments, EcgTextCollator, pretrain
from ecg_hf.training.trainer import EcgPreTrainer
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


def write_records(
    root: Path, count: int, *, rate: int, samples: int, leads: tuple[str, ...], seed: int
) -> None:
    """WFDB records of noise with a rhythm, format 16, a gap in every fourth."""
    root.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for number in range(count):
        beats = np.sin(np.arange(samples) * 2 * np.pi * 1.2 / rate)[None] ** 9 * 800
        values = (beats + generator.normal(0, 60, (len(leads), samples))).astype(np.int16)
        if number % 4 == 3:
            values[1, 20:30] = np.iinfo(np.int16).min
        (root / f"r{number:03d}.dat").write_bytes(np.ascontiguousarray(values.T).astype("<i2").tobytes())
        lines = [f"r{number:03d} {len(leads)} {rate} {samples}"]
        for row, lead in zip(values, leads, strict=True):
            total = int(row.astype(np.int64).sum()) & 0xFFFF
            lines.append(f"r{number:03d}.dat 16 1000/mV 16 0 {row[0]} {total} 0 {lead}")
        (root / f"r{number:03d}.hea").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def mixture(tmp_path_factory: pytest.TempPathFactory, built_path: Path) -> list[Path]:
    """Synthetic 12-lead ECGs with reports; 12 leads at 400 Hz for 7.335 s; 3 leads at 250 Hz for 12 s."""
    root = tmp_path_factory.mktemp("mixture")
    write_records(root / "raw/short", 40, rate=400, samples=2934, leads=STANDARD_LEADS, seed=1)
    write_records(root / "raw/few", 20, rate=250, samples=3000, leads=("V1", "II", "I"), seed=2)
    for name in ("short", "few"):
        build_dataset("wfdb_folder", root / "raw" / name, root / name, progress=False)
    return [built_path, root / "short", root / "few"]


@pytest.fixture(scope="session")
def mixed(mixture: list[Path]) -> Dataset:
    return load_mixed(mixture).dataset


def some_rows(size: int = 24) -> list[int]:
    return np.random.default_rng(3).permutation(220)[:size].tolist()


class PeakExtractor(EcgFeatureExtractor):
    wants_r_peaks = True


@pytest.mark.parametrize("normalization", ["none", "zscore_lead", "minmax_record"])
def test_a_record_does_not_depend_on_the_batch_it_is_in(mixed: Dataset, normalization: str) -> None:
    extractor = PeakExtractor(
        sampling_rate=100, duration_s=10.0, normalization=normalization, return_sample_mask=True
    )
    rows = some_rows()
    data = BatchedEcgDataset(mixed)
    assert not data.decoder.has_one_rate
    collate = EcgCollator(extractor)
    whole = collate(data.__getitems__(rows))
    assert whole["input_values"].shape == (24, 12, 1000)
    assert set(whole) == {"input_values", "lead_mask", "sample_mask", "r_peaks"}
    for position, row in enumerate(rows):
        # The reference goes through the column's own decoding and a batch of one.
        alone = extractor(mixed[row]["ecg"], return_tensors="pt", r_peaks=[mixed[row]["r_peaks"]])
        for name, values in whole.items():
            assert torch.equal(values[position], alone[name][0]), (name, row)
    # Order and company of the rows change nothing either.
    again = collate(data.__getitems__(rows[::-1][:7]))
    assert torch.equal(again["input_values"], whole["input_values"].flip(0)[:7])


def test_missing_leads_and_short_records_are_masked(mixed: Dataset) -> None:
    collate = EcgCollator(EcgFeatureExtractor(sampling_rate=100, duration_s=10.0))
    batch = collate(BatchedEcgDataset(mixed).__getitems__([0, 170, 210]))
    assert batch["lead_mask"].sum(1).tolist() == [12, 12, 7]  # I and II give all six limb leads, and V1
    assert batch["sample_mask"].sum(1).tolist() == [1000, 734, 1000]
    full = collate(BatchedEcgDataset(mixed).__getitems__([0, 5]))
    assert full.keys() == {"input_values"}


def test_cached_signals_equal_decoded_ones(mixed: Dataset) -> None:
    extractor = EcgFeatureExtractor(sampling_rate=50, duration_s=10.0)
    collate = EcgCollator(extractor)
    fresh, cached = BatchedEcgDataset(mixed), BatchedEcgDataset(mixed, cache_with=extractor)
    for rows in (some_rows(), [0, 1], [170]):
        one, other = collate(fresh.__getitems__(rows)), collate(cached.__getitems__(rows))
        assert one.keys() == other.keys()
        assert all(torch.equal(values, other[name]) for name, values in one.items())
        assert all(values.dtype == other[name].dtype for name, values in one.items())


def test_a_cache_knows_the_padding_of_every_chunk(mixed: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whole chunks without and with padded records, in either order.
    monkeypatch.setattr("ecg_hf.training.collators._CHUNK", 4)
    extractor = EcgFeatureExtractor(sampling_rate=50, duration_s=10.0)
    rows = mixed.select([0, 1, 2, 3, 170, 171, 172, 173, 4, 5, 6, 7])
    batch = EcgCollator(extractor)(
        BatchedEcgDataset(rows, cache_with=extractor).__getitems__(list(range(12)))
    )
    assert batch["sample_mask"].sum(1).tolist() == [500] * 4 + [367] * 4 + [500] * 4


def test_works_in_loader_workers(mixed: Dataset) -> None:
    extractor = EcgFeatureExtractor(sampling_rate=50, duration_s=10.0)
    dataset = pickle.loads(pickle.dumps(BatchedEcgDataset(mixed)))
    here, there = (
        [b["input_values"] for b in DataLoader(dataset, 60, collate_fn=EcgCollator(extractor), num_workers=n)]
        for n in (0, 1)
    )
    assert all(torch.equal(one, other) for one, other in zip(here, there, strict=True))


class ToyInputs(EcgTextCollator):
    """A few samples of the mixture's batches, as the toy model takes them."""

    def __call__(self, rows: Any) -> dict[str, torch.Tensor]:
        batch = super().__call__(rows)
        return {
            "input_values": batch["input_values"][:, :LEADS, :SAMPLES],
            "input_ids": batch["input_ids"][:, :6] % WORDS,
        }


def test_the_trainer_takes_mixed_batches(mixed: Dataset, tmp_path: Path) -> None:
    tokenizer = make_tokenizer([report for report in mixed["report"][:] if report], max_length=32)
    extractor = EcgFeatureExtractor(sampling_rate=50, duration_s=10.0, normalization="zscore_lead")
    reading: dict[str, Any] = {"tokenizer": tokenizer, "max_text_length": 32}
    losses = []
    for accumulate in (1, 4):
        torch.manual_seed(0)
        arguments = EcgPreTrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=32 // accumulate,
            gradient_accumulation_steps=accumulate,
            max_steps=3,
            logging_steps=1,
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            optim="sgd",
        )
        trainer = EcgPreTrainer(
            ToyForPreTraining(ToyConfig()),
            arguments,
            data_collator=ToyInputs(extractor, tokenizer, 32),
            train_dataset=BatchedEcgDataset(mixed, **reading),
        )
        trainer.train()
        losses.append([row["loss"] for row in training_losses(trainer)])
    assert len(losses[0]) == 3
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ecg-jepa", "ecg-cpc"])
def test_an_interrupted_mixed_run_is_continued_to_the_same_weights(
    mixture: list[Path], tmp_path: Path, method: str
) -> None:
    whole = pretrain(method, mixture, tmp_path / "whole", **{**RUN, "eval_strategy": "epoch"})
    report = json.loads((tmp_path / "whole" / "pretrain_report.json").read_text())
    assert [part["source"] for part in report["datasets"]] == ["synthetic", "wfdb_folder", "wfdb_folder"]
    for split in ("train", "validation"):
        assert sum(part[split] for part in report["datasets"]) == report["records"][split] > 0
    assert all(part["train"] for part in report["datasets"])
    assert "eval_loss" in whole.evaluation
    with pytest.raises(KeyboardInterrupt):
        pretrain(method, mixture, tmp_path / "cut", callbacks=[Stop()], **RUN)
    with pytest.raises(ConfigurationError, match=r"dataset\.fingerprint"):
        pretrain(method, mixture[::-1], tmp_path / "cut", resume=True, **RUN)
    result = pretrain(method, mixture, tmp_path / "cut", resume=True, cache_inputs=False, **RUN)
    assert (result.resumed_from, result.steps) == (2, 4)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_settings_of_one_dataset_are_what_they_were(built_path: Path, tmp_path: Path) -> None:
    short = {**RUN, "max_steps": 1}
    pretrain("ecg-cpc", built_path, tmp_path / "run", **short)
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["dataset"]
    report = json.loads((built_path / "build_report.json").read_text())
    assert settings == {
        "fingerprint": report["fingerprint"],
        "train": report["splits"]["train"],
        "validation": report["splits"]["validation"],
    }
    # One path in a list is one path.
    assert pretrain("ecg-cpc", [built_path], tmp_path / "run", resume=True, **short).resumed_from == 1


def test_fewer_records_are_taken_of_each_in_proportion(mixture: list[Path], tmp_path: Path) -> None:
    result = pretrain("ecg-cpc", mixture, tmp_path / "run", max_records=50, **{**RUN, "max_steps": 1})
    everything = [part["train"] for part in _parts(mixture)]
    taken = [part["train"] for part in result.datasets]
    assert result.records["train"] == sum(taken) == 50
    for all_of_it, part in zip(everything, taken, strict=True):
        assert abs(part - all_of_it * 50 / sum(everything)) < 1


def _parts(paths: list[Path]) -> list[dict[str, int]]:
    return [json.loads((path / "build_report.json").read_text())["splits"] for path in paths]


def test_methods_with_reports_leave_out_rows_without(mixture: list[Path], tmp_path: Path) -> None:
    result = pretrain("cg-dmer", mixture, tmp_path / "run", **{**RUN, "max_steps": 1})
    short, few = (part["train"] for part in _parts(mixture)[1:])
    assert result.records["without_report"] == short + few
    assert [part["train"] > 0 for part in result.datasets] == [True, False, False]
