"""The README's examples run; its commands run, with the model they name, and take what it says they take."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer

from ecg_hf.cli.convert import conversion_options
from ecg_hf.cli.main import app, main
from ecg_hf.cli.pretrain import parse_overrides
from ecg_hf.data import build_dataset, export_parquet
from ecg_hf.hub.card_callback import ModelCardCallback
from ecg_hf.models.pretrained import sample_record
from ecg_hf.planning import StoredRecords, planned_run
from ecg_hf.planning.devices import schedule
from ecg_hf.planning.headroom import peak_bytes
from ecg_hf.planning.samples import sample_inputs
from ecg_hf.planning.tracing import trace_memory
from ecg_hf.training import EcgFineTuningArguments, pretrain
from tests.hub.conftest import Client, client, hub
from tests.hub.loopback_hub import OWNER

__all__ = ["client", "hub"]  # fixtures of the Hub's tests

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MIGRATION = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
PYTHON = [
    block for text in (README, MIGRATION) for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
]
ON_THE_HUB = [block for block in PYTHON if '"org/' in block]
EXPORTED = [block for block in PYTHON if "OnnxModel" in block]
SHELL = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
COMMANDS = [
    words[words.index("ecg_hf.cli" if "torchrun" in words else "ecg-hf") + 1 :]
    for line in SHELL.splitlines()
    if {"ecg-hf", "ecg_hf.cli"} & set(words := shlex.split(line, comments=True))
    and words[0] in ("ecg-hf", "torchrun")
]


def test_examples_were_found() -> None:
    assert len(PYTHON) >= 5
    assert len(ON_THE_HUB) == 1
    assert len(EXPORTED) == 1
    assert len(COMMANDS) >= 25


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_command_exists_with_its_options(words: list[str]) -> None:
    command = typer.main.get_command(app)
    while getattr(command, "commands", None):
        command, words = command.commands[words[0]], words[1:]  # type: ignore[attr-defined]
    # Parses and checks types, runs nothing.
    context = command.make_context("ecg-hf", list(words))
    if context.args and command.name == "convert":
        conversion_options(context.args, context.params["model"])
    elif context.args and command.name == "finetune":
        parse_overrides(context.args, "cg-dmer", EcgFineTuningArguments)
    elif context.args:
        parse_overrides(context.args, context.params["model"])


# Commands that need what no test has, or that other tests run from end to end.
NOT_RUN = {
    ("data", "download"): "needs a network; tests/data/test_downloading.py",
    ("data", "merge"): "needs four parts of PTB-XL; tests/data/test_merging.py",
    ("convert",): "needs the authors' files; tests/cli/test_convert.py",
    ("evaluate",): "needs PTB-XL; tests/cli/test_evaluate.py",
    ("compare",): "needs two evaluations; tests/cli/test_evaluate.py",
    ("card",): "needs an evaluation; tests/cli/test_models.py",
    ("quickstart",): "tests/quickstart runs that of every method",
    ("demo",): "goes on until it is stopped; tests/demo",
    ("serve",): "goes on until it is stopped; tests/serving",
}
# No scheduler answers at README's address; tests/engine/test_bulk_on_dask.py has one.
RUN = [
    words
    for words in COMMANDS
    if "--address" not in words and not any(tuple(words[: len(name)]) == name for name in NOT_RUN)
]
TWO_STEPS = ("--max-steps", "2", "--use-cpu", "true", "--overwrite")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> Path:
    """A folder with what the README's examples read: forty recordings of PTB-XL, all else simulated."""
    place = tmp_path_factory.mktemp("readme")
    for seed, name in enumerate(("synthetic", "ptbxl", "csn")):
        build_dataset("synthetic", None, place / "built" / name, records=240, seed=seed, progress=False)
    for name in ("ptbxl", "csn"):
        export_parquet(place / "built" / name, place / "parquet" / name)
    pretrain(
        "cg-dmer", place / "built" / "synthetic", place / "runs" / "micro", size="micro", max_steps=1, use_cpu=True,
        callbacks=[ModelCardCallback([place / "built" / "synthetic"])],
    )  # fmt: skip
    (place / "ptb-xl").symlink_to(recordings / "ptbxl")
    (place / "records100").symlink_to(recordings / "ptbxl" / "records100")
    (place / "quickstart_output").mkdir()
    (place / "quickstart_output" / "model").symlink_to(place / "runs" / "micro")
    (place / "quickstart_output" / "data").symlink_to(place / "built" / "synthetic")
    return place


