"""``ecg-hf evaluate`` and ``ecg-hf compare`` as a user meets them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ecg_hf.evaluation.results import read_results

from .conftest import Cli

BENCHMARK = "synthetic-findings"
QUICK = ("--resamples", "20", "--device", "cpu", "--no-figures")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, process: Cli) -> Path:
    """A dataset in which some findings can be learnt."""
    folder = tmp_path_factory.mktemp("evaluate") / "data"
    outcome = process("data", "build", "synthetic", "--output", folder, "-o", "records=150")
    assert outcome.returncode == 0, outcome.stderr
    return folder


@pytest.fixture
def evaluate(cli: Cli, pretrained: Path, corpus: Path) -> Any:
    """The command on the synthetic benchmark."""

    def run(output: Path, *arguments: object, model: Path = pretrained) -> Any:
        return cli(
            *(
                "evaluate",
                "--model",
                model,
                "--benchmark",
                BENCHMARK,
                "--dataset",
                corpus,
                "--output",
                output,
            ),
            *QUICK,
            *arguments,
        )

    return run


@pytest.mark.slow
def test_linear_with_controls_then_compared(
    evaluate: Any, cli: Cli, pretrained: Path, tmp_path: Path
) -> None:
    outcome = evaluate(tmp_path / "a", "--controls", "random,handmade", "--fraction", "1.0", "--json")
    assert outcome.returncode == 0, outcome.stderr
    results = json.loads(outcome.stdout)
    assert results == json.loads((tmp_path / "a" / "results.json").read_text())
    assert [row["encoder"] for row in results["probe"]] == ["pretrained", "untrained", "handmade"]
    assert {row["second"] for row in results["paired"]} == {"untrained", "handmade"}
    assert results["leaks"][BENCHMARK]["shared_patients"] == []
    again = evaluate(tmp_path / "a", "--controls", "random,handmade", "--fraction", "1.0")
    assert "0 cells computed" in again.stderr
    assert "| handmade | linear | 100 %" in again.stdout

    other = tmp_path / "other"
    shutil.copytree(pretrained, other, ignore=shutil.ignore_patterns("checkpoint-*"))
    settings = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps({**settings, "clip": 1.0}))
    assert evaluate(tmp_path / "b", "--controls", "none", "--fraction", "1.0", model=other).returncode == 0
    files = [tmp_path / name / "results.json" for name in ("a", "b")]
    compared = cli("compare", *files, "--json")
    assert compared.returncode == 0, compared.stderr
    (row,) = json.loads(compared.stdout)
    assert row["difference"] == pytest.approx(row["first"] - row["second"])
    assert "First minus second" in cli("compare", *files).stdout
    shutil.rmtree(tmp_path / "b" / "scores")
    missing = cli("compare", *files)
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1


@pytest.mark.slow
def test_heads_beyond_frozen_vectors(evaluate: Any, tmp_path: Path) -> None:
    for head, more in (
        ("zero-shot", ()),
        ("retrieval", ()),
        ("finetune", ("--fraction", "1.0", "--head-option", "epochs=1", "--controls", "none")),
    ):
        outcome = evaluate(tmp_path, "--head", head, "--json", *more)
        assert outcome.returncode == 0, outcome.stderr
        results = json.loads(outcome.stdout)
        if head == "retrieval":
            assert [report["encoder"] for report in results["reports"]] == ["pretrained", "untrained"]
            assert results["reports"][0]["figures"]["ecg_to_text"]["recall_at_1"]["chance"] > 0
            continue
        row = results["probe"][0]
        assert (row["head"], row["fraction"]) == (head, 0.0 if head == "zero-shot" else 1.0)
        assert 0 <= row["macro_auroc"] <= 1
    assert not list((tmp_path / "work").glob("*"))
    read_results(tmp_path / "results.json")


@pytest.mark.slow
def test_curves_over_poorer_recordings(evaluate: Any, tmp_path: Path) -> None:
    arguments = ("--controls", "untrained", "--fraction", "1.0", "--lead-curve", "--rate-curve")
    outcome = evaluate(tmp_path, *arguments)
    assert outcome.returncode == 0, outcome.stderr
    results = read_results(tmp_path / "results.json")
    whole = {row["encoder"]: row["macro_auroc"] for row in results["probe"]}
    found = {(one["axis"], one["encoder"]): one["points"] for one in results["curves"]}
    assert set(found) == {(axis, who) for axis in ("leads", "rate") for who in ("pretrained", "untrained")}
    for (_, who), points in found.items():
        assert points[0]["macro_auroc"] == pytest.approx(whole[who])
    assert [point["condition"] for point in found["leads", "untrained"]] == ["12", "6", "3", "2", "1"]
    assert found["rate", "untrained"][0]["condition"].endswith(" Hz")
    assert "fewer leads" in outcome.stdout
    cells = sorted((tmp_path / "cells").iterdir())
    assert evaluate(tmp_path, *arguments).returncode == 0
    assert sorted((tmp_path / "cells").iterdir()) == cells


@pytest.mark.slow
def test_killed_and_continued(pretrained: Path, corpus: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "ecg_hf.cli", "evaluate", "--model", pretrained, "--benchmark", BENCHMARK),
        *("--dataset", corpus, "--output", tmp_path / "out", *QUICK, "--fraction", "0.5,1.0"),
        *("--controls", "random,supervised", "--control-option", "supervised.width=8"),
        *("--control-option", "supervised.epochs=3"),
    ]
    first = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cells = tmp_path / "out" / "cells"
    deadline = time.monotonic() + 240
    try:
        while len(list(cells.glob("*.json"))) < 2:
            assert time.monotonic() < deadline
            assert first.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    assert not (tmp_path / "out" / "results.json").exists()
    finished = {file: file.stat().st_mtime_ns for file in cells.glob("*.json")}
    assert len(finished) < 6
    second = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert f"{6 - len(finished)} cells computed, {len(finished)} found" in second.stderr
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    whole = [*command]
    whole[whole.index(tmp_path / "out")] = tmp_path / "whole"
    subprocess.run(list(map(str, whole)), capture_output=True, check=True)
    rows = [read_results(tmp_path / name / "results.json")["probe"] for name in ("out", "whole")]
    assert rows[0] == rows[1]


@pytest.mark.slow
@pytest.mark.realdata
def test_real_recordings_built_once(cli: Cli, pretrained: Path, recordings: Path, tmp_path: Path) -> None:
    arguments = (
        *(
            "evaluate",
            "--model",
            pretrained,
            "--benchmark",
            "ptbxl-super,ptbxl-form",
            "--output",
            tmp_path / "out",
        ),
        *(
            "--data-dir",
            recordings / "ptbxl",
            "-o",
            "train_folds=1-8",
            "-o",
            "validation_folds=9",
            "-o",
            "test_folds=10",
        ),
        *("--train-folds", "1-8", "--validation-folds", "9", "--test-folds", "10", "--fraction", "1.0"),
        *("--controls", "untrained", *QUICK),
    )
    outcome = cli(*arguments)
    assert outcome.returncode == 0, outcome.stderr
    results = read_results(tmp_path / "out" / "results.json")
    assert [(row["benchmark"], row["encoder"]) for row in results["probe"]] == [
        (benchmark, encoder)
        for benchmark in ("ptbxl-super", "ptbxl-form")
        for encoder in ("pretrained", "untrained")
    ]
    assert results["published"] == []
    # Both benchmarks read the same features.
    assert len(list((tmp_path / "out" / "features").glob("*.safetensors"))) == 2
    built = (tmp_path / "out" / "data" / "ptbxl" / "state.json").stat().st_mtime_ns
    assert cli(*arguments).returncode == 0
    assert (tmp_path / "out" / "data" / "ptbxl" / "state.json").stat().st_mtime_ns == built


WRONG = {
    "benchmark": (("--benchmark", "imagenet"), "no benchmark 'imagenet'"),
    "twice": (("--benchmark", f"{BENCHMARK},{BENCHMARK}"), "different names"),
    "protocol": (("--protocol", "mine"), "no protocol 'mine'"),
    "misfit": (("--protocol", "merl"), "published tables"),
    "head": (("--head", "quantum"), "head must be"),
    "ludb": (("--benchmark", "ludb-delineation"), "no benchmark for --head linear"),
    "fraction": (("--fraction", "0.1,x"), "--fraction takes numbers"),
    "share": (("--fraction", "2"), "must lie in (0, 1]"),
    "control": (("--controls", "oracle"), "no control 'oracle'"),
    "control option": (
        ("--control-option", "minirocket.kernels=3", "--controls", "untrained"),
        "--control-option",
    ),
    "setting": (("--controls", "handmade", "--control-option", "handmade.colour=1"), "handmade"),
    "head option": (("--head-option", "colour=1"), "no option 'colour'"),
    "folds": (("--train-folds", "7-1"), "folds must look like"),
    "source": (("--benchmark", "ptbxl-super"), "no recordings of ptbxl"),
    "prompts": (("--head", "zero-shot", "--prompts", "merl"), "--tables"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_leaves_nothing(evaluate: Any, tmp_path: Path, case: str) -> None:
    arguments, message = WRONG[case]
    outcome = evaluate(tmp_path / "out", *arguments)
    assert outcome.returncode == 2
    lines = [line for line in outcome.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_there_must_be_a_card_to_update(evaluate: Any, pretrained: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(pretrained, bare, ignore=shutil.ignore_patterns("checkpoint-*", "README.md"))
    outcome = evaluate(tmp_path / "out", "--update-card", model=bare)
    assert outcome.returncode == 2
    assert "with a card" in outcome.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_no_model(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    outcome = cli(
        "evaluate",
        "--model",
        tmp_path,
        "--benchmark",
        BENCHMARK,
        "--dataset",
        corpus,
        "--output",
        tmp_path / "o",
    )
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("error:")
    assert outcome.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_compare_refuses_what_is_no_evaluation(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    outcome = cli("compare", tmp_path / "x.json", tmp_path / "y.json")
    assert outcome.returncode == 2
    assert outcome.stderr.count("\n") == 1


OWN = ("evaluate", "--model", "ecg-beat-ptbxl")


@pytest.mark.slow
def test_own_labels_in_a_column_that_was_added(
    cli: Cli, pretrained: Path, corpus: Path, tmp_path: Path
) -> None:
    from ecg_hf.data.opening import open_rows

    rows = open_rows(corpus)
    rows.add_column("mine", [row % 3 == 0 for row in range(len(rows))]).save_to_disk(tmp_path / "mine")
    arguments = ("--dataset", tmp_path / "mine", "--labels", "mine", "--controls", "handmade", *QUICK)
    outcome = cli(
        *OWN, "--model", pretrained, *arguments, "--output", tmp_path / "out", "--json", "--num-proc", 2
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "[2/2]" in outcome.stderr
    results = json.loads(outcome.stdout)
    assert [row["encoder"] for row in results["summary"]] == ["ecg-beat-ptbxl", pretrained.name, "handmade"]
    assert {row["fraction"] for row in results["summary"]} == {1.0}
    again = cli(*OWN, "--model", pretrained, *arguments, "--output", tmp_path / "out")
    assert "0 cells computed" in again.stderr
    assert "| handmade | linear | 100 %" in again.stdout


@pytest.mark.slow
def test_several_models_in_processes_have_the_numbers_of_one(
    cli: Cli, pretrained: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pretrained, "twin", ignore=shutil.ignore_patterns("checkpoint-*"))
    # Two models of the same weights and two of the same untrained ones: each made once.
    models = ("--model", pretrained, "--model", "ecg-beat-ptbxl", "--model", "twin")
    asked = ("evaluate", *models, "--benchmark", BENCHMARK, "--dataset", corpus, "--fraction", "1.0", *QUICK)
    torch.set_num_threads(1)
    try:
        one = cli(*asked, "--output", "one", "--json")
        two = cli(*asked, "--output", "two", "--num-proc", "2", "--json")
    finally:
        torch.set_num_threads(threads)
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert "[4/4]" in two.stderr
    assert "5 cells computed" in two.stderr
    first, second = ({**json.loads(outcome.stdout), "timings": None} for outcome in (one, two))
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--labels", "labels"), "one --dataset"),
        (("--labels", "labels", "--benchmark", BENCHMARK, "--dataset", "{corpus}"), "either --benchmark"),
        (("--dataset", "{corpus}"), "either --benchmark"),
        (("--labels", "absent", "--dataset", "{corpus}"), "no column 'absent'"),
        (("--labels", "labels", "--dataset", "{corpus}", "--model", "ecg-beat-ptbxl"), "a model twice"),
        (("--labels", "labels", "--dataset", "{corpus}", "--model", "{empty}"), "config.json"),
        (("--labels", "labels", "--dataset", "{empty}"), "empty"),
        (
            ("--labels", "labels", "--dataset", "{corpus}", "--model", "ecg-distil-ptbxl", "--update-card"),
            "one model",
        ),
        (
            ("--model", "ecg-distil-ptbxl", "--benchmark", "ludb-delineation", "--head", "delineation"),
            "one --model",
        ),
    ],
)
def test_mistakes_with_own_labels_are_one_line(
    cli: Cli, corpus: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    filled = [one.format(corpus=corpus, empty=empty) for one in arguments]
    outcome = cli(*OWN, *filled, "--output", tmp_path / "out", *QUICK)
    assert outcome.returncode == 2
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("error:")]
    assert message in line
    assert not (tmp_path / "out").exists()


def test_a_folder_of_recordings_with_its_table_is_built_first(record: Path, tmp_path: Path) -> None:
    from ecg_hf.cli.evaluate_recordings import Build, own_recordings

    folder = tmp_path / "mine"
    folder.mkdir()
    for suffix in (".hea", ".dat"):
        shutil.copy(record.with_suffix(suffix), folder)
    (folder / "labels.csv").write_text("id,patient,split,label\none,p,test,AF;LBBB\n")
    said: list[str] = []
    for given in (([], [folder]), ([str(folder)], []), ([f"folder={folder}"], [])):
        own, recordings = own_recordings("labels", *given, Build(tmp_path / "out", say=said.append))
        assert (own.name, own.dataset, recordings.source) == ("own-labels", "folder", "folder")
        assert recordings.dataset["labels"][:] == [["AF", "LBBB"]]
    assert (tmp_path / "out" / "data" / "folder").is_dir()


def test_models_are_called_by_their_last_names_unless_these_are_equal() -> None:
    from ecg_hf.cli.evaluate import _model_names

    assert _model_names(["runs/a"]) == ["pretrained"]
    assert _model_names(["runs/a", "b"]) == ["a", "b"]
    assert _model_names(["runs/a", "more/a", "handmade"]) == ["runs/a", "more/a", "./handmade"]
