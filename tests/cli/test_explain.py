"""``ecg-hf explain``: a picture and a JSON file, and one line for what can't be explained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import ecg_hf

from .conftest import Cli
from .test_plot import width_of


def test_the_shipped_classifier_is_explained(cli: Cli, tmp_path: Path) -> None:
    picture, maps = tmp_path / "new" / "why.png", tmp_path / "new" / "why.json"
    outcome = cli(
        "explain", ecg_hf.sample_record(), "-o", picture, "--json", maps, "--label", "CLBBB", "--stretch", 1
    )
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.startswith("CLBBB: complete left bundle branch block, score 0.9")
    assert width_of(picture) > 1000
    content = json.loads(maps.read_text(encoding="utf-8"))
    assert content["model"] == "ecg-distil-ptbxl-statements"
    assert np.shape(content["occlusion"]) == (12, 10)
    assert np.shape(content["gradient_x_input"]) == (12, 1000)
    by_lead = dict(zip(content["lead_names"], content["occlusion_by_lead"], strict=True))
    assert max(by_lead, key=by_lead.__getitem__) == "V1"


def test_a_text_is_explained_by_a_model_without_classes(cli: Cli, tmp_path: Path) -> None:
    picture = tmp_path / "why.svg"
    options = ("--model", "ecg-beat-ptbxl", "--label", "left bundle branch block", "--stretch", "2")
    outcome = cli("explain", ecg_hf.sample_record(), "--output", picture, *options)
    assert outcome.returncode == 0, outcome.stderr
    assert "similarity lost without it" in outcome.stdout
    assert "<svg" in picture.read_text(encoding="utf-8")


def test_a_folder_gets_an_explanation_of_each_recording_and_keeps_it(
    cli: Cli, record: Path, tmp_path: Path
) -> None:
    asked = ("explain", record.parent, tmp_path / "missing", "-o", tmp_path / "why", "--stretch", 5)
    outcome = cli(*asked)
    assert outcome.returncode == 3, outcome.stderr
    assert len([line for line in outcome.stderr.splitlines() if "missing can't be explained" in line]) == 1
    assert outcome.stdout.startswith("1 of 2 recordings explained")
    files = list((tmp_path / "why").iterdir())
    assert {path.suffix for path in files} == {".png", ".json"}
    assert len({path.stem for path in files}) == 1
    again = cli(*asked)
    assert again.returncode == 3
    assert "1 of them before" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("-o", "why.jpg"), "why.jpg"),
        (("-o", "why.png", "--json", "why.png"), "a file each"),
        (("-o", "why.png", "--label", "nonsense"), "nonsense"),
        (("-o", "why.png", "--model", "ecg-distil-ptbxl"), "name one"),
        (("-o", "why.png", "--start", "12"), "12 s"),
        (("-o", "why.png", "--num-proc", "2"), "folder"),
        (("missing", "-o", "why.png"), "several recordings"),
        (("missing", "-o", "why", "--json", "why.json"), "--json is for one"),
        (("missing", "-o", "why", "--label", "nonsense"), "nonsense"),
        (("missing", "-o", "why", "--model", "ecg-distil-ptbxl"), "name one"),
        (("s3://bucket/folder", "-o", "why"), "one folder"),
        (("-o", "s3://key:secret@bucket/why"), "no credentials"),
        (("--dataset", "built", "-o", "why"), "one of the two"),
        ((), "--output"),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    arguments: tuple[str, ...], named: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("explain", ecg_hf.sample_record(), *arguments)
    assert outcome.returncode == 2
    assert named in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
