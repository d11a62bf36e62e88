"""Benchmarks: the right labels and records, and rows that can be trusted."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import BENCHMARKS, SPLITS, BenchmarkData, get_benchmark, list_benchmarks
from ecg_hf.evaluation.heads.linear import LinearProbe
from ecg_hf.evaluation.rows import score_embeddings
from ecg_hf.metrics.bootstrap import bootstrap_auroc

CODES = ("NORM", "AFIB", "LVH", "CLBBB")
SYNTHETIC = get_benchmark("synthetic-findings")


def columns(n: int = 600, seed: int = 0) -> dict[str, list[object]]:
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, n // 2, size=n)
    split = np.array(["train", "train", "train", "validation", "test"])[patients % 5]
    codes = [
        [code for code, p in zip(CODES, (0.5, 0.3, 0.2, 0.05), strict=True) if rng.random() < p]
        for _ in range(n)
    ]
    return {"codes": codes, "split": split.tolist(), "patient_ids": [f"p{i}" for i in patients]}


def data_of(**changed: object) -> BenchmarkData:
    given = columns()
    codes = given.pop("codes")
    return BenchmarkData.from_columns(SYNTHETIC, codes, **{**given, **changed})  # type: ignore[arg-type]


def embeddings(data: BenchmarkData, strength: float, seed: int = 0) -> np.ndarray:
    """Features in which the labels are visible to the degree of ``strength``."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(data.labels.shape[1], 12))
    return (strength * data.labels @ directions + rng.normal(size=(len(data.labels), 12))).astype(np.float32)


def test_registry() -> None:
    assert list(BENCHMARKS) == [
        "ptbxl-super", "ptbxl-sub", "ptbxl-form", "ptbxl-rhythm", "ptbxl-diag", "ptbxl-all", "cpsc2018", "csn",
        "cpsc-extra", "georgia", "chapman", "ningbo", "challenge2021", "ludb-rhythm", "ludb-conduction",
        "ludb-hypertrophy", "ludb-delineation", "ludb-measurements", "synthetic-findings",
    ]  # fmt: skip
    sizes = {b.name: len(b.class_names) for b in list_benchmarks()}
    assert sizes["ptbxl-super"] == 5
    assert sizes["ptbxl-sub"] == 23
    assert sizes["ptbxl-form"] == 19
    assert sizes["ptbxl-rhythm"] == 12
    assert sizes["ptbxl-diag"] == 44
    assert sizes["ptbxl-all"] == 71
    for benchmark in list_benchmarks():
        named = benchmark.kind == "multilabel" and benchmark.dataset != "synthetic"
        assert str(sizes[benchmark.name]) in benchmark.description or not named
    with pytest.raises(ConfigurationError, match="ptbxl-super"):
        get_benchmark("imagenet")


def test_folds_define_ptbxl_splits_and_unlabelled_records_are_dropped() -> None:
    benchmark = get_benchmark("ptbxl-super")
    codes = [["NORM"], ["AFIB"], ["IMI", "LVH"], ["NORM"], ["NDT"], ["NORM"]]
    data = BenchmarkData.from_columns(benchmark, codes, folds=[1, 2, 8, 9, 10, 11])
    assert data.split.tolist() == ["train", "", "train", "validation", "test", ""]
    assert data.dropped == {"no split": 1, "no label of the group": 1}
    assert data.labels[2].tolist() == [False, True, False, False, True]
    with pytest.raises(ConfigurationError, match="folds"):
        BenchmarkData.from_columns(benchmark, codes, split=["train"] * 6)


def test_synthetic_keeps_only_classes_that_occur() -> None:
    data = data_of()
    assert set(data.class_names) == set(CODES)
    assert data.labels.shape[1] == 4


def test_patient_on_both_sides_is_an_error() -> None:
    given = columns()
    patients = list(given["patient_ids"])
    split = given["split"]
    patients[split.index("test")] = patients[split.index("train")]
    with pytest.raises(ConfigurationError, match="patients of the test split"):
        data_of(patient_ids=patients)
    unknown = [None] * len(patients)
    assert data_of(patient_ids=unknown).patient_ids is not None


def test_column_of_wrong_length_and_empty_split() -> None:
    with pytest.raises(ConfigurationError, match="split"):
        data_of(split=["train"])
    with pytest.raises(ConfigurationError, match="test split"):
        data_of(split=["train" if i % 2 else "validation" for i in range(600)], patient_ids=None)


def parts(data: BenchmarkData, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(x[rows], data.labels[rows]) for rows in map(data.rows, SPLITS)]


