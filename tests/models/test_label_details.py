"""``config.label_details``: what a fine-tuned classifier knows about its labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from ecg_hf.errors import EcgError
from ecg_hf.models.registry import METHODS

DETAILS = {"MI": {"name": "myocardial infarction", "threshold": 0.25, "reference_auroc": None}}
WRONG: dict[str, Any] = {
    "no object": 5,
    "entry": {"MI": "myocardial infarction"},
    "field": {"MI": {"threshhold": 0.5}},
    "text for a number": {"MI": {"threshold": "0.5"}},
    "truth value for a number": {"MI": {"threshold": True}},
    "beyond one": {"MI": {"threshold": 1.5}},
    "not a number": {"MI": {"reference_auroc": float("nan")}},
    "number for a name": {"MI": {"name": 5}},
    "long name": {"MI": {"name": "a" * 201}},
    "long label": {"a" * 201: {}},
    "too many": {str(i): {} for i in range(10_001)},
}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_details_survive_saving(method: str, tmp_path: Path) -> None:
    spec = METHODS[method]
    kind, size = spec.load("config"), spec.sizes[0]
    kind.preset(size, label_details=DETAILS).save_pretrained(tmp_path / "with")
    assert AutoConfig.from_pretrained(tmp_path / "with").label_details == DETAILS
    kind.preset(size).save_pretrained(tmp_path / "without")
    assert AutoConfig.from_pretrained(tmp_path / "without").label_details is None


@pytest.mark.parametrize("name", WRONG)
def test_details_that_can_not_be_are_refused(name: str, tmp_path: Path) -> None:
    kind = METHODS["ecg-jepa"].load("config")
    config = kind.preset("tiny")
    with pytest.raises(EcgError):
        kind.preset("tiny", label_details=WRONG[name])
    with pytest.raises(EcgError):
        config.update({"label_details": WRONG[name]})
    config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "label_details": WRONG[name]}))
    with pytest.raises(EcgError):
        AutoConfig.from_pretrained(tmp_path)
