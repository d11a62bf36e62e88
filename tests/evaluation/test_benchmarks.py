"""Benchmarks: the right labels and records, and rows that can be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.attention_probe import AttentionProbe
from ecg_hf.evaluation.benchmarks import (
    BENCHMARKS,
    BenchmarkData,
    get_benchmark,
    list_benchmarks,
    run_probe_benchmark,
)
from ecg_hf.evaluation.bootstrap import bootstrap_auroc, paired_bootstrap
from ecg_hf.evaluation.results import Results, read_results, validate_results, write_results
from ecg_hf.evaluation.tables import results_table
from ecg_hf.evaluation.token_store import TokenFeatures

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


def test_rows_are_what_their_parts_say(tmp_path: Path) -> None:
    data = data_of()
    report = run_probe_benchmark(
        SYNTHETIC,
        {"pretrained": embeddings(data, 1.0), "untrained": embeddings(data, 0.25)},
        data,
        n_resamples=200,
        seed=4,
    )
    assert [(r["encoder"], r["fraction"]) for r in report.rows] == [
        (e, f) for f in (0.01, 0.1, 1.0) for e in ("pretrained", "untrained")
    ]
    n_train = len(data.rows("train"))
    assert [r["n_train"] for r in report.rows[::2]] == [max(1, int(f * n_train)) for f in (0.01, 0.1, 1.0)]
    test = data.rows("test")
    truth = data.labels[test]
    patients = [data.patient_ids[i] for i in test]
    best, control = report.rows[-2:]
    assert best["positives"] == dict(zip(data.class_names, truth.sum(axis=0).tolist(), strict=True))
    assert best["n_test"] == len(test)
    assert best["resampled"] == "patients"
    scores = report.scores["pretrained", 1.0]
    interval = bootstrap_auroc(truth, scores, groups=patients, n_resamples=200, seed=4)
    assert best["macro_auroc"] == pytest.approx(interval.macro.estimate)
    assert best["ci95"] == interval.macro.limits
    assert best["macro_auroc"] > control["macro_auroc"]
    pair = paired_bootstrap(
        truth, scores, report.scores["untrained", 1.0], groups=patients, n_resamples=200, seed=4
    )
    assert report.paired[-1]["difference"] == pytest.approx(best["macro_auroc"] - control["macro_auroc"])
    assert report.paired[-1]["ci95"] == pair.difference.limits
    assert best["classes"][0]["train_positives"] == data.labels[data.rows("train")][:, 0].sum()

    results = Results(
        dataset="synthetic", probe=report.rows, zero_shot=None, timings={}, paired=report.paired
    )
    write_results(tmp_path / "results.json", validate_results(results))
    assert read_results(tmp_path / "results.json") == results


def tokens(data: BenchmarkData, strength: float, seed: int = 0) -> TokenFeatures:
    """The embedding of each record at one random place among 5 tokens of noise."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(len(data.labels), 5, 12)).astype(np.float32)
    place = rng.integers(0, 5, size=len(values))
    values[np.arange(len(values)), place] += embeddings(data, strength, seed)
    return TokenFeatures(values)


def test_attention_head_gives_the_same_kind_of_rows() -> None:
    data = data_of()
    frozen = {"pretrained": tokens(data, 3.0), "untrained": tokens(data, 0.3)}
    settings = AttentionProbe(epochs=8, learning_rate=1e-2, num_heads=2, seed=99)
    report = run_probe_benchmark(
        SYNTHETIC, frozen, data, head="attention", attention=settings, fractions=(0.001, 0.5, 1.0),
        n_resamples=100, seed=4,
    )  # fmt: skip
    linear = run_probe_benchmark(
        SYNTHETIC, {"pretrained": embeddings(data, 1.0)}, data, fractions=(1.0,), n_resamples=20
    )
    assert [row["head"] for row in report.rows] == ["attention"] * 6
    assert linear.rows[0]["head"] == "linear"
    assert report.rows[0]["macro_auroc"] is None, "one record"
    best, control = report.rows[-2:]
    assert set(linear.rows[0]) - set(best) == {"c", "c_at_edge", "converged"}
    assert set(best) - set(linear.rows[0]) == {"epoch", "epochs"}
    assert (best["epochs"], best["n_train"]) == (8, len(data.rows("train")))
    assert best["macro_auroc"] > control["macro_auroc"] + 0.1
    train, validation, test = (data.rows(name) for name in ("train", "validation", "test"))
    # The head's seed is the run's, whatever the settings say.
    alone = AttentionProbe(epochs=8, learning_rate=1e-2, num_heads=2, seed=4).fit(
        frozen["pretrained"].select(train), data.labels[train],
        frozen["pretrained"].select(validation), data.labels[validation],
    )  # fmt: skip
    scores = alone.decision_function(frozen["pretrained"].select(test))
    np.testing.assert_array_equal(report.scores["pretrained", 1.0], scores)
    assert best["epoch"] == alone.epoch
    patients = [data.patient_ids[i] for i in test]
    pair = paired_bootstrap(
        data.labels[test], scores, report.scores["untrained", 1.0], groups=patients, n_resamples=100, seed=4
    )
    assert report.paired[-1]["ci95"] == pair.difference.limits
    assert report.paired[-1]["head"] == "attention"

    results = Results(dataset="x", probe=[*report.rows, *linear.rows], paired=report.paired, timings={})
    table = results_table(validate_results(results))
    assert [row[0] for row in table.rows] == ["attention probe, seed 4"] * 6 + ["linear probe, seed 0"]
    assert [bool(row[-1]) for row in table.rows] == [False, False, True, False, True, False, False]


