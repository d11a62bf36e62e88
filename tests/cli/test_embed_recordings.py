"""``ecg-hf embed RECORD ...``: embeddings of recordings and of their windows as Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

import ecg_hf


@pytest.mark.slow
def test_recordings_and_windows_become_parquet(cli, pretrained: Path, record: Path, tmp_path: Path):
    whole, parts = tmp_path / "whole.parquet", tmp_path / "parts.parquet"
    outcome = cli("embed", record, "--model", pretrained, "--output", whole, "--device", "cpu")
    assert outcome.returncode == 0, outcome.stderr
    table = pq.read_table(whole)
    assert table.column_names == ["record_id", "start_s", "embedding"]
    assert table["record_id"].to_pylist() == ["one"]
    told = ("--model", pretrained, "--output", parts, "--device", "cpu", "--window", 4, "--stride", 2)
    outcome = cli("embed", record, record, *told)
    assert outcome.returncode == 0, outcome.stderr
    table = pq.read_table(parts)
    assert table["start_s"].to_pylist() == [0.0, 2.0, 4.0, 6.0] * 2
    assert len(set(map(len, table["embedding"].to_pylist()))) == 1
    for wrong in (told, ("--dataset", tmp_path, record, *told), (record, *told[:-4], "--stride", 2)):
        assert cli("embed", *wrong).returncode == 2


def test_without_a_model_the_shipped_encoder_embeds(cli, record: Path, tmp_path: Path):
    outcome = cli("embed", record, "--output", tmp_path / "whole.parquet", "--device", "cpu")
    assert outcome.returncode == 0, outcome.stderr
    (vector,) = pq.read_table(tmp_path / "whole.parquet")["embedding"].to_pylist()
    assert vector == pytest.approx(ecg_hf.embed(record)[0].tolist(), abs=1e-5)
