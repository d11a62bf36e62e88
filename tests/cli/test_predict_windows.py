"""``ecg-hf predict --window``: an answer for each window, and the scores over time as a picture."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import wfdb

from ecg_hf.signal import STANDARD_LEADS
from ecg_hf.signal.synthetic import simulate
from tests.pipelines.conftest import make_classifier_folder, make_zero_shot_folder

from .conftest import Cli


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with random weights."""
    return make_classifier_folder(tmp_path_factory.mktemp("classifier"), "multi_label_classification")


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of ECGs and texts with random weights."""
    return make_zero_shot_folder(tmp_path_factory.mktemp("zero_shot"), tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty seconds of 12 leads at 100 Hz, flat from the 20th to the 30th."""
    folder = tmp_path_factory.mktemp("long")
    signal = np.concatenate(list(simulate(5, seed=3, sampling_rate=100.0).signal), axis=1)
    signal[:, 2000:3000] = 0.0
    wfdb.wrsamp("long", 100, ["mV"] * 12, list(STANDARD_LEADS), signal.T.astype(float), fmt=["16"] * 12,
                adc_gain=[1000.0] * 12, baseline=[0] * 12, write_dir=str(folder))  # fmt: skip
    return folder / "long"


def test_every_window_is_answered(cli: Cli, classifier: Path, long: Path, tmp_path: Path) -> None:
    table, picture = tmp_path / "answers.csv", tmp_path / "course.png"
    told = ("--model", classifier, "--device", "cpu", "--window", 10)
    outcome = cli("predict", long, *told, "--stride", 5, "--json", "--csv", table, "--plot", picture)
    assert outcome.returncode == 0, outcome.stderr
    answers = json.loads(outcome.stdout)
    assert [answer["start_s"] for answer in answers] == [5.0 * k for k in range(9)]
    assert {answer["record"] for answer in answers} == {str(long)}
    assert [answer["duration_s"] for answer in answers] == [10.0] * 9
    assert [answer["start_s"] for answer in answers if answer["abstained"]] == [20.0]
    assert all(len(answer["findings"]) == 3 for answer in answers if not answer["abstained"])
    assert all(40 < answer["measurements"]["heart_rate_bpm"] < 150 for answer in answers[:2])
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [float(row["start_s"]) for row in rows] == [5.0 * k for k in range(9)]
    assert [row["STTC"] == "" for row in rows] == [answer["abstained"] is not None for answer in answers]
    assert picture.read_bytes().startswith(b"\x89PNG")

    shown = cli("predict", long, *told, "--top-k", 1)
    lines = shown.stdout.splitlines()
    assert lines[0] == str(long)
    assert [line.split()[0] for line in lines[1:]] == [
        "0:00:00.0",
        "0:00:10.0",
        "0:00:20.0",
        "0:00:30.0",
        "0:00:40.0",
    ]
    assert "no findings: every lead is constant" in lines[3]

    whole = json.loads(cli("predict", long, *told[:-2], "--json").stdout)
    assert len(whole) == 1
    assert "start_s" not in whole[0]


def test_several_recordings_and_one_that_is_missing(
    cli: Cli, classifier: Path, long: Path, record: Path, tmp_path: Path
) -> None:
    told = ("--model", classifier, "--device", "cpu", "--window", 10)
    outcome = cli("predict", long, tmp_path / "gone", record, *told, "--json", "--plot", tmp_path / "plots")
    assert outcome.returncode == 3
    answers = json.loads(outcome.stdout)
    assert [Path(answer["record"]).name for answer in answers] == ["long"] * 5 + ["gone", "one"]
    assert [answer["error"] is None for answer in answers] == [True] * 5 + [False, True]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["long.png", "one.png"]


def test_labels_over_time(cli: Cli, text_model: Path, long: Path, tmp_path: Path) -> None:
    picture = tmp_path / "labels.svg"
    told = ("--model", text_model, "--device", "cpu", "--labels", "normal ecg,atrial fibrillation")
    outcome = cli("predict", long, *told, "--window", 10, "--json", "--top-k", 1, "--plot", picture)
    assert outcome.returncode == 0, outcome.stderr
    entries = json.loads(outcome.stdout)
    assert [entry["start_s"] for entry in entries] == [0.0, 10.0, 20.0, 30.0, 40.0]
    # The model can't take the flat window: it has no scores, and those after it have theirs.
    assert [len(entry["scores"]) for entry in entries] == [1, 1, 0, 1, 1]
    assert "<svg" in picture.read_text()
    assert "0:00:20.0  no scores" in cli("predict", long, *told, "--window", 10).stdout
    (whole,) = json.loads(cli("predict", long, *told, "--json").stdout)
    assert set(whole) == {"record", "scores"}
    missing = cli("predict", tmp_path / "gone", *told, "--window", 10)
    assert (missing.returncode, "gone" in missing.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--stride", 5), "--window"),
        (("--window", 0), "positive"),
        (("--window", 10, "--stride", -5), "positive"),
        (("--labels", "a", "--plot", "x.png"), "--window"),
        (("--labels", " , ", "--window", 10), "--labels"),
    ],
)
def test_lengths_that_make_no_sense_are_one_line(
    arguments: tuple[object, ...], named: str, cli: Cli, classifier: Path, long: Path
) -> None:
    outcome = cli("predict", long, "--model", classifier, "--device", "cpu", *arguments)
    assert outcome.returncode == 2
    assert named in outcome.stderr
    assert outcome.stdout == ""
    assert len(outcome.stderr.strip().splitlines()) == 1
