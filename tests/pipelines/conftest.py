"""Folders as a user would load them: micro models with random weights, tokenizer and feature extractor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_hf.signal import STANDARD_LEADS, EcgRecord
from ecg_hf.signal.synthetic import simulate

LABELS = ["NORM", "MI", "STTC"]


def make_zero_shot_folder(folder: Path, vocabulary: Path) -> Path:
    from transformers import BertTokenizerFast

    from ecg_hf.models.registry import METHODS
    from ecg_hf.processing.processor import EcgProcessor

    spec = METHODS["cg-dmer"]
    torch.manual_seed(0)
    config = spec.load("config").preset("micro")
    spec.load("pretraining")(config).save_pretrained(folder)
    words = ["atrial", "fibrillation", "normal", "ecg", "sinus", "rhythm", "of", "shows"]
    (vocabulary / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    extractor = spec.load("feature_extractor")(sampling_rate=config.sampling_rate)
    EcgProcessor(extractor, BertTokenizerFast.from_pretrained(vocabulary)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def zero_shot_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_zero_shot_folder(tmp_path_factory.mktemp("zero_shot"), tmp_path_factory.mktemp("vocabulary"))


def make_classifier_folder(folder: Path, problem_type: str | None) -> Path:
    from ecg_hf.models.registry import METHODS

    spec = METHODS["cg-dmer"]
    torch.manual_seed(0)
    config = spec.load("config").preset(
        "micro", problem_type=problem_type, id2label=dict(enumerate(LABELS)), label2id={}
    )
    spec.load("classification")(config).save_pretrained(folder)
    spec.load("feature_extractor")(sampling_rate=config.sampling_rate).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier_folder(tmp_path_factory.mktemp("classifier"), "multi_label_classification")


@pytest.fixture(scope="session")
def ecgs() -> np.ndarray:
    """Five synthetic 10 s recordings at 100 Hz, (5, 12, 1000)."""
    return simulate(5, seed=2, sampling_rate=100.0).signal


@pytest.fixture(scope="session")
def records(ecgs: np.ndarray) -> list[EcgRecord]:
    """The same as records, one of them too short and one without its last leads."""
    whole = [EcgRecord(ecg, 100.0, STANDARD_LEADS) for ecg in ecgs]
    whole[1] = EcgRecord(ecgs[1][:, :640], 100.0, STANDARD_LEADS)
    whole[3] = EcgRecord(ecgs[3][:10], 100.0, STANDARD_LEADS[:10])
    return whole


@pytest.fixture
def npy_file(tmp_path: Path, ecgs: np.ndarray) -> Path:
    path = tmp_path / "recordings" / "one.npy"
    path.parent.mkdir()
    np.save(path, ecgs[0])
    return path
