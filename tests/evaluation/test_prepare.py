"""One function from benchmark, protocol and dataset to labels, splits and subsets; what it does to signals."""

from __future__ import annotations

import ast
import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import scipy.io

from ecg_hf.data.building import build_dataset, load_built
from ecg_hf.data.label_groups import CHALLENGE_SCORED
from ecg_hf.errors import ConfigurationError
from ecg_hf.evaluation.benchmark_data import BENCHMARKS, get_benchmark, merl_subset
from ecg_hf.evaluation.merl import read_merl_table
from ecg_hf.evaluation.prepare import fraction_subsets, prepare_benchmark
from ecg_hf.evaluation.protocols import (
    DEFAULT_PROTOCOL,
    PROTOCOLS,
    extractor_overrides,
    get_protocol,
    keep_first,
    protocol_signals,
)
from ecg_hf.processing.feature_extraction import EcgFeatureExtractor
from ecg_hf.signal import read_record


def rows(source: str, names: Sequence[str], labels: Sequence[Sequence[str]], folds: Sequence[int]):
    return datasets.Dataset.from_dict(
        {
            "record_id": list(names),
            "patient_id": [f"p{name}" for name in names],
            "labels": [list(codes) for codes in labels],
            "fold": list(folds),
            "split": ["train"] * len(names),
            "source": [source] * len(names),
        }
    )


@pytest.fixture
def tables(merl_tables: Path) -> Path:
    return merl_tables


@pytest.fixture(scope="module")
def whole_ptbxl(ptbxl_labels: list[dict[str, str]]):
    """Metadata of all 21,799 recordings, in an order that is not that of the tables."""
    order = np.random.default_rng(0).permutation(len(ptbxl_labels))
    table = [ptbxl_labels[i] for i in order]
    made = rows(
        "ptbxl",
        [row["ecg_id"] for row in table],
        [list(ast.literal_eval(row["scp_codes"])) for row in table],
        [int(row["strat_fold"]) for row in table],
    )
    patients = [row["patient_id"] for row in table]
    return made.remove_columns("patient_id").add_column("patient_id", patients)


@pytest.mark.fixtures
@pytest.mark.slow
@pytest.mark.parametrize("task", ["super", "sub", "form", "rhythm"])
def test_ptbxl_follows_from_its_own_labels(whole_ptbxl, tables: Path, task: str) -> None:
    """Tables and strat_fold give the same labels, splits and 1 %, 10 % subsets, whatever the order of rows."""
    published = prepare_benchmark(f"ptbxl-{task}", "merl-exact", whole_ptbxl, tables=tables)
    derived = prepare_benchmark(f"ptbxl-{task}", "merl-exact", whole_ptbxl)
    assert published.class_names == derived.class_names
    np.testing.assert_array_equal(published.split, derived.split)
    taking_part = published.split != ""
    np.testing.assert_array_equal(published.labels[taking_part], derived.labels[taking_part])
    assert set(published.missing.values()) == {0}
    train = read_merl_table(tables, f"ptbxl-{task}", "train")
    names = whole_ptbxl["record_id"][:]
    for fraction in (0.01, 0.1, 1.0):
        (a,) = fraction_subsets("merl-exact", published, [fraction], seed=3)
        (b,) = fraction_subsets("merl-exact", derived, [fraction])
        np.testing.assert_array_equal(a.indices, b.indices)
        chosen = {names[row] for row in published.rows("train")[a.indices]}
        assert chosen == {train.record_ids[i] for i in merl_subset(len(train), fraction)}


@pytest.mark.fixtures
@pytest.mark.slow
def test_positional_labels_are_wrong_in_training_records_only(whole_ptbxl, tables: Path) -> None:
    merl = prepare_benchmark("ptbxl-sub", "merl", whole_ptbxl, tables=tables)
    exact = prepare_benchmark("ptbxl-sub", "merl-exact", whole_ptbxl, tables=tables)
    column = [[name.strip("_") for name in exact.class_names].index(name) for name in merl.class_names]
    for split in ("validation", "test"):
        here = merl.rows(split)
        np.testing.assert_array_equal(merl.labels[here], exact.labels[here][:, column])
    train = merl.rows("train")
    wrong = (merl.labels[train] != exact.labels[train][:, column]).any(axis=0)
    assert {n for n, yes in zip(merl.class_names, wrong, strict=True) if yes} == {"ISC", "AVB", "RAO/RAE"}
    with pytest.raises(ConfigurationError, match="give their folder"):
        prepare_benchmark("ptbxl-sub", "merl", whole_ptbxl)


