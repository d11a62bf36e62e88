"""``ecg-hf predict``, ``list pretrained`` and ``ecg_hf.embed`` with the weights that ship."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers import AutoModel, pipeline

import ecg_hf
from ecg_hf.errors import ConfigurationError
from ecg_hf.hub.fetching import resolve_model
from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER, DEFAULT_MODEL, list_pretrained

from .conftest import Cli

MEASUREMENTS = ["heart_rate_bpm", "pr_ms", "qrs_ms", "qt_ms", "qtc_ms"]
KEYS = {
    *("record", "error", "duration_s", "sampling_rate", "lead_names", "measurements", "findings"),
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
        texts = [file.read_text(encoding="utf-8") for file in Path(model.path).glob("*.json")]
        assert not any('"_name_or_path": "/' in text for text in texts)
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
    assert list(answer["measurements"]) == MEASUREMENTS
    assert 40 < answer["measurements"]["heart_rate_bpm"] < 120
    assert (answer["duration_s"], answer["sampling_rate"]) == (10.0, 100.0)
    assert answer["model"] == DEFAULT_CLASSIFIER
    found = {finding["label"]: finding for finding in answer["findings"]}
    assert found["NORM"]["probability"] > 0.5 > found["AFIB"]["probability"]
    assert found["NORM"]["positive"]
    assert 0.5 < found["NORM"]["reference_auroc"] <= 1.0
    probabilities = [finding["probability"] for finding in answer["findings"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert {tuple(finding) for finding in answer["findings"]} == {
        ("label", "name", "probability", "positive", "reference_auroc")
    }
    assert [list(near) for near in answer["nearest"]] == [["record_id", "similarity", "labels"]] * 3
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert float(rows[0]["NORM"]) == pytest.approx(found["NORM"]["probability"])
    assert rows[1]["error"]
    assert set(rows[0]) == {*KEYS - {"findings", "measurements", "nearest", "notes"}, *MEASUREMENTS, *found}
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


def test_folders_are_gone_through(cli: Cli, normal: Path, tmp_path: Path):
    """A picture for each that can be read, under its own name in its own folder; the others are accounted for."""
    source, plots = tmp_path / "in", tmp_path / "plots"
    for name in ("a", "b"):
        (source / name).mkdir(parents=True)
        for suffix in (".hea", ".dat"):
            shutil.copy(f"{normal}{suffix}", source / name)
    (source / "a" / "broken.xml").write_text("<nothing/>")
    (source / "README.md").write_text("no recording")
    outcome = cli("predict", source, "--json", "--csv", tmp_path / "table.csv", "--plot", plots)
    assert outcome.returncode == 3
    answers = json.loads(outcome.stdout)
    assert [answer["record"] for answer in answers] == [
        str(source / name) for name in ("a/00001_lr", "a/broken.xml", "b/00001_lr")
    ]
    assert [bool(answer["error"]) for answer in answers] == [False, True, False]
    drawn = sorted(path.relative_to(plots).as_posix() for path in plots.rglob("*.png"))
    assert drawn == ["a/00001_lr.png", "b/00001_lr.png"]
    assert len(list(csv.DictReader((tmp_path / "table.csv").open(encoding="utf-8")))) == 3
    outcome = cli(
        "predict", source / "a" / "00001_lr", source / "b" / "00001_lr.hea", "--plot", tmp_path / "two"
    )
    assert outcome.returncode == 0
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["00001_lr.png", "00001_lr_2.png"]


def test_a_table_has_every_column_also_without_an_answer(cli: Cli, tmp_path: Path):
    assert cli("predict", tmp_path / "missing", "--csv", tmp_path / "table.csv").returncode == 3
    (row,) = csv.DictReader((tmp_path / "table.csv").open(encoding="utf-8"))
    assert {*MEASUREMENTS, "NORM", "CLBBB", "AFIB"} < set(row)
    assert row["error"]
    assert row["NORM"] == row["heart_rate_bpm"] == ""


def test_pictures_are_png_or_svg(cli: Cli, tmp_path: Path):
    assert cli("predict", ecg_hf.sample_record(), "--plot", tmp_path / "one.svg").returncode == 0
    assert (tmp_path / "one.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_for_research_is_said_once(cli: Cli, normal: Path):
    outcome = cli("predict", normal, ecg_hf.sample_record())
    assert (outcome.stdout + outcome.stderr).lower().count("research") == 1


def test_a_folder_of_parts_has_the_columns_and_rows_of_the_csv(cli: Cli, normal: Path, tmp_path: Path):
    table, parts = tmp_path / "table.csv", tmp_path / "parts"
    assert cli("predict", normal.parent, tmp_path / "missing", "--csv", table).returncode == 3
    outcome = cli("predict", normal.parent, tmp_path / "missing", "--output", parts, "--json")
    assert outcome.returncode == 3
    assert json.loads(outcome.stdout)["unread"] == 1
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    found = pq.read_table(parts)
    assert found.column_names == list(rows[0])
    assert found["record"].to_pylist() == [row["record"] for row in rows]
    for name in MEASUREMENTS:
        assert ["" if value is None else str(value) for value in found[name].to_pylist()] == [
            row[name] for row in rows
        ]


def test_a_dataset_or_recordings_are_named(cli: Cli, normal: Path, built_path: Path, tmp_path: Path):
    for arguments, named in (
        ((), "name a RECORD"),
        (("--dataset", built_path), "need --output"),
        (("s3://bucket/folder",), "need --output"),
        ((normal, "--dataset", built_path, "--output", tmp_path / "out"), "one of the two"),
        (("--dataset", built_path, "--units", "mV", "--output", tmp_path / "out"), "are for recordings"),
        (("--dataset", tmp_path / "missing", "--output", tmp_path / "out"), "no such dataset"),
    ):
        outcome = cli("predict", *arguments)
        assert outcome.returncode == 2
        assert named in outcome.stderr
        assert len(outcome.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_options_of_parts_need_an_output(cli: Cli, normal: Path, tmp_path: Path):
    for options in (("--num-proc", 2), ("--overwrite",), ("--output", tmp_path / "out", "--labels", "a")):
        outcome = cli("predict", normal, *options)
        assert outcome.returncode == 2
        assert "--output" in outcome.stderr
