"""``ecg-hf predict``, ``list pretrained`` and ``ecg_hf.embed`` with the weights that ship."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModel, pipeline

import ecg_hf
from ecg_hf.errors import ConfigurationError
from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER, DEFAULT_MODEL, list_pretrained, resolve_model

from .conftest import Cli

KEYS = {
    *("record", "start_s", "error", "duration_s", "sampling_rate", "lead_names", "measurements", "findings"),
    *("abstained", "notes", "nearest", "model"),
}


@pytest.fixture
def normal(recordings: Path) -> Path:
    """PTB-XL 1: a normal ECG."""
    return recordings / "ptbxl" / "records100" / "00000" / "00001_lr"


def test_shipped_models_are_what_the_index_says():
    listed = {model.name: model for model in list_pretrained()}
    assert {DEFAULT_MODEL, DEFAULT_CLASSIFIER} <= set(listed)
    for model in listed.values():
        content = (Path(model.path) / "model.safetensors").read_bytes()
        assert hashlib.sha256(content).hexdigest() == model.sha256
        assert (Path(model.path) / "README.md").is_file()
    assert sum(model.size_bytes for model in listed.values()) < 20e6


def test_names_are_resolved_where_no_folder_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert resolve_model(DEFAULT_MODEL) == str(ecg_hf.pretrained())
    assert resolve_model("org/model") == "org/model"
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT_MODEL).mkdir()
    assert resolve_model(DEFAULT_MODEL) == DEFAULT_MODEL
    with pytest.raises(ConfigurationError, match=DEFAULT_MODEL):
        ecg_hf.pretrained("nothing")


def test_weights_are_stored_in_half_and_computed_in_single_precision():
    model = AutoModel.from_pretrained(ecg_hf.pretrained())
    assert {str(parameter.dtype) for parameter in model.parameters()} == {"torch.float32"}


def test_answers_without_a_model(cli: Cli, normal: Path, tmp_path: Path):
    table = tmp_path / "answers.csv"
    outcome = cli(
        "predict", normal, tmp_path / "missing", "--json", "--csv", table, "--plot", tmp_path / "plots"
    )
    assert outcome.returncode == 3
    answer, unread = json.loads(outcome.stdout)
    assert set(answer) == set(unread) == KEYS
    assert answer["error"] is None
    assert unread["error"]
    assert unread["findings"] == []
    assert 40 < answer["measurements"]["heart_rate_bpm"] < 120
    found = {finding["label"]: finding for finding in answer["findings"]}
    assert found["NORM"]["probability"] > 0.5 > found["AFIB"]["probability"]
    assert found["NORM"]["positive"]
    assert 0.5 < found["NORM"]["reference_auroc"] <= 1.0
    probabilities = [finding["probability"] for finding in answer["findings"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert len(answer["nearest"]) == 3
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert float(rows[0]["NORM"]) == pytest.approx(found["NORM"]["probability"])
    assert rows[1]["error"]
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["00001_lr.png"]


def test_a_flat_recording_gets_no_findings(cli: Cli, tmp_path: Path):
    file = tmp_path / "flat.npy"
    np.save(file, np.zeros((12, 1000), np.float32))
    leads = "I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6"
    told = ("--sampling-rate", "100", "--units", "mV", "--lead-names", leads)
    outcome = cli("predict", file, *told, "--json")
    assert outcome.returncode == 0
    (answer,) = json.loads(outcome.stdout)
    assert answer["abstained"]
    assert answer["findings"] == []


def test_zero_shot_without_a_model(cli: Cli, normal: Path):
    outcome = cli("predict", normal, "--labels", "normales ekg,vorhofflimmern", "--json")
    scores = {one["label"]: one["score"] for one in json.loads(outcome.stdout)[0]["scores"]}
    assert scores["normales ekg"] > scores["vorhofflimmern"]


def test_embeddings_in_one_line(normal: Path):
    one = ecg_hf.embed(normal)
    assert one.shape == (1, 768)
    assert one.dtype == np.float32
    several = ecg_hf.embed([normal, ecg_hf.read_record(normal)], model=DEFAULT_MODEL)
    np.testing.assert_allclose(several, np.repeat(one, 2, axis=0), atol=1e-5)


def test_pipelines_take_the_shipped_folders(normal: Path):
    scores = pipeline("ecg-classification", model=str(ecg_hf.pretrained(DEFAULT_CLASSIFIER)))(str(normal))
    assert scores[0]["label"]
