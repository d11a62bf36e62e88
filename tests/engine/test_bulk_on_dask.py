"""Builds, explanations and evaluations on a Dask cluster: the bytes and numbers of one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import ecg_hf
from ecg_hf.cli.main import main
from ecg_hf.data import build_dataset
from ecg_hf.engine import Engine, run_pieces
from ecg_hf.errors import ConfigurationError
from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER, pretrained_folder
from ecg_hf.pipelines.explained_folder import explain_in_folder


def files(folder: Path) -> dict[str, bytes]:
    """The files of a build, without its report, which says how long it took."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "build_report.json"}


@pytest.mark.slow
def test_a_build_has_the_bytes_of_one_process(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # which is not the workers'
    engine = Engine("dask", address=cluster)
    options = {"records": 100, "records_per_shard": 20, "progress": False}
    build_dataset("synthetic", None, "here", **options)
    report = build_dataset("synthetic", None, "cluster", engine=engine, **options)
    assert report.shards == 5
    assert files(tmp_path / "cluster") == files(tmp_path / "here")


@pytest.mark.slow
def test_explanations_have_the_bytes_of_one_process(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # which is not the workers'
    engine, model = Engine("dask", address=cluster), pretrained_folder(DEFAULT_CLASSIFIER)
    records = [ecg_hf.sample_record(), "missing"]
    options = {"patch_s": 5.0, "progress": False}
    report = explain_in_folder(model, records, "cluster", engine=engine, **options)
    assert report == explain_in_folder(model, records, "here", **options)
    assert report.explained == 1
    assert files(tmp_path / "cluster") == files(tmp_path / "here")


@pytest.mark.slow
def test_an_evaluation_has_the_numbers_of_one_process(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # which is not the workers'
    build_dataset("synthetic", None, "data", records=150, progress=False)
    models = ("--model", "ecg-distil-ptbxl", "--model", "ecg-beat-ptbxl")
    asked = ("evaluate", *models, "--benchmark", "synthetic-findings", "--dataset", "data")
    options = [
        "--fraction",
        "1.0",
        "--resamples",
        "20",
        "--device",
        "cpu",
        "--no-figures",
        "--controls",
        "none",
    ]
    for output, engine in (("cluster", ("--engine", "dask", "--address", cluster)), ("here", ())):
        main([*asked, *options, "--output", output, *engine])
    scores = [
        [row["macro_auroc"] for row in json.loads(Path(output, "results.json").read_text())["probe"]]
        for output in ("cluster", "here")
    ]
    assert len(scores[0]) == 2
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert files(tmp_path / "cluster" / "cells").keys() == files(tmp_path / "here" / "cells").keys()


@pytest.mark.slow
def test_pieces_that_take_a_gpu_need_workers_with_one(cluster: str):
    with pytest.raises(ConfigurationError, match="no worker of the cluster has a GPU"):
        list(run_pieces(str, [1], Engine("dask", address=cluster, gpu=True)))
