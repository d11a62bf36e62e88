"""What ships with the package: models by name, and the sample record."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoConfig

import ecg_hf
from ecg_hf.models.pretrained import list_pretrained
from ecg_hf.models.registry import METHODS

HEADER = "02940_lr 12 100 1000"


@pytest.mark.parametrize("model", list_pretrained(), ids=lambda model: model.name)
def test_methods_are_those_of_the_configurations(model):
    assert model.method in METHODS
    assert AutoConfig.from_pretrained(model.path).model_type == model.method
    assert model.size_bytes == sum(file.stat().st_size for file in Path(model.path).iterdir())


def test_the_sample_record_is_a_clean_twelve_lead_recording():
    record = ecg_hf.read_record(ecg_hf.sample_record())
    assert record.signal.shape == (12, 1000)
    assert record.sampling_rate == 100.0
    assert record.lead_names == ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    assert record.notes == ()


def test_the_sample_record_says_nothing_of_the_person_and_names_its_source():
    header = ecg_hf.sample_record()
    first, *signals = header.read_text(encoding="utf-8").strip().splitlines()
    assert first == HEADER
    assert len(signals) == 12
    assert all(line.startswith("02940_lr.dat 16 ") for line in signals)
    source = (header.parent / "README.md").read_text(encoding="utf-8")
    for words in ("PTB-XL 1.0.3", "Wagner", "10.13026/kfzx-aw45", "Creative Commons Attribution 4.0"):
        assert words in source


def test_a_classifier_is_an_encoder_too():
    """Its folder has no term head, and none is asked for."""
    record = ecg_hf.sample_record()
    one, two = (
        ecg_hf.embed(record, model=name) for name in ("ecg-distil-ptbxl-statements", "ecg-distil-ptbxl")
    )
    assert one.shape == two.shape == (1, 768)
    assert abs(one - two).max() < 1e-5
