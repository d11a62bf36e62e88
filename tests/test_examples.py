"""The README's examples are Python, and its commands have the options they use."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from ecg_hf.cli.convert import conversion_options
from ecg_hf.cli.main import app
from ecg_hf.cli.pretrain import parse_overrides

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
COMMANDS = [
    words[words.index("ecg_hf.cli" if "torchrun" in words else "ecg-hf") + 1 :]
    for line in SHELL.splitlines()
    if {"ecg-hf", "ecg_hf.cli"} & set(words := shlex.split(line, comments=True))
    and words[0] in ("ecg-hf", "torchrun")
]


def test_examples_were_found() -> None:
    assert len(PYTHON) == 4
    assert len(COMMANDS) >= 25


@pytest.mark.parametrize("code", PYTHON)
def test_python_compiles(code: str) -> None:
    compile(code, "README.md", "exec")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_command_exists_with_its_options(words: list[str]) -> None:
    command = typer.main.get_command(app)
    while getattr(command, "commands", None):
        command, words = command.commands[words[0]], words[1:]  # type: ignore[attr-defined]
    # Parses and checks types, runs nothing.
    context = command.make_context("ecg-hf", list(words))
    if context.args and command.name == "convert":
        conversion_options(context.args, context.params["model"])
    elif context.args:
        parse_overrides(context.args, context.params["model"])
