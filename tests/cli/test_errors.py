"""Whatever a user gets wrong: one clear line on standard error, exit code 2, no traceback, nothing left behind."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from ecg_hf.cli.main import main
from ecg_hf.cli.output import echo, print_json, print_table, printable_logs
from ecg_hf.models.registry import METHODS
from ecg_hf.signal import STANDARD_LEADS
from ecg_hf.signal.synthetic import simulate
from tests.cli.conftest import PRETRAIN, Cli, Outcome


def assert_one_line(outcome: Outcome, *words: str) -> None:
    assert outcome.returncode == 2, outcome.stderr
    assert outcome.stdout == ""
    lines = outcome.stderr.splitlines()
    assert len(lines) == 1, outcome.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


def test_in_a_process_of_its_own(process: Cli, tmp_path: Path) -> None:
    outcome = process("pretrain", "--model", "nope", "--dataset", tmp_path, "--output", tmp_path / "out")
    assert_one_line(outcome, "nope", "cg-dmer")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("data", "build", "nope"), ("nope", "synthetic")),
        (("data", "build", "ptbxl"), ("data_dir",)),
        (("data", "build", "ptbxl", "--data-dir", "{empty}"), ("ptbxl_database.csv",)),
        (("data", "build", "ptbxl", "--data-dir", "{missing}"), ("missing",)),
        (("data", "build", "synthetic", "-o", "recrods=3"), ("recrods", "records")),
        (("data", "build", "synthetic", "-o", "records=many"), ("many",)),
        (("data", "build", "synthetic", "-o", "records"), ("NAME=VALUE",)),
        (("data", "build", "synthetic", "--num-proc", "0"), ("num-proc",)),
        (("data", "build", "synthetic", "--shard", "5/4"), ("I/N", "5/4")),
        (("data", "merge", "{missing}"), ("missing", "no such folder")),
        (("data", "merge", "{empty}"), ("empty", "no part")),
    ],
)
def test_impossible_builds(
    arguments: tuple[str, ...], words: tuple[str, ...], cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"empty": tmp_path / "empty", "missing": tmp_path / "missing"}
    outcome = cli(*(argument.format(**places) for argument in arguments), "--output", tmp_path / "out")
    assert_one_line(outcome, *words)
    assert not (tmp_path / "out").exists()


def test_output_folder_that_holds_something_else(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter one")
    outcome = cli("data", "build", "synthetic", "--output", tmp_path, "-o", "records=2", "--overwrite")
    assert_one_line(outcome, str(tmp_path), "something else")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "nope"), ("nope", "cg-dmer")),
        (("--size", "huge"), ("huge", "micro")),
        (("--variant", "nope"), ("nope", "full")),
        (("--recipe", "nope"), ("nope", "cg_dmer_cpu")),
        (("--recipe", "nope.yaml"), ("nope.yaml",)),
        (("--normalization", "nope"), ("nope", "zscore_lead")),
        (("--frobnicate", "3"), ("--frobnicate",)),
        (("--learning-rate", "fast"), ("learning-rate", "fast")),
        (("--lr-scheduler-type", "nope"), ("nope",)),
        (("--max-steps", "many"), ("max-steps",)),
        (("--mask-ratio", "3"), ("mask_ratio",)),
        (("--mask-ratio", "high"), ("mask_ratio",)),
        (("--mask-strategy", "nope"), ("nope",)),
        (("--hidden-size",), ("hidden-size", "needs a value")),
        (("--sampling-weight", "0.5"), ("sampling_weights", "streaming")),
        (("--streaming",), ("Parquet", "ecg-hf data export")),
    ],
)
def test_impossible_pretraining(
    options: tuple[str, ...], words: tuple[str, ...], dataset: Path, cli: Cli, tmp_path: Path
) -> None:
    outcome = cli(*PRETRAIN, "--dataset", dataset, "--output", tmp_path / "out", *options)
    assert_one_line(outcome, *words)
    # What failed before its first step must not be in the way of the corrected command.
    assert not (tmp_path / "out" / "run.json").exists()


def test_pretraining_without_a_dataset(cli: Cli, tmp_path: Path) -> None:
    outcome = cli(*PRETRAIN, "--dataset", tmp_path / "nothing", "--output", tmp_path / "out")
    assert_one_line(outcome, "nothing", "no such dataset folder")
    (tmp_path / "empty").mkdir()
    outcome = cli(*PRETRAIN, "--dataset", tmp_path / "empty", "--output", tmp_path / "out")
    assert_one_line(outcome, "empty", "no dataset")


def test_records_without_reports_and_a_method_that_needs_them(cli: Cli, tmp_path: Path, record: Path) -> None:
    built = tmp_path / "built"
    assert cli("data", "build", "wfdb_folder", "--data-dir", record.parent, "--output", built).returncode == 0
    outcome = cli(*PRETRAIN, "--dataset", built, "--output", tmp_path / "out")
    assert_one_line(outcome, "report", "ecg-jepa", "ecg-cpc")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_is_not_overwritten_by_accident(pretrained: Path, dataset: Path, cli: Cli) -> None:
    outcome = cli(*PRETRAIN, "--dataset", dataset, "--output", pretrained)
    assert_one_line(outcome, str(pretrained), "holds a run already", "--resume", "--overwrite")


def test_no_model_folder(dataset: Path, record: Path, cli: Cli, tmp_path: Path) -> None:
    output = tmp_path / "embeddings.safetensors"
    outcome = cli("embed", "--model", dataset, "--dataset", dataset, "--output", output)
    assert_one_line(outcome, "not a model folder")
    (tmp_path / "config.json").write_text("{")
    outcome = cli("embed", "--model", tmp_path, "--dataset", dataset, "--output", output)
    assert_one_line(outcome, str(tmp_path))
    outcome = cli("predict", "--model", "nobody/nothing", record, "--labels", "normal ECG")
    assert_one_line(outcome, "nobody/nothing")
    assert not output.exists()


@pytest.mark.slow
def test_damaged_weights(pretrained: Path, record: Path, cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(pretrained, folder, ignore=shutil.ignore_patterns("checkpoint-*"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert_one_line(cli("predict", "--model", folder, record, "--labels", "normal ECG"), str(folder))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--features", "nope"), ("nope",)),
        (("--device", "nope"), ("nope",)),
        (("--batch-size", "0"), ("batch-size",)),
        (("--batchsize", "3"), ("--batchsize",)),
    ],
)
def test_impossible_embedding(
    options: tuple[str, ...],
    words: tuple[str, ...],
    pretrained: Path,
    dataset: Path,
    cli: Cli,
    tmp_path: Path,
) -> None:
    output = tmp_path / "embeddings.safetensors"
    outcome = cli("embed", "--model", pretrained, "--dataset", dataset, "--output", output, *options)
    assert_one_line(outcome, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_embeddings_do_not_replace_a_folder(
    pretrained: Path, dataset: Path, cli: Cli, tmp_path: Path
) -> None:
    output = tmp_path / "all.safetensors"
    output.mkdir()
    outcome = cli("embed", "--model", pretrained, "--dataset", dataset, "--output", output)
    assert_one_line(outcome, str(output), "folder")


def test_missing_record(cli: Cli, tmp_path: Path) -> None:
    """The record is looked at first: no model needs to load for this answer."""
    missing = tmp_path / "nothing"
    assert_one_line(cli("predict", "--model", tmp_path, missing, "--labels", "normal ECG"), str(missing))


def test_truncated_and_altered_records(record: Path, cli: Cli, tmp_path: Path) -> None:
    for suffix in (".hea", ".dat"):
        shutil.copy(record.with_suffix(suffix), tmp_path)
    signal = tmp_path / "one.dat"
    samples = bytearray(signal.read_bytes())
    signal.write_bytes(samples[:-1000])
    command = ("predict", "--model", tmp_path, tmp_path / "one", "--labels", "normal ECG")
    assert_one_line(cli(*command), "one")
    samples[700] ^= 1
    signal.write_bytes(samples)
    assert_one_line(cli(*command), "one", "checksum")


def test_files_that_do_not_describe_themselves(cli: Cli, tmp_path: Path) -> None:
    """What is missing is asked for by the options there are, and with them the file is read."""
    file = tmp_path / "a.npy"
    np.save(file, simulate(1, seed=3, sampling_rate=250.0).signal[0])
    config = METHODS["ecg-jepa"].load("config").preset("micro")
    METHODS["ecg-jepa"].load("pretraining")(config).save_pretrained(tmp_path / "model")
    METHODS["ecg-jepa"].feature_extractor_for(config).save_pretrained(tmp_path / "model")
    command = ("predict", file, "--model", tmp_path / "model", "--labels", "a,b")
    assert_one_line(cli(*command), str(file), "--sampling-rate", "--lead-names", "--units")
    told = ("--sampling-rate", "250", "--units", "mV", "--lead-names", ",".join(STANDARD_LEADS))
    assert_one_line(cli(*command, *told[:2], *told[4:], "--units", "furlong"), "furlong")
    assert_one_line(cli(*command, *told[:4], "--lead-names", "I,II"), "lead")
    # Read, and then: a method without a text side has no zero-shot answers, and this model no classifier.
    assert_one_line(cli(*command, *told), "ecg-jepa", "cg-dmer")
    assert_one_line(cli(*command[:4], *told), "classifier", "ecg-hf finetune")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("list", "nope"), ("nope", "models")),
        (("nope",), ("nope",)),
        (("list", "models", "--nope"), ("--nope",)),
        (("predict", "--labels", "a", "record"), ("record",)),
        (("predict", "--model", "m", "record", "--labels", " , "), ("label",)),
        (("quickstart", "--output", "out", "--dataset", "nope"), ("nope", "ptbxl")),
        (("quickstart", "--output", "out", "--model", "nope"), ("nope", "cg-dmer")),
        (("quickstart", "--output", "out", "--max-steps", "0"), ("max-steps",)),
        (("quickstart", "--output", "out", "--dataset", "ptbxl"), ("data_dir",)),
        (("quickstart", "--output", "out", "--seed", "x"), ("seed",)),
        (("quickstart", "--skip-training"), ("output",)),
        (("quickstart", "--output", "{text}", "--skip-training"), ("text",)),
        (("data", "check", "{missing}"), ("missing",)),
        (("data", "check", "{empty}"), ("empty",)),
        (("data", "export", "{missing}", "--output", "{out}"), ("missing",)),
        (("data", "export", "{empty}", "--output", "{out}"), ("empty",)),
        (("data", "download", "nope", "--data-dir", "{out}"), ("nope",)),
        (("data", "download", "synthetic", "--data-dir", "{out}"), ("synthetic",)),
        (("embed", "--model", "{missing}", "--dataset", "{missing}", "--output", "{out}"), ("missing",)),
        (("embed", "--model", "{empty}", "--dataset", "{empty}", "--output", "{out}"), ("empty",)),
        (
            ("evaluate", "--model", "{empty}", "--benchmark", "nope", "--output", "{out}"),
            ("nope", "ptbxl-super"),
        ),
        (
            ("evaluate", "--model", "{missing}", "--benchmark", "ptbxl-super", "--output", "{out}"),
            ("missing",),
        ),
        (("evaluate", "--model", "{empty}", "--benchmark", "ptbxl-super", "--output", "{out}"), ("empty",)),
        (
            (
                *("evaluate", "--model", "{empty}", "--benchmark", "ptbxl-super", "--output", "{out}"),
                *("--fraction", "few"),
            ),
            ("few",),
        ),
        (("compare", "{missing}", "{missing}"), ("missing",)),
        (("compare", "{text}", "{text}"), ("text",)),
        (("convert", "nope", "{text}", "{out}"), ("nope",)),
        (("convert", "ecg-cpc", "{missing}", "{out}"), ("missing",)),
        (("convert", "ecg-cpc", "{text}", "{out}"), ("text",)),
        (("convert", "ecg-cpc", "{text}", "{out}", "--heads", "x"), ("--heads",)),
        (("predict", "--model", "{empty}", "{missing}"), ("empty",)),
        (("predict", "--model", "{empty}", "{text}", "--labels", "a"), ("text",)),
        (("predict", "r", "--labels", "a", "--csv", "{out}"), ("--csv",)),
        (("predict", "r", "s", "--plot", "one.png"), ("folder",)),
        (("predict", "r", "--plot", "one.gif"), ("one.gif", ".png")),
        (("predict", "{empty}"), ("empty", "no recordings")),
        (("predict", "r", "--csv", "{empty}"), ("empty", "--csv")),
        (("predict",), ("RECORD",)),
        (("predict", "r", "--units", "furlong"), ("furlong", "mV")),
        (("predict", "r", "--sampling-rate", "-5"), ("-5", "sampling rate")),
        (("predict", "r", "--lead-names", "I,I"), ("I",)),
        (("predict", "r", "--device", "nope"), ("nope",)),
        (("predict", "--model", "m", "r", "--labels", "a", "--top-k", "0"), ("top-k",)),
        (("predict", "--model", "m", "r", "--sampling-rate", "fast"), ("sampling-rate",)),
        (("card", "{missing}"), ("missing",)),
        (("card", "{empty}"), ("empty",)),
        (("card", "{empty}", "--results", "{text}"), ("text",)),
        (("push", "{missing}", "me/model"), ("missing",)),
        (("push", "{empty}", "me/model"), ("empty",)),
        (("plan", "--model", "cg-dmer"), ("dataset-size",)),
        (("plan", "--model", "nope", "--dataset-size", "10"), ("nope",)),
        (("pretrain", "--model", "cg-dmer", "--output", "{out}"), ("dataset",)),
    ],
)
def test_impossible_commands(
    arguments: tuple[str, ...],
    words: tuple[str, ...],
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each command with typical wrong inputs: what is missing, empty, of another kind, or out of range."""
    monkeypatch.chdir(tmp_path)
    places = {name: tmp_path / name for name in ("missing", "empty", "text", "out")}
    places["empty"].mkdir()
    places["text"].write_text("not what was expected\n")
    assert_one_line(cli(*(argument.format(**places) for argument in arguments)), *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "text"]


