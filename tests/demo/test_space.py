"""The folder of a Space: its application is the command, and it has what the package needs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import typer
import yaml

from ecg_hf.cli.main import app
from ecg_hf.demo import space
from ecg_hf.errors import ConfigurationError

STATED = [
    "torch>=2",
    "gradio<7,>=6; extra == 'demo'",
    "pydicom>=3; extra == 'clinical'",
    "mypy>=1; extra == 'dev'",
]


@pytest.fixture
def stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "version", lambda name: {"gradio": "6.31.0"}[name])
    monkeypatch.setattr(space, "requires", lambda name: {"ecg-hf": STATED}[name])


@pytest.mark.usefixtures("stated")
def test_the_folder_runs_the_command(tmp_path: Path) -> None:
    folder = space.write_space(tmp_path / "space", 'org/"model')
    tree = ast.parse((folder / "app.py").read_text(encoding="utf-8"))
    (call,) = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    command, *words = ast.literal_eval(call.args[0])
    context = typer.main.get_command(app).commands[command].make_context("ecg-hf", list(words))  # type: ignore[attr-defined]
    given = context.params
    assert (given["model"], given["port"], given["behind_proxy"]) == ('org/"model', 7860, True)
    assert (folder / "requirements.txt").read_text().split() == ["pydicom>=3", "torch>=2"]
    _, front, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n")
    assert yaml.safe_load(front)["app_file"] == "app.py"
    assert yaml.safe_load(front)["sdk_version"] == "6.31.0"
    assert (folder / "ecg_hf" / "weights" / "ecg-distil-ptbxl" / "model.safetensors").is_file()
    assert not list(folder.rglob("__pycache__"))


@pytest.mark.usefixtures("stated")
def test_what_is_there_is_not_replaced_and_own_folders_are_not_copied(tmp_path: Path) -> None:
    (tmp_path / "space").mkdir()
    with pytest.raises(ConfigurationError, match="exists already"):
        space.write_space(tmp_path / "space", None)
    with pytest.raises(ConfigurationError, match="push the model first"):
        space.write_space(tmp_path / "other", str(tmp_path))
    assert not (tmp_path / "other").exists()