def test_features_must_fit_the_head() -> None:
    data = data_of()
    with pytest.raises(ConfigurationError, match="pooled embeddings"):
        run_probe_benchmark(SYNTHETIC, {"a": tokens(data, 1.0)}, data)
    with pytest.raises(ConfigurationError, match="tokens must be"):
        run_probe_benchmark(SYNTHETIC, {"a": embeddings(data, 1.0)}, data, head="attention")
    with pytest.raises(ConfigurationError, match="of 600 records, got 2"):
        run_probe_benchmark(SYNTHETIC, {"a": tokens(data, 1.0).select([0, 1])}, data, head="attention")
    with pytest.raises(ConfigurationError, match="head must be"):
        run_probe_benchmark(SYNTHETIC, {"a": tokens(data, 1.0)}, data, head="mlp")  # type: ignore[arg-type]


def test_class_never_seen_is_left_out_and_said() -> None:
    data = data_of()
    train = data.rows("train")
    rare = data.class_names.index("CLBBB")
    data.labels[train, rare] = False
    report = run_probe_benchmark(
        SYNTHETIC,
        {"a": embeddings(data, 1.0), "b": embeddings(data, 0.5)},
        data,
        fractions=(1.0,),
        n_resamples=50,
    )
    row = report.rows[0]
    assert row["undefined"] == ["CLBBB"]
    one = next(c for c in row["classes"] if c["name"] == "CLBBB")
    assert one["auroc"] is None
    assert "no positive record" in one["excluded"]
    assert one["positives"] > 0
    others = [c["auroc"] for c in row["classes"] if c["name"] != "CLBBB"]
    assert row["macro_auroc"] == pytest.approx(np.mean(others))
    assert row["macro_auroc_unlearnt_at_chance"] == pytest.approx(np.mean([*others, 0.5]))


def test_fraction_too_small_gives_a_row_without_a_score() -> None:
    data = data_of()
    report = run_probe_benchmark(
        SYNTHETIC, {"a": embeddings(data, 1.0)}, data, fractions=(0.001, 1.0), n_resamples=20
    )
    small, whole = report.rows
    assert small["n_train"] == 1
    assert small["macro_auroc"] is None
    assert small["ci95"] == [None, None]
    assert set(small["undefined"]) == set(CODES)
    assert "too few" in small["classes"][0]["excluded"]
    assert whole["macro_auroc"] > 0.5
    validate_results({"dataset": "x", "probe": report.rows, "zero_shot": None, "timings": {}})


def test_deterministic_by_seed() -> None:
    data = data_of()
    one, two, other = (
        run_probe_benchmark(
            SYNTHETIC, {"a": embeddings(data, 0.5)}, data, fractions=(0.1,), n_resamples=30, seed=seed
        ).rows
        for seed in (0, 0, 1)
    )
    assert one == two
    assert one[0]["macro_auroc"] != other[0]["macro_auroc"]


def test_shuffled_labels_score_at_chance() -> None:
    data = data_of()
    x = embeddings(data, 1.0)
    train = data.rows("train")
    data.labels[train] = np.random.default_rng(0).permutation(data.labels[train])
    row = run_probe_benchmark(SYNTHETIC, {"a": x}, data, fractions=(1.0,), n_resamples=20).rows[0]
    assert 0.35 < row["macro_auroc"] < 0.65


@pytest.mark.parametrize("bad", [{}, {"a": np.zeros((3, 2))}, {"a": np.zeros(600)}])
def test_embeddings_must_fit(bad: dict[str, np.ndarray]) -> None:
    with pytest.raises(ConfigurationError):
        run_probe_benchmark(SYNTHETIC, bad, data_of())


def test_from_dataset() -> None:
    datasets = pytest.importorskip("datasets")
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


@pytest.mark.realdata
def test_merl_test_positives_follow_from_ptbxl(real_data: Path, shared_fixtures: Path) -> None:
    """Counts of the official folds, on the recordings that are there, against the published label files."""
    import csv
    import json

    database = real_data / "ptbxl" / "ptbxl_database.csv"
    if not database.is_file():
        pytest.skip("no PTB-XL among the recordings")
    index = json.loads((shared_fixtures / "merl" / "benchmark_index.json").read_text())["ptbxl_super_class"]
    with database.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if len(rows) < 21_000:
        pytest.skip("the metadata is not the whole of PTB-XL")
    import ast

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