def test_scored_embeddings_are_what_their_parts_say() -> None:
    data = data_of()
    x = embeddings(data, 1.0)
    train, validation, test = parts(data, x)
    patients = [data.patient_ids[i] for i in data.rows("test")]
    row = score_embeddings(
        train, validation, test, class_names=data.class_names, patients=patients, n_resamples=200, seed=4
    )
    assert row["positives"] == dict(zip(data.class_names, test[1].sum(axis=0).tolist(), strict=True))
    assert (row["n_train"], row["n_test"], row["resampled"]) == (len(train[1]), len(test[1]), "patients")
    scores = LinearProbe().fit(*train, *validation).decision_function(test[0])
    interval = bootstrap_auroc(test[1], scores, groups=patients, n_resamples=200, seed=4)
    assert row["macro_auroc"] == pytest.approx(interval.macro.estimate)
    assert row["ci95"] == interval.macro.limits
    assert row["classes"][0]["train_positives"] == train[1][:, 0].sum()
    assert row == score_embeddings(
        train, validation, test, class_names=data.class_names, patients=patients, n_resamples=200, seed=4
    )
    weak = score_embeddings(*parts(data, embeddings(data, 0.25)), n_resamples=20)
    assert weak["macro_auroc"] < row["macro_auroc"]
    one = score_embeddings(train, None, test, head=LinearProbe(c_grid=(1.0,)), n_resamples=20)
    assert one["macro_auroc"] > 0.6


def test_class_never_seen_is_left_out_and_said() -> None:
    data = data_of()
    rare = data.class_names.index("CLBBB")
    data.labels[data.rows("train"), rare] = False
    row = score_embeddings(*parts(data, embeddings(data, 1.0)), class_names=data.class_names, n_resamples=50)
    assert row["undefined"] == ["CLBBB"]
    one = next(c for c in row["classes"] if c["name"] == "CLBBB")
    assert one["auroc"] is None
    assert "no positive record" in one["excluded"]
    assert one["positives"] > 0
    others = [c["auroc"] for c in row["classes"] if c["name"] != "CLBBB"]
    assert row["macro_auroc"] == pytest.approx(np.mean(others))
    assert row["macro_auroc_unlearnt_at_chance"] == pytest.approx(np.mean([*others, 0.5]))


def test_shuffled_labels_score_at_chance() -> None:
    data = data_of()
    x = embeddings(data, 1.0)
    train = data.rows("train")
    data.labels[train] = np.random.default_rng(0).permutation(data.labels[train])
    assert 0.35 < score_embeddings(*parts(data, x), n_resamples=20)["macro_auroc"] < 0.65


def test_embeddings_must_fit() -> None:
    train, validation, test = parts(data_of(), np.zeros((600, 2)))
    for bad in (np.zeros((3, 2)), np.zeros(len(train[1])), np.full((len(train[1]), 2), np.nan)):
        with pytest.raises(ConfigurationError):
            score_embeddings((bad, train[1]), validation, test)
    with pytest.raises(ConfigurationError, match="names"):
        score_embeddings(train, validation, test, class_names=["a"])


def test_from_dataset() -> None:
    given = columns(60)
    table = datasets.Dataset.from_dict(
        {
            "labels": given["codes"],
            "split": given["split"],
            "patient_id": given["patient_ids"],
            "fold": [-1] * 60,
        }
    )
    data = BenchmarkData.from_dataset(SYNTHETIC, table)
    expected = BenchmarkData.from_columns(
        SYNTHETIC, given["codes"], split=given["split"], patient_ids=given["patient_ids"]
    )
    np.testing.assert_array_equal(data.labels, expected.labels)
    assert data.patient_ids == expected.patient_ids
    nobody = table.remove_columns("patient_id").add_column("patient_id", [None] * 60)
    assert BenchmarkData.from_dataset(SYNTHETIC, nobody).patient_ids is None
    with pytest.raises(ConfigurationError, match="labels"):
        BenchmarkData.from_dataset(SYNTHETIC, table.remove_columns("labels"))


@pytest.mark.fixtures
def test_merl_test_positives_follow_from_ptbxl(
    ptbxl_labels: list[dict[str, str]], shared_fixtures: Path
) -> None:
    """Counts of the official folds against the published label files."""
    import json

    index = json.loads((shared_fixtures / "merl" / "benchmark_index.json").read_text())["ptbxl_super_class"]
    import ast

    rows = ptbxl_labels

    data = BenchmarkData.from_columns(
        get_benchmark("ptbxl-super"),
        [list(ast.literal_eval(row["scp_codes"])) for row in rows],
        folds=[int(row["strat_fold"]) for row in rows],
        patient_ids=[row["patient_id"] for row in rows],
    )
    for split, key in (("train", "train"), ("validation", "val"), ("test", "test")):
        chosen = data.labels[data.rows(split)]
        assert len(chosen) == index["splits"][key]["rows"]
        positives = dict(zip(data.class_names, chosen.sum(axis=0).tolist(), strict=True))
        assert positives == index["splits"][key]["positives"]
