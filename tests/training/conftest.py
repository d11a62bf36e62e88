"""A small built dataset for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers.models.auto.modeling_auto  # noqa: F401  (before ecg_hf: see ecg_hf.auto_registration)
from datasets import Dataset

from ecg_hf.data import build_dataset, load_built


@pytest.fixture(scope="session")
def built_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "synthetic"
    build_dataset("synthetic", None, folder, records=160, progress=False)
    return folder


@pytest.fixture
def built(built_path: Path) -> Dataset:
    return load_built(built_path)
