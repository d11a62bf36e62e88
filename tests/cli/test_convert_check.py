"""``ecg-hf convert --check``: figures of a folder on the stored recording, compared with another machine's."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoFeatureExtractor, AutoModel

import ecg_hf
from ecg_hf.hub.probing import ProbeReport, differences

from .conftest import Cli
from .test_errors import assert_one_line

pytestmark = pytest.mark.fixtures


@pytest.fixture
def folder(cli: Cli, shared_fixtures: Path, tmp_path: Path) -> Path:
    """A converted classifier."""
    source = shared_fixtures / "ecgfounder" / "tiny_state_dict.safetensors"
    with safe_open(source, "pt") as file:
        (tmp_path / "sizes.json").write_text(file.metadata()["config"])
    target = tmp_path / "converted"
    outcome = cli("convert", "ecgfounder", source, target, "--config", tmp_path / "sizes.json")
    assert outcome.returncode == 0, outcome.stderr
    return target


def test_figures_are_those_of_the_auto_classes_on_the_sample_record(cli: Cli, folder: Path, tmp_path: Path):
    outcome = cli("convert", "--check", folder, "--json")
    assert outcome.returncode == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    assert report["model"] == "EcgFounderForEcgClassification"
    assert set(report["inputs"]) == {"input_values", "lead_mask"}
    assert set(report["outputs"]) == {"last_hidden_state", "pooler_output", "logits"}
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(ecg_hf.read_record(ecg_hf.sample_record()), return_tensors="pt")
    with torch.inference_mode():
        output = AutoModel.from_pretrained(folder).eval()(**inputs)
        head = ecg_hf.AutoModelForEcgClassification.from_pretrained(folder).eval()(**inputs)
    for name, tensor in (("last_hidden_state", output[0]), ("pooler_output", output[1]), ("logits", head[0])):
        figures = report["outputs"][name]
        assert figures["shape"] == list(tensor.shape)
        assert figures["mean"] == pytest.approx(float(tensor.double().mean()))
        assert figures["std"] == pytest.approx(float(tensor.double().std(correction=0)))
        assert len(figures["values"]) == min(10, tensor.numel())
        assert figures["values"][0] == float(tensor.flatten()[0])
        assert figures["values"][-1] == float(tensor.flatten()[-1])

    (tmp_path / "there.json").write_text(outcome.stdout)
    same = cli("convert", "--check", folder, "--against", tmp_path / "there.json")
    assert same.returncode == 0
    assert "logits" in same.stdout
    assert same.stdout.splitlines()[-1].startswith("agrees with")
    report["outputs"]["logits"]["values"][2] += 2e-4
    (tmp_path / "there.json").write_text(json.dumps(report))
    other = cli("convert", "--check", folder, "--against", tmp_path / "there.json", "--json")
    assert other.returncode == 1
    found = json.loads(other.stdout)
    assert found["agrees"] is False
    assert len(found["differences"]) == 1
    assert found["differences"][0].startswith("logits: 1 of 9 figures differ, value 3 most")


def test_mistakes_are_one_line(cli: Cli, folder: Path, tmp_path: Path):
    (tmp_path / "wrong.json").write_text('{"probe": 3}')
    missing = tmp_path / "missing.json"
    assert_one_line(cli("convert", "--check", folder, "--against", missing), "missing.json", "no such file")
    assert_one_line(
        cli("convert", "--check", folder, "--against", tmp_path / "wrong.json"), "wrong.json", "probe"
    )
    assert_one_line(cli("convert", "--check", tmp_path), "config.json")
    assert_one_line(cli("convert", "ecgfounder", "--check", folder), "nothing else", "ecgfounder")
    assert_one_line(cli("convert", "--against", missing), "--check")


REPORT: ProbeReport = {
    "probe": "00",
    "model": "OneModel",
    "model_type": "one",
    "parameters": 3,
    "inputs": {"input_values": {"shape": [1, 2], "mean": 0.5, "std": 0.5, "values": [0.0, 1.0]}},
    "outputs": {"pooler_output": {"shape": [1, 2], "mean": 150.0, "std": 50.0, "values": [100.0, 200.0]}},
}


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("inputs", "input_values", "mean"), 0.50009, None),
        (("inputs", "input_values", "mean"), 0.50015, "input_values: 1 of 4 figures differ, mean most"),
        (("outputs", "pooler_output", "std"), 50.0004, None),
        (("outputs", "pooler_output", "std"), 50.001, "pooler_output: 1 of 4 figures differ, std most"),
        (("outputs", "pooler_output", "values"), [100.0], "number of values"),
        (("outputs", "pooler_output", "shape"), [2, 1], "pooler_output has shape [1, 2] here, [2, 1] there"),
        (("outputs",), {}, "pooler_output is only here"),
        (("parameters",), 4, "parameters is 3 here, 4 there"),
    ],
)
def test_what_counts_as_a_difference(place: tuple[str, ...], value: Any, said: str | None):
    there: Any = deepcopy(REPORT)
    inner = there
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    told = differences(REPORT, there)
    assert len(told) == (said is not None)
    assert said is None or said in told[0]


def test_reports_of_other_recordings_are_not_compared():
    with pytest.raises(ecg_hf.EcgError, match="another recording"):
        differences(REPORT, {**REPORT, "probe": "11"})
