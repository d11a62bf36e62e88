"""``ecg-hf pretrain``, ``embed`` and ``predict`` on a micro model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from ecg_hf.cli.pretrain import parse_overrides
from ecg_hf.data import load_built
from ecg_hf.errors import ConfigurationError
from tests.cli.conftest import PRETRAIN, RECORDS, Cli

LABELS = "atrial fibrillation,normal ECG"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.slow
def test_pretrained_folder_is_a_model(pretrained: Path) -> None:
    report = json.loads((pretrained / "pretrain_report.json").read_text())
    assert (report["model"], report["steps"], report["resumed_from"]) == ("cg-dmer", 2, 0)
    names = {file.name for file in pretrained.iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pkl"))]


@pytest.mark.slow
def test_finished_run_is_resumed_without_a_step(pretrained: Path, dataset: Path, cli: Cli) -> None:
    before = (pretrained / "model.safetensors").read_bytes()
    outcome = cli(*PRETRAIN, "--dataset", dataset, "--output", pretrained, "--resume", "--json")
    assert outcome.returncode == 0, outcome.stderr
    account = json.loads(outcome.stdout)
    assert (account["steps"], account["resumed_from"]) == (2, 2)
    assert (pretrained / "model.safetensors").read_bytes() == before


def test_options_are_training_arguments_and_fields_of_the_configuration() -> None:
    given = ["--learning-rate", "1e-3", "--bf16", "--mask-ratio=0.5", "--learn-temporal-positions", "False"]
    training, model = parse_overrides(given, "cg-dmer")
    assert training == {"learning_rate": 1e-3, "bf16": True}
    assert model == {"mask_ratio": 0.5, "learn_temporal_positions": False}


@pytest.mark.parametrize(
    "given",
    [
        ["--frobnicate", "3"],
        ["--mask-ratio"],
        ["--mask-ratio", "--bf16"],
        ["stray"],
        ["--learning-rate", "fast"],
    ],
)
def test_other_options_are_refused(given: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        parse_overrides(given, "cg-dmer")


@pytest.mark.slow
def test_embeddings_are_those_of_the_model_in_the_order_of_the_dataset(
    pretrained: Path, dataset: Path, cli: Cli, tmp_path: Path
) -> None:
    from transformers import AutoFeatureExtractor, AutoModel

    output = tmp_path / "embeddings.safetensors"
    arguments = ("embed", "--model", pretrained, "--dataset", dataset, "--output", output)
    outcome = cli(*arguments, "--batch-size", "16", "--device", "cpu", "--json")
    assert outcome.returncode == 0, outcome.stderr
    assert json.loads(outcome.stdout)["records"] == RECORDS
    tensors = load_file(output)
    assert list(tensors) == ["embeddings"]
    embeddings = tensors["embeddings"]

    model = AutoModel.from_pretrained(pretrained).eval()
    extractor = AutoFeatureExtractor.from_pretrained(pretrained)
    rows = load_built(dataset)
    with torch.inference_mode():
        by_hand = np.concatenate(
            [
                model(**extractor(rows[index]["ecg"], return_tensors="pt")).pooler_output.numpy()
                for index in range(RECORDS)
            ]
        )
    assert embeddings.dtype == np.float32
    assert embeddings.shape == by_hand.shape == (RECORDS, model.config.hidden_size)
    np.testing.assert_allclose(embeddings, by_hand, atol=1e-5)
    # Were rows in another order, the closest row would not be the same one.
    distance = np.abs(embeddings[:, None] - by_hand[None]).sum(-1)
    assert (distance.argmin(1) == np.arange(RECORDS)).all()


@pytest.mark.slow
def test_tokens_are_embedded_too(pretrained: Path, dataset: Path, cli: Cli, tmp_path: Path) -> None:
    from ecg_hf.evaluation import read_tokens

    output = tmp_path / "tokens.safetensors"
    arguments = ("embed", "--model", pretrained, "--dataset", dataset, "--output", output, "--device", "cpu")
    outcome = cli(*arguments, "--features", "tokens", "--pool-tokens", "2", "--json")
    assert outcome.returncode == 0, outcome.stderr
    account = json.loads(outcome.stdout)
    tokens = read_tokens(output)
    assert tokens.shape == (account["records"], account["tokens"], account["dim"])
    assert account["records"] == RECORDS
    assert tokens.values.dtype == np.float16
    refused = cli(*arguments, "--pool-tokens", "2")
    assert refused.returncode == 2
    assert "--features tokens" in refused.stderr


@pytest.mark.slow
def test_embedding_again_reads_the_file(pretrained: Path, dataset: Path, cli: Cli, tmp_path: Path) -> None:
    output = tmp_path / "embeddings.safetensors"
    arguments = ("embed", "--model", pretrained, "--dataset", dataset, "--output", output, "--device", "cpu")
    assert cli(*arguments).returncode == 0
    written = output.stat().st_mtime_ns
    assert cli(*arguments).returncode == 0
    assert output.stat().st_mtime_ns == written
    other = cli(*arguments, "--features", "projected")
    assert other.returncode == 2
    assert "another model, preprocessing or dataset" in other.stderr
    assert cli(*arguments, "--features", "projected", "--overwrite").returncode == 0


@pytest.mark.slow
def test_zero_shot_answer_of_a_record(pretrained: Path, record: Path, process: Cli) -> None:
    outcome = process("predict", "--model", pretrained, record, record, "--labels", LABELS, "--json")
    assert outcome.returncode == 0, outcome.stderr
    answers = json.loads(outcome.stdout)
    assert [answer["record"] for answer in answers] == [str(record)] * 2
    scores = answers[0]["scores"]
    assert {entry["label"] for entry in scores} == {"atrial fibrillation", "normal ECG"}
    assert scores[0]["score"] >= scores[1]["score"]
    assert all(-1.0 <= entry["score"] <= 1.0 for entry in scores)
    assert answers[0]["scores"] == answers[1]["scores"]


@pytest.mark.slow
def test_softmax_and_table(pretrained: Path, record: Path, cli: Cli) -> None:
    arguments = ("predict", "--model", pretrained, record, "--labels", LABELS, "--device", "cpu", "--softmax")
    scores = json.loads(cli(*arguments, "--json").stdout)[0]["scores"]
    assert sum(entry["score"] for entry in scores) == pytest.approx(1.0)
    lines = cli(*arguments).stdout.splitlines()
    assert lines[0] == str(record)
    assert len(lines) == 2 + len(scores)
    best = json.loads(cli(*arguments, "--top-k", "1", "--json").stdout)[0]["scores"]
    assert best == scores[:1]


def test_embedding_into_a_folder_of_parts(cli: Cli, dataset: Path, pretrained: Path, tmp_path: Path) -> None:
    said = cli("embed", "--model", pretrained, "--dataset", dataset, "--output", tmp_path / "out", "--num-proc", 2,
               "--records-per-part", 16, "--json")  # fmt: skip
    assert said.returncode == 0
    report = json.loads(said.stdout)
    assert (report["records"], report["parts"], report["reused"]) == (RECORDS, -(-RECORDS // 16), 0)
    table = pq.read_table(tmp_path / "out")
    assert table.column_names == ["record_id", "split", "embedding"]
    for wrong in (
        ("--num-proc", 2, "--output", tmp_path / "a.safetensors"),
        ("--engine", "ray", "--output", tmp_path / "other"),
        ("--engine", "dask", "--output", tmp_path / "other"),
        ("--on-error", "hide", "--output", tmp_path / "other"),
    ):
        failed = cli("embed", "--model", pretrained, "--dataset", dataset, *wrong)
        assert failed.returncode == 2
        assert len(failed.stderr.splitlines()) == 1