@pytest.mark.fixtures
@pytest.mark.slow
def test_folds_given_and_records_missing(whole_ptbxl, tables: Path) -> None:
    part = whole_ptbxl.filter(lambda fold: fold != 10, input_columns="fold")
    with pytest.raises(ConfigurationError, match="test split holds no"):
        prepare_benchmark("ptbxl-super", "merl-exact", part, tables=tables)
    folds = {"train_folds": "1-7", "validation_folds": "8", "test_folds": "9"}
    with_tables = prepare_benchmark("ptbxl-super", "merl-exact", part, tables=tables, **folds)
    without = prepare_benchmark("ptbxl-super", "merl-exact", part, **folds)
    np.testing.assert_array_equal(with_tables.split, without.split)
    assert len(with_tables.rows("test")) == 2146
    for a, b in zip(fraction_subsets("merl", with_tables), fraction_subsets("merl", without), strict=True):
        np.testing.assert_array_equal(a.indices, b.indices)
    with pytest.raises(ConfigurationError, match="fold 9 is in"):
        prepare_benchmark("ptbxl-super", "merl-exact", part, tables=tables, test_folds="9")


@pytest.mark.fixtures
def test_csn_and_cpsc_by_name(tables: Path) -> None:
    for benchmark, source in (("csn", "csn"), ("csn", "challenge2021"), ("cpsc2018", "cpsc2018")):
        parts = [read_merl_table(tables, benchmark, split) for split in ("train", "validation", "test")]
        kept = [name for part in parts for name in part.record_ids[::2]]
        made = rows(source, [*kept, "X1"], [[]] * (len(kept) + 1), [1] * (len(kept) + 1))
        data = prepare_benchmark(benchmark, "merl-exact", made, tables=tables)
        assert data.dropped == {"not in the published tables": 1}
        sizes = {
            s: len(p) - len(p.record_ids[::2])
            for s, p in zip(("train", "validation", "test"), parts, strict=True)
        }
        assert data.missing == sizes
        assert data.n_published == len(parts[0])
        (subset,) = fraction_subsets("merl-exact", data, [0.1])
        wanted = {parts[0].record_ids[i] for i in merl_subset(len(parts[0]), 0.1)} & set(kept)
        assert {kept[row] for row in data.rows("train")[subset.indices]} == wanted
        assert (
            subset.positives.tolist() == data.labels[data.rows("train")[subset.indices]].sum(axis=0).tolist()
        )
    with pytest.raises(ConfigurationError, match="is about cpsc2018"):
        prepare_benchmark("cpsc2018", "merl", rows("csn", ["A0001"], [[]], [1]), tables=tables)
    with pytest.raises(ConfigurationError, match="download_merl_tables"):
        prepare_benchmark("csn", "merl-exact", rows("csn", ["JS00001"], [[]], [1]))
    with pytest.raises(ConfigurationError, match="no published folds"):
        prepare_benchmark("cpsc2018", "merl", made, tables=tables, train_folds="1-7")


def test_strodthoff_keeps_unlabelled_records_and_jepa_has_no_validation_split() -> None:
    labels = [["NORM"], ["SR"], ["IMI"], ["NORM"], ["SR"], ["NORM"]]
    made = rows("ptbxl", "123456", labels, [1, 2, 9, 9, 10, 10])
    everything = prepare_benchmark("ptbxl-super", "strodthoff", made)
    assert everything.split.tolist() == ["train", "train", "validation", "validation", "test", "test"]
    jepa = prepare_benchmark("ptbxl-super", "jepa", made)
    assert jepa.split.tolist() == ["train", "", "train", "train", "", "test"]
    given = prepare_benchmark("ptbxl-super", "jepa", made, train_folds="1-8", validation_folds="9")
    assert given.split.tolist() == ["train", "", "validation", "validation", "", "test"]
    with pytest.raises(ConfigurationError, match="folds 8, 9, 10"):
        prepare_benchmark(
            "cpsc2018", "jepa", rows("cpsc2018", ["A1", "A2", "A3"], [["NORM"]] * 3, [8, 9, 10])
        )


def test_challenge_sets_are_chosen_by_name() -> None:
    names = ["E00001", "E00002", "E00003", "JS00001", "JS20001", "Q0001"]
    codes = [["164889003"], ["164889003", "1"], ["164889003", "59118001"], ["1"], ["1"], ["1"]]
    made = rows("challenge2021", names, codes, [1, 9, 10, 1, 9, 10])
    data = prepare_benchmark("georgia", DEFAULT_PROTOCOL, made)
    assert data.split.tolist() == ["train", "validation", "test", "", "", ""]
    assert data.class_names == ("AF",)
    assert data.dropped == {"another set": 3}
    for name in ("merl", "merl-test-max"):
        with pytest.raises(ConfigurationError, match="none for georgia"):
            prepare_benchmark("georgia", name, made)
    with pytest.raises(ConfigurationError, match="delineation"):
        prepare_benchmark("ludb-delineation", DEFAULT_PROTOCOL, made)


