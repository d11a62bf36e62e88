"""Numbers of patients on their way from the dataset to a method's loss."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor

from ecg_hf.data import export_parquet
from ecg_hf.data.streaming import RowStream
from ecg_hf.models.registry import METHODS
from ecg_hf.processing import EcgFeatureExtractor
from ecg_hf.training import BatchedEcgDataset, EcgCollator, pretrain
from ecg_hf.training.streams import StreamedEcgDataset

RUN: dict[str, Any] = {
    "size": "micro",
    "max_steps": 1,
    "logging_steps": 1,
    "eval_strategy": "no",
    "disable_tqdm": True,
    "use_cpu": True,
}


def test_records_of_one_patient_have_one_number(built: Dataset) -> None:
    patients = built["patient_id"][:]
    collate = EcgCollator(EcgFeatureExtractor(sampling_rate=50))
    rows = list(range(len(built)))
    ids = collate(BatchedEcgDataset(built, with_patients=True).__getitems__(rows))["patient_ids"]
    assert ids.dtype == torch.int64
    assert ids.min() >= 0
    assert len(set(ids.tolist())) == len(set(patients)) < len(patients)
    assert len(set(zip(ids.tolist(), patients, strict=True))) == len(set(patients))
    assert "patient_ids" not in collate(BatchedEcgDataset(built).__getitems__([0]))


def test_who_is_not_known_has_no_number(built: Dataset) -> None:
    unknown = built.select([0, 1]).map(lambda row: {"patient_id": None}, keep_in_memory=True)
    batch = BatchedEcgDataset(unknown, with_patients=True).__getitems__([0, 1])
    assert batch.features["patient_ids"].tolist() == [-1, -1]


def test_a_stream_gives_the_same_numbers(built: Dataset, built_path: Path, tmp_path: Path) -> None:
    export_parquet(built_path, tmp_path / "parquet")
    stream = StreamedEcgDataset(RowStream.open([tmp_path / "parquet"]), 16, with_patients=True)
    streamed = {number for batch in stream for number in batch.features["patient_ids"].tolist()}
    train = [row for row, split in enumerate(built["split"][:]) if split == "train"]
    held = BatchedEcgDataset(built, with_patients=True).__getitems__(train).features["patient_ids"]
    assert streamed
    assert streamed <= set(held.tolist())


@pytest.mark.parametrize("method", ["3kg", "clocs"])
def test_two_records_of_one_patient_are_positives(
    method: str, built: Dataset, built_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All training records in one batch: their loss is that of the dataset's patients."""
    owners = [
        p for p, split in zip(built["patient_id"][:], built["split"][:], strict=True) if split == "train"
    ]
    kind = METHODS[method].load("pretraining")
    terms, seen = kind.terms, []

    def spy(self: Any, views: Any, targets: Any, patients: Tensor, **further: Tensor) -> Any:
        seen.append((patients, terms(self, views, targets, patients), terms(self, views, targets, None)))
        return seen[-1][1]

    monkeypatch.setattr(kind, "terms", spy)
    result = pretrain(method, built_path, tmp_path, per_device_train_batch_size=len(owners), **RUN)
    patients, known, unknown = seen[0]
    assert Counter(Counter(patients.tolist()).values()) == Counter(Counter(owners).values())
    assert max(Counter(owners).values()) > 1
    assert result.train["loss"] == pytest.approx(float(known["contrastive"].detach()), abs=1e-4)
    assert not torch.isclose(known["contrastive"], unknown["contrastive"])
