"""No converter takes a file that could run code, lacks or has other keys, claims terabytes or holds NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ecg_hf.errors import ConversionError
from ecg_hf.hub.converting import convert_checkpoint
from tests.models.hostile_official import HOSTILE, canary_of
from tests.models.official_files import CONVERTED, official_file

pytestmark = pytest.mark.fixtures


@pytest.mark.parametrize("method", CONVERTED)
def test_the_file_that_is_spoilt_converts(method: str, shared_fixtures: Any, tmp_path: Path) -> None:
    weights, told = official_file(method, shared_fixtures)
    torch.save({"state_dict": weights}, tmp_path / "x.pt")
    assert convert_checkpoint(method, tmp_path / "x.pt", tmp_path / "out", **told).tensors == len(weights)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("method", CONVERTED)
def test_hostile_files_are_refused(method: str, name: str, shared_fixtures: Any, tmp_path: Path) -> None:
    write, words = HOSTILE[name]
    weights, told = official_file(method, shared_fixtures)
    write(weights, tmp_path / "x.pt")
    with pytest.raises(ConversionError, match=words):
        convert_checkpoint(method, tmp_path / "x.pt", tmp_path / "out", **told)
    assert not (tmp_path / "out").exists()
    assert not canary_of(tmp_path / "x.pt").exists()
