"""Several models on labels of one's own: one reading of columns and splits, one model in memory, one table."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from ecg_hf.data import build_dataset, load_built
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import BENCHMARKS, own_benchmark
from ecg_hf.evaluation.evaluate import Evaluation, LoadedModel, evaluate_model
from ecg_hf.evaluation.figures import plot_results
from ecg_hf.evaluation.plan import EvaluationPlan
from ecg_hf.evaluation.prepare import Recordings, prepare_benchmark
from ecg_hf.evaluation.protocols import get_protocol
from ecg_hf.evaluation.report import write_evaluation
from ecg_hf.evaluation.results import read_results
from ecg_hf.evaluation.tables import evaluation_markdown
from ecg_hf.models.registry import get_method
from ecg_hf.training.finetuning_data import FineTuningData, Task

from ..plotting.test_plotting import overlaps

COLUMN = "sick, or not?"
PLAN = EvaluationPlan(protocol=get_protocol("merl-exact"), fractions=(1.0,), n_resamples=20)
NAMES = ("first-model-with-a-rather-long-name", "second", "third", "fourth", "fifth")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Synthetic recordings with a column of one's own, null where nothing is known."""
    folder = tmp_path_factory.mktemp("own") / "data"
    build_dataset("synthetic", None, folder, records=120, seed=5, sampling_rate=100, progress=False)
    built = load_built(folder)
    values = [None if row % 10 == 0 else "yes" if row % 3 == 0 else "no" for row in range(len(built))]
    return built.add_column(COLUMN, values)


def micro(method: str, seed: int, name: str = "pretrained") -> LoadedModel:
    import torch

    spec = get_method(method)
    torch.manual_seed(100 + seed)  # not those of untrained copies
    config = spec.load("config").preset("micro")
    return LoadedModel(
        f"folder/{name}", spec.load("model")(config).eval(), spec.feature_extractor_for(config), name=name
    )


def evaluate(folder: Path, rows: Dataset, models: Any, **options: Any) -> Evaluation:
    own = own_benchmark(COLUMN, "synthetic")
    return evaluate_model(
        PLAN,
        models,
        [own],
        {own.name: Recordings(rows, "synthetic")},
        folder,
        say=lambda line: None,
        **options,
    )


def test_names_of_own_benchmarks_are_files_and_nobody_elses() -> None:
    assert own_benchmark(COLUMN, "x").name == "own-sick-or-not"
    assert own_benchmark("../a/b", "x").name == "own-a-b"
    assert own_benchmark("心", "x").name == "own-labels"
    assert not any(name.startswith("own-") for name in BENCHMARKS)


def test_labels_and_splits_are_those_of_fine_tuning(rows: Dataset) -> None:
    own = own_benchmark(COLUMN, "synthetic")
    data = prepare_benchmark(own, "merl-exact", rows)
    tuned = FineTuningData.of(rows, Task(COLUMN))
    assert data.class_names == ("no", "yes")
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(data.rows(split), tuned.rows[split])
        np.testing.assert_array_equal(data.labels[data.rows(split)], tuned.labels.matrix(tuned.rows[split]))
    assert data.dropped == {"without a label (null)": 12}
    assert any("12 records left out" in note for note in data.notes)
    drawn = prepare_benchmark(own, "merl-exact", rows, train_folds="1-8", test_folds="9,10")
    assert any("were drawn for it" in note for note in drawn.notes)
    assert len(drawn.rows("validation"))
    with pytest.raises(ConfigurationError, match="no column 'absent'"):
        prepare_benchmark(own_benchmark("absent", "synthetic"), "merl-exact", rows)
    with pytest.raises(ConfigurationError, match="test split holds no labelled record"):
        prepare_benchmark(own, "merl-exact", rows, train_folds="1-8", validation_folds="9")
    with pytest.raises(ConfigurationError, match="published tables"):
        prepare_benchmark(own, "merl", rows)


@pytest.mark.slow
def test_several_models_one_after_the_other_in_one_table(rows: Dataset, tmp_path: Path) -> None:
    alive: list[Any] = []

    def load_each() -> Iterator[LoadedModel]:
        for seed, name in enumerate(NAMES):
            gc.collect()
            # The first stays for the figures; of the others none is left when the next is loaded.
            assert sum(one() is not None for one in alive[1:]) == 0
            loaded = micro("ecg-jepa" if seed % 2 else "simclr", seed, name)
            alive.append(weakref.ref(loaded.model))
            yield loaded
            del loaded

    found = evaluate(tmp_path, rows, load_each(), controls=("untrained", "handmade"))
    results = found.results
    order = [encoder for name in NAMES for encoder in (name, f"{name}, untrained")]
    assert [row["encoder"] for row in results["summary"]] == [*order, "handmade"]
    assert [(pair["first"], pair["second"]) for pair in results["paired"]] == [
        (NAMES[0], other) for other in (*order[1:], "handmade")
    ]
    assert results["models"] == [{"name": name, "source": f"folder/{name}"} for name in NAMES]
    assert set(results["summary"][0]["positives"]) == {"no", "yes"}
    assert results["published"] == []
    # Untrained copies of one architecture are one encoder, whose features and cell are made once.
    assert found.computed == 5 + 2 + 1
    assert len(list((tmp_path / "features").glob("*.safetensors"))) == 8

    write_evaluation(tmp_path, found)
    read_results(tmp_path / "results.json")
    pictures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {f"own-sick-or-not-{kind}.png" for kind in ("bars", "roc", "reliability", "tsne")} <= pictures
    text = evaluation_markdown(results)
    assert "## Evaluation of 5 models" in text
    assert f"{NAMES[0]} minus this" in text
    assert "| Positives |" in text
    assert "not corrected" in text
    figure = plot_results(results, "own-sick-or-not")
    assert overlaps(figure) == []

    # Alone, a model has the same cell under the usual name.
    alone = evaluate(tmp_path, rows, micro("ecg-jepa", 1), controls=("untrained",))
    assert (alone.computed, alone.reused) == (0, 2)
    assert [row["encoder"] for row in alone.results["summary"]] == ["pretrained", "untrained"]
    assert alone.results["summary"][0]["macro_auroc"] == results["summary"][2]["macro_auroc"]
    assert json.dumps(alone.results)


def test_models_have_different_names(rows: Dataset, tmp_path: Path) -> None:
    one = micro("simclr", 0, "same")
    with pytest.raises(ConfigurationError, match="two models are called same"):
        evaluate(tmp_path, rows, [one, replace(one)])
    with pytest.raises(ConfigurationError, match="no model"):
        evaluate(tmp_path, rows, [])