def shortened(words: list[str]) -> list[str]:
    """The same command with the model it names, on two steps or few records."""
    if words[0] == "pretrain":
        return [word for word in words if word != "--resume"] + list(TWO_STEPS)
    if words[0] == "finetune":
        return [*words, *TWO_STEPS]
    if words[0] == "plan":
        return [*words, "--measured-steps", "1"]
    if words[0] == "push":
        return [*words, "--dry-run"]
    return ["records=20" if word.startswith("records=") else word for word in words]


@pytest.fixture
def here(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workplace as current folder; outputs go elsewhere, or one example would find what another left."""
    for name in workplace.iterdir():
        (tmp_path / name.name).symlink_to(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", [block for block in PYTHON if block not in (*ON_THE_HUB, *EXPORTED)])
def test_python_runs(code: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


@pytest.mark.slow
@pytest.mark.parametrize("code", EXPORTED)
def test_python_runs_on_an_export(code: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    (command,) = [words for words in COMMANDS if words[0] == "export" and "--format" not in words]
    main(command)
    capsys.readouterr()
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    assert "'label': " in capsys.readouterr().out


def same(shown: str, said: str) -> None:
    """Equal but for the last digits of numbers, which processors decide."""
    words, others = shown.split(), said.split()
    assert len(words) == len(others), said
    for one, other in zip(words, others, strict=True):
        figures = [re.fullmatch(r"\(?([+-]?\d+\.\d+)\S*", word) for word in (one, other)]
        if all(figures):
            assert float(figures[0][1]) == pytest.approx(float(figures[1][1]), abs=0.02), said  # type: ignore[index]
        else:
            assert one == other


def test_shown_answers_are_those_of_the_models_that_ship(capsys: pytest.CaptureFixture[str]) -> None:
    """After other weights ship: ``ecg-hf quickstart --output docs --skip-training``, and its answers into README."""
    zero_shot, findings = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    exec(compile(PYTHON[0], "README.md", "exec"), {"__name__": "__main__"})
    same(zero_shot, capsys.readouterr().out)
    main(["predict", str(sample_record())])
    same(findings, capsys.readouterr().out.partition("\n")[2])


@pytest.mark.slow
@pytest.mark.parametrize("code", ON_THE_HUB)
def test_python_runs_on_the_hub(code: str, workplace: Path, client: Client, tmp_path: Path) -> None:
    """What the README's pushes put on a Hub, here one in memory, is what its example loads."""
    home = tmp_path / "home"
    pushed = {
        "org/cg-dmer": workplace / "runs" / "micro",
        "org/synthetic-ecg": workplace / "built" / "synthetic",
    }
    for repo, folder in pushed.items():
        client("ecg_hf.cli", "push", folder, repo, "--tag", "v1.0", home=home, token=OWNER)
    client(code + "\nassert len(dataset) and embed and zero_shot and extractor and model\n", home=home)


@pytest.mark.slow
@pytest.mark.parametrize("words", RUN, ids=" ".join)
def test_command_runs(words: list[str], here: Path) -> None:
    words = [f"made/{word}" if before == "--output" else word for before, word in zip(["", *words], words)]  # noqa: B905
    main(shortened(words))
    if words[0] == "pretrain":
        report = json.loads(Path(words[words.index("--output") + 1], "pretrain_report.json").read_text())
        assert report["steps"] == 2


def test_reasons_name_tests_that_exist() -> None:
    for reason in NOT_RUN.values():
        for path in re.findall(r"tests/[\w/.]+", reason):
            assert (Path(__file__).resolve().parents[1] / path).exists(), path


COSTS = re.findall(r"^\| `(pretrain[^`]*)` \| (\d+) \| ([\d.]+) GiB \|", README, re.MULTILINE)


@pytest.mark.parametrize(("command", "steps", "gib"), COSTS, ids=[row[0] for row in COSTS])
def test_printed_memory_is_that_of_the_plan(command: str, steps: str, gib: str) -> None:
    context = (
        typer.main.get_command(app)
        .commands["pretrain"]
        .make_context(  # type: ignore[attr-defined]
            "pretrain", [*shlex.split(command)[1:], "--dataset", "d", "--output", "o"]
        )
    )
    given = context.params
    training, options = parse_overrides(context.args, given["model"])
    training |= {} if given["max_steps"] is None else {"max_steps": given["max_steps"]}
    options |= {} if given["variant"] is None else {"variant": given["variant"]}
    run = planned_run(
        given["model"], size=given["size"], recipe=given["recipe"], accelerator=False,
        training_options=training, model_options=options,
    )  # fmt: skip
    assert schedule(run, 1600).steps == int(steps)
    inputs = sample_inputs(run, StoredRecords(), records=2)
    assert peak_bytes(run, trace_memory(run, inputs)) / 2**30 == pytest.approx(float(gib), rel=0.1)


def test_costs_are_printed() -> None:
    assert len(COSTS) >= 5