@pytest.mark.slow
def test_no_classifier_and_bad_labels(pretrained: Path, record: Path, cli: Cli) -> None:
    command = ("predict", "--model", pretrained, record, "--device", "cpu")
    assert_one_line(cli(*command), "no classifier", "--labels")
    assert_one_line(cli(*command, "--softmax"), "--labels")
    assert_one_line(cli(*command, "--labels", "a,a"), "twice")
    assert_one_line(cli(*command, "--labels", "a", "--template", "none"), "{}")


def test_an_interrupted_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ecg_hf.data

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ecg_hf.data, "build_dataset", stop)
    with pytest.raises(SystemExit) as left:
        main(["data", "build", "synthetic", "--output", str(tmp_path / "d")])
    assert left.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.skipif(os.name != "posix", reason="signals to a process group")
def test_workers_are_silent_when_interrupted(tmp_path: Path) -> None:
    command = [
        "data",
        "build",
        "synthetic",
        "--output",
        str(tmp_path / "d"),
        "--num-proc",
        "2",
        "-o",
        "records=200000",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "ecg_hf.cli", *command, "-o", "records=200000"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        # A suite that a script started in the background ignores interrupts, and so would all it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not any((tmp_path / "d").glob(".building/*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.rstrip().endswith("interrupted")


def test_control_characters_of_names_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b]52;c;ZXZpbA==\x07 \x9b2J \u202e\nAF"
    print_table([{"label": name, "score": "+0.2"}], ("label", "score"))
    print_json({"label": name + "\ud800"})
    echo(f"a\n{name}")
    with printable_logs():
        logging.getLogger("x").warning("%s", name)
        warnings.showwarning(name, UserWarning, "x.py", 1)
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)
    assert len(shown.out.splitlines()) == 2 + 3 + 3
    assert json.loads(shown.out[shown.out.index("{") : shown.out.index("}") + 1])["label"].startswith(name)
