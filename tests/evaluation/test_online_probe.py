"""Probes while pretraining: training does not notice, records are the right ones, time is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoFeatureExtractor, AutoModel, TrainerCallback

from ecg_hf.data import build_dataset, load_built
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation import embed_dataset, get_benchmark
from ecg_hf.evaluation.benchmark_data import BenchmarkData
from ecg_hf.evaluation.online_probe import (
    MAX_SHARE,
    OnlineProbe,
    _drawn,
    knn_scores,
    parse_probe,
    probe_records,
)
from ecg_hf.metrics.ranking import auroc
from ecg_hf.models.registry import METHODS, PRETRAINABLE
from ecg_hf.training import pretrain, read_training_log

FINDINGS = get_benchmark("synthetic-findings")
RUN: dict[str, Any] = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "logging_steps": 1,
    "save_strategy": "no",
    "eval_strategy": "no",
    "use_cpu": True,
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def built_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "synthetic"
    build_dataset("synthetic", None, folder, records=120, progress=False)
    return folder


@pytest.fixture(scope="module")
def built(built_path: Path) -> Dataset:
    return load_built(built_path)


@pytest.mark.parametrize("method", PRETRAINABLE)
def test_training_does_not_notice(method: str, built_path: Path, built: Dataset, tmp_path: Path) -> None:
    """The same bytes with probes and without; the last probe is that of the model ``AutoModel`` then loads."""
    torch.set_num_threads(1)
    # Large steps: where a teacher is what is loaded, it moves by a tenth of them.
    options = {**RUN, "size": METHODS[method].sizes[0], "learning_rate": 1e-2}
    pretrain(method, built_path, tmp_path / "without", **options)
    probe = OnlineProbe(FINDINGS, built, every=1)
    pretrain(method, built_path, tmp_path / "with", callbacks=[probe], **options)
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("without", "with")]
    assert weights[0] == weights[1]

    rows = [row for row in read_training_log(tmp_path / "with") if row["kind"] == "probe"]
    assert [row["step"] for row in rows] == probe.probed == [0, 1, 2]
    logs = [
        [row for row in read_training_log(tmp_path / run) if row["kind"] == "training"]
        for run in ("without", "with")
    ]
    assert logs[0] == logs[1]
    assert [row["step"] for row in logs[1]] == [1, 2]
    model = AutoModel.from_pretrained(tmp_path / "with")
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "with")
    chosen = built.select(np.concatenate([probe.fit_rows, probe.score_rows]))
    expected = probe._scores(embed_dataset(model, extractor, chosen, progress=False).astype(np.float64))
    assert {name: rows[-1][name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert rows[0]["probe_linear_auroc"] != rows[-1]["probe_linear_auroc"]


class Stop(TrainerCallback):
    """Ctrl-C in the middle."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt


def test_a_resumed_run_has_the_same_probes(built_path: Path, built: Dataset, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    run = {**RUN, "max_steps": 4, "save_strategy": "steps", "save_steps": 2, "size": "micro"}

    def probes(folder: str) -> list[dict[str, Any]]:
        return [row for row in read_training_log(tmp_path / folder) if row["kind"] == "probe"]

    pretrain(
        "cg-dmer", built_path, tmp_path / "whole", callbacks=[OnlineProbe(FINDINGS, built, every=2)], **run
    )
    interrupted = [OnlineProbe(FINDINGS, built, every=2), Stop()]
    with pytest.raises(KeyboardInterrupt):
        pretrain("cg-dmer", built_path, tmp_path / "cut", callbacks=interrupted, **run)
    assert [row["step"] for row in probes("cut")] == [0, 2]
    resumed = OnlineProbe(FINDINGS, built, every=2)
    pretrain("cg-dmer", built_path, tmp_path / "cut", callbacks=[resumed], resume=True, **run)
    assert resumed.probed == [4]
    assert probes("cut") == probes("whole")
    assert [row["step"] for row in probes("whole")] == [0, 2, 4]


def test_only_labels_of_training_folds_are_looked_at(built: Dataset) -> None:
    probe = OnlineProbe(FINDINGS, built)
    split = np.array(built["split"][:])
    patients = np.array(built["patient_id"][:])
    assert set(split[probe.fit_rows]) == set(split[probe.score_rows]) == {"train"}
    assert not set(patients[probe.fit_rows]) & set(patients[probe.score_rows])
    assert len(probe.fit_rows) == pytest.approx(2 * len(probe.score_rows), abs=3)

    other = [
        ["nothing known"] if part != "train" else codes
        for part, codes in zip(split, built["labels"][:], strict=True)
    ]
    hidden = built.remove_columns("labels").add_column("labels", other, feature=built.features["labels"])
    again = OnlineProbe(FINDINGS, hidden)
    np.testing.assert_array_equal(again.fit_rows, probe.fit_rows)
    np.testing.assert_array_equal(again.score_rows, probe.score_rows)
    np.testing.assert_array_equal(again._labels, probe._labels)


def test_a_thousand_records_to_fit_and_five_hundred_to_score() -> None:
    patients = tuple(None if i % 7 == 0 else f"p{i // 3}" for i in range(4000))
    split = np.where(np.arange(4000) % 5 == 0, "", "train")
    data = BenchmarkData(np.ones((4000, 1), bool), ("a",), split, patients)
    fit, score = _drawn(data, 1000, 500)
    assert (len(fit), len(score)) == (1000, 500)
    assert (split[np.concatenate([fit, score])] == "train").all()
    known = [{patients[row] for row in rows} - {None} for rows in (fit, score)]
    assert not known[0] & known[1]
    assert not set(fit) & set(score)
    for one, other in zip(_drawn(data, 1000, 500), (fit, score), strict=True):
        np.testing.assert_array_equal(one, other)


def test_folds_of_the_benchmark_decide(built: Dataset) -> None:
    benchmark = get_benchmark("ptbxl-super")
    n = len(built)
    columns = {
        "record_id": [str(i) for i in range(n)],
        "patient_id": [f"p{i}" for i in range(n)],
        "source": ["ptbxl"] * n,
        "fold": [i % 10 + 1 for i in range(n)],
        "split": ["train"] * n,
        "labels": [["NORM"] if i % 2 else ["IMI"] for i in range(n)],
    }
    data, rows = probe_records(benchmark, Dataset.from_dict(columns))
    assert set(np.array(columns["fold"])[rows]) == set(range(1, 9))
    assert data.labels.any(axis=0).sum() == 2


def test_neighbours_know_what_is_near() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((300, 2)) < 0.4
    apart = rng.normal(size=(300, 8)) + 6 * labels @ rng.normal(size=(2, 8))
    assert auroc(labels[200:], knn_scores(apart[:200], labels[:200], apart[200:])).min() > 0.95
    same = np.zeros((300, 8))
    np.testing.assert_allclose(auroc(labels[200:], knn_scores(same[:200], labels[:200], same[200:])), 0.5)
    few = knn_scores(apart[:3], labels[:3], apart[200:])
    assert few.shape == (100, 2)
    assert ((few >= 0) & (few <= 1)).all()


def test_what_is_not_finite_is_logged_and_ends_nothing(built: Dataset) -> None:
    probe = OnlineProbe(FINDINGS, built)
    values = probe._scores(np.full((len(probe._labels), 4), np.nan))
    assert all(math.isnan(value) for value in values.values())
    collapsed = probe._scores(np.ones((len(probe._labels), 4)))
    assert collapsed == {"probe_knn_auroc": 0.5, "probe_linear_auroc": 0.5}


@pytest.mark.parametrize(
    ("cost", "steps"),
    [(0.1, range(0, 1001, 100)), (1.0, range(0, 1001, 250)), (2.0, (0, 1000)), (30.0, (0, 1000))],
)
def test_probes_take_at_most_their_share(
    cost: float, steps: Sequence[int], built: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of a thousand steps of 0.1 s has five seconds for probes; the first and the last are always made."""
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr("ecg_hf.evaluation.online_probe.time", clock)
    probe = OnlineProbe(FINDINGS, built)

    def embed(*_: Any) -> Any:
        now[0] += cost
        return np.zeros(1)

    monkeypatch.setattr(probe, "_prepare", lambda _: probe._inputs.append({}))
    monkeypatch.setattr(probe, "_embed", embed)
    monkeypatch.setattr(probe, "_scores", lambda _: {"probe_knn_auroc": 0.5, "probe_linear_auroc": 0.5})
    probe.log = lambda values: None
    state = SimpleNamespace(global_step=0, max_steps=1000, is_world_process_zero=True)
    given: Any = (SimpleNamespace(device=torch.device("cpu")), state, None)
    model = {"model": torch.nn.Linear(1, 1), "processing_class": None}
    probe.on_train_begin(*given, **model)
    for step in range(1, 1001):
        probe.on_step_begin(*given, **model)
        now[0] += 0.1
        state.global_step = step
        probe.on_step_end(*given, **model)
    probe.on_train_end(*given)
    assert probe.probed == list(steps)
    assert (probe.share < MAX_SHARE) is (cost < 30)
    assert probe.share == pytest.approx(cost * len(steps) / (100 + cost * len(steps)))


def test_an_interval_that_was_asked_for_is_kept(built: Dataset) -> None:
    probe = OnlineProbe(FINDINGS, built, every=50)
    probe._cost = probe.seconds = 1000.0
    state: Any = SimpleNamespace(global_step=100, max_steps=1000)
    assert probe._affordable_interval(state) == 50


def test_a_divided_model_is_refused(built: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = OnlineProbe(FINDINGS, built)
    monkeypatch.setattr("ecg_hf.evaluation.online_probe.DTensor", torch.nn.Parameter)
    nothing: Any = None
    with pytest.raises(ConfigurationError, match="FSDP"):
        probe.on_train_begin(nothing, nothing, nothing, model=torch.nn.Linear(1, 1))


@pytest.mark.parametrize(
    "text", ["nothing", "ptbxl-super", "ludb-delineation", "synthetic-findings:", ":x", ""]
)
def test_what_cannot_be_probed_is_refused(text: str, built_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        OnlineProbe.from_text(text, [built_path])
    with pytest.raises(ConfigurationError, match="FOLDER"):
        OnlineProbe.from_text("synthetic-findings", [tmp_path])
    with pytest.raises(ConfigurationError, match="1 step"):
        OnlineProbe.from_text("synthetic-findings", [built_path], 0)


def test_the_dataset_is_named_or_found(built_path: Path, tmp_path: Path) -> None:
    assert parse_probe("ptbxl-super:C:\\data") == (get_benchmark("ptbxl-super"), Path("C:\\data"))
    named = OnlineProbe.from_text(f"synthetic-findings:{built_path}", [tmp_path])
    found = OnlineProbe.from_text("synthetic-findings", [tmp_path, built_path])
    np.testing.assert_array_equal(named.fit_rows, found.fit_rows)