def test_protocols() -> None:
    assert list(PROTOCOLS) == ["merl", "merl-test-max", "merl-exact", "strodthoff", "jepa"]
    by_test = {p.name for p in PROTOCOLS.values() for s in p.schedules.values() if s.select == "test_max"}
    assert by_test == {"merl-test-max"}
    merl, best = get_protocol("merl"), get_protocol("merl-test-max")
    assert replace(best, name="merl", description=merl.description, schedules=merl.schedules) == merl
    for protocol in PROTOCOLS.values():
        assert all(head == schedule.head for head, schedule in protocol.schedules.items())
    with pytest.raises(ConfigurationError, match="merl-exact"):
        get_protocol("mine")


@pytest.mark.fixtures
def test_scored_diagnoses_of_the_challenge(shared_fixtures: Path) -> None:
    folder = shared_fixtures / "challenge2021"
    with (folder / "scored_diagnoses_2021.csv").open(encoding="utf-8-sig") as file:
        scored = {row["SNOMEDCTCode"]: row["Abbreviation"] for row in csv.DictReader(file)}
    assert scored.keys() == CHALLENGE_SCORED.keys()
    assert all(scored[code] in name.split("|") for code, name in CHALLENGE_SCORED.items())
    header = (folder / "physionet2021_weights.csv").read_text().splitlines()[0].split(",")[1:]
    groups = {frozenset(group.split("|")) for group in header}
    mine: dict[str, set[str]] = {}
    for code, name in CHALLENGE_SCORED.items():
        mine.setdefault(name, set()).add(code)
    assert {frozenset(codes) for codes in mine.values()} == groups
    assert len(groups) == len(get_benchmark("georgia").class_names) == 26


@pytest.mark.fixtures
def test_merl_signals_equal_the_fixture(shared_fixtures: Path) -> None:
    from safetensors.numpy import load_file

    tensors = load_file(shared_fixtures / "merl" / "signal_scaling.safetensors")
    raw, expected = tensors["input.signal_mV_f64"], tensors["out.downstream_minmax_avl_avf_swapped_f32"]
    overrides = extractor_overrides(get_protocol("merl"), get_benchmark("ptbxl-super"))
    extractor = EcgFeatureExtractor(**{**overrides, "duration_s": raw.shape[1] / 500})
    leads = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    made = extractor(raw, sampling_rate=500, lead_names=leads, return_tensors="np")["input_values"][0]
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-6)
    assert extractor_overrides(get_protocol("strodthoff"), get_benchmark("ptbxl-super")) == {}


@pytest.mark.realdata
def test_cpsc_is_cut_and_padded_before_the_scale_is_taken(recordings: Path, tmp_path: Path) -> None:
    """On recordings of PTB-XL in the files of CPSC 2018."""
    (tmp_path / "cpsc").mkdir()
    table = ["Recording,First_label,Second_label,Third_label"]
    for header in sorted((recordings / "ptbxl" / "records500").rglob("*.hea")):
        name = f"A{header.stem[1:5]}"
        signal = read_record(header).signal.astype(np.float64)
        scipy.io.savemat(
            tmp_path / "cpsc" / f"{name}.mat", {"ECG": {"sex": "Male", "age": 5, "data": signal}}
        )
        table.append(f"{name},1,,")
    (tmp_path / "cpsc" / "REFERENCE.csv").write_text("\n".join(table) + "\n")
    build_dataset(
        "cpsc2018", tmp_path / "cpsc", tmp_path / "built", progress=False, train_folds="1-10", validation_folds="",
        test_folds="",
    )  # fmt: skip
    dataset = load_built(tmp_path / "built")
    merl, benchmark = get_protocol("merl"), get_benchmark("cpsc2018")
    cut = protocol_signals(merl, benchmark, dataset)
    assert protocol_signals(get_protocol("merl-exact"), benchmark, dataset) is dataset
    extractor = EcgFeatureExtractor(**extractor_overrides(merl, benchmark))
    for before, after in zip(dataset["ecg"], cut["ecg"], strict=True):
        signal = before["signal"].astype(np.float64)
        np.testing.assert_array_equal(after["signal"], before["signal"][:, :2500])
        whole = np.zeros((12, 5000))
        whole[:, :2500] = signal[:, :2500]
        whole = ((whole - whole.min()) / (whole.max() - whole.min() + 1e-8))[
            [0, 1, 2, 3, 5, 4, *range(6, 12)]
        ]
        made = extractor(after, return_tensors="np")["input_values"][0]
        np.testing.assert_allclose(made, whole, rtol=0, atol=1e-6)
    assert keep_first(dataset, 1e6)["ecg"][0]["signal"].shape == dataset[0]["ecg"]["signal"].shape


def test_every_benchmark_has_labels_or_another_kind() -> None:
    for benchmark in BENCHMARKS.values():
        assert bool(benchmark.class_names) == (benchmark.kind == "multilabel")
