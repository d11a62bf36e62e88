"""``OnnxModel``: the pipeline's answers, without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError, EcgError, LeadError, ModelFolderError, SignalError
from ecg_hf.models.pretrained import sample_record
from ecg_hf.runtime import OnnxModel
from ecg_hf.signal import read_record

pytestmark = pytest.mark.slow

WITHOUT_TORCH = """
import json, sys
import ecg_hf.runtime
model = ecg_hf.runtime.OnnxModel(sys.argv[1])
answers = model.scores(sys.argv[2:])
assert not any(name == "torch" or name.startswith("torch.") for name in sys.modules), "torch was imported"
print(json.dumps(answers))
"""


def test_recordings_are_answered_without_torch(exported: Path, recordings: Path):
    from transformers import pipeline

    paths = [str(sample_record()), str(recordings / "ptbxl" / "records500" / "00000" / "00001_hr.hea")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(exported), *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    classify = pipeline("ecg-classification", device="cpu")
    for found, expected in zip(json.loads(done.stdout), classify(paths), strict=True):
        assert found[0]["label"] == expected[0]["label"]
        scores = {one["label"]: one["score"] for one in found}
        assert scores == pytest.approx({one["label"]: one["score"] for one in expected}, abs=1e-4)


def test_batches_and_single_recordings_agree(exported: Path):
    model = OnnxModel(exported, threads=1)
    record = read_record(sample_record())
    several = model([record, sample_record(), record], batch_size=2)["logits"]
    assert several.shape == (3, len(model.facts["labels"]))
    np.testing.assert_allclose(several, np.repeat(model(record)["logits"], 3, axis=0), atol=1e-4)


def test_what_cannot_be_answered(exported: Path):
    model = OnnxModel(exported)
    record = read_record(sample_record())
    model.facts["min_leads"] = 6
    with pytest.raises(LeadError, match="at least 6 leads, record 1 has 1"):
        model.scores([record, record.select_leads(["V1"])])
    with pytest.raises(SignalError, match="no recording"):
        model([])
    with pytest.raises(EcgError):
        model("no/such/record")


@pytest.mark.parametrize("file", ["export.json", "preprocessing.json", "model.onnx"])
def test_a_folder_that_is_none(exported: Path, tmp_path: Path, file: str):
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    for content in (b"{}", b"\x00\x01", None):
        (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
        with pytest.raises(EcgError) as caught:
            OnnxModel(folder)
        assert file in str(caught.value)


def test_other_exports_are_told_apart(exported: Path, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    facts = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    (folder / "export.json").write_text(json.dumps({**facts, "format": "torch"}))
    with pytest.raises(ModelFolderError, match="not for ONNX"):
        OnnxModel(folder)
    without = {name: value for name, value in facts.items() if name not in ("labels", "function")}
    (folder / "export.json").write_text(json.dumps(without))
    with pytest.raises(ConfigurationError, match="no classes"):
        OnnxModel(folder).scores(sample_record())
