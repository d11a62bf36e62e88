"""Reference ECGs: neighbours by cosine, eight bits, and files that do not fit."""

import json
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.errors import ModelFolderError
from ecg_hf.pipelines.references import LABELS_FILE, ReferenceEcgs, load_references


@pytest.fixture
def embeddings() -> np.ndarray:
    return np.random.default_rng(0).normal(2.0, 3.0, (50, 64)).astype(np.float32)


def _made(embeddings: np.ndarray) -> ReferenceEcgs:
    names = [str(row) for row in range(len(embeddings))]
    return ReferenceEcgs.make(embeddings, names, [["NORM", "SR"]] * len(names))


def test_neighbours_are_those_of_exact_cosines(embeddings: np.ndarray):
    references = _made(embeddings)
    rows = (embeddings - embeddings.mean(0)) / (embeddings.std(0) + 1e-6)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for row in range(10):
        query = embeddings[row] + 0.3
        unit = (query - embeddings.mean(0)) / (embeddings.std(0) + 1e-6)
        exact = rows @ unit / np.linalg.norm(unit)
        found = references.nearest(query, 3)
        assert found[0]["record_id"] == str(int(exact.argmax())) == str(row)
        assert found[0]["similarity"] == pytest.approx(float(exact.max()), abs=0.01)
        assert found[0]["labels"] == ["NORM", "SR"]
        assert [one["similarity"] for one in found] == sorted(
            (one["similarity"] for one in found), reverse=True
        )


def test_files_round_trip_and_misfits_are_refused(embeddings: np.ndarray, tmp_path: Path):
    assert load_references(tmp_path) is None
    references = _made(embeddings)
    references.save(tmp_path)
    loaded = load_references(tmp_path)
    assert loaded is not None
    assert loaded.nearest(embeddings[7], 5) == references.nearest(embeddings[7], 5)
    (tmp_path / LABELS_FILE).write_text(json.dumps([["1", []]]))
    with pytest.raises(ModelFolderError, match="do not fit"):
        load_references(tmp_path)
    for damaged in ("{", "[[1]]", "[1, 2]"):
        (tmp_path / LABELS_FILE).write_text(damaged)
        with pytest.raises(ModelFolderError, match="can't be read"):
            load_references(tmp_path)
