"""An address where a command takes a path: refused, and no folder named after its scheme."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ecg_hf.cli.main import app
from ecg_hf.errors import UnsafePath
from ecg_hf.storage import local_only
from tests.cli.conftest import Cli


def _commands(group: typer.Typer) -> Iterator[Callable[..., Any]]:
    for command in group.registered_commands:
        assert command.callback is not None
        yield command.callback
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from _commands(inner.typer_instance)


def _paths() -> list[Any]:
    found = []
    for function in _commands(app):
        hints = typing.get_type_hints(function)
        for name in inspect.signature(function).parameters:
            if "pathlib.Path" in (shown := str(hints[name])):
                command = function.__name__.removesuffix("_command")
                found.append(pytest.param(function, name, "list[" in shown, id=f"{command}-{name}"))
    return found


@pytest.mark.parametrize(("function", "name", "several"), _paths())
def test_no_path_takes_an_address(
    function: Callable[..., Any], name: str, several: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    address = Path("s3://bucket/secret/a.png")
    with pytest.raises(UnsafePath, match="no address") as refused:
        function(**{name: [tmp_path, address] if several else address})
    assert "s3://" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "address", ["s3://b/a", "gs://b/a", "https://host/a", Path("file:///data/a"), "HF://x", "s3:/b"]
)
def test_what_an_address_is(address: str | Path) -> None:
    with pytest.raises(UnsafePath):
        local_only(address)


@pytest.mark.parametrize("path", ["a.png", "/data/a", "C:/ecg/a", "a:b", "folder/s3:/a", "12:30/a", "."])
def test_what_a_path_is(path: str) -> None:
    assert local_only(path) == Path(path)


def test_the_folder_of_a_study_and_files_of_a_converter_too(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    study = cli("study", "show", "s3://bucket/study")
    file = cli("convert", "heartlang", "a.pth", "out", "--vqhbr", "s3://bucket/v.pth")
    for outcome in (study, file):
        assert outcome.returncode == 2
        assert "no address" in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_not_drawn_into_a_folder_named_s3(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("plot", "record.npy", "-o", "s3://bucket/a.png")
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr == "error: s3://: a path of this machine is wanted here, no address\n"
    assert list(tmp_path.iterdir()) == []
