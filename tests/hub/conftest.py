"""A Hub in memory for the session, and client processes that talk to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import cli
from tests.conftest import ROOT
from tests.hub.loopback_hub import OWNER, LoopbackHub

__all__ = ["cli"]  # a fixture shared with the commands' tests

# Refuses the package and nothing else, as on a machine where it is not installed.
WITHOUT_PACKAGE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ecg_hf":
            raise ModuleNotFoundError("No module named 'ecg_hf'", name="ecg_hf")
sys.meta_path.insert(0, Absent())
"""

Client = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        yield running


@pytest.fixture(scope="session")
def client(hub: LoopbackHub) -> Client:
    """Run a program, or a module with arguments, as a client of the Hub; it must succeed."""

    def run(
        *arguments: object, home: Path, token: str | None = None, offline: bool = False, timeout: float = 1500
    ) -> subprocess.CompletedProcess[str]:
        first = str(arguments[0])
        words = ["-c", first] if "\n" in first else ["-m", first]
        result = subprocess.run(
            [sys.executable, *words, *map(str, arguments[1:])],
            env=hub.environment(home, token=token, offline=offline),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-4000:]
        return result

    return run


@dataclass(frozen=True)
class Pushed:
    """What the pushing process left: its notes, and whether each method reads texts."""

    store: Path
    methods: dict[str, bool]


@pytest.fixture(scope="session")
def pushed(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Pushed:
    """Every registered method, shared in every way there is."""
    folder = tmp_path_factory.mktemp("pushed")
    result = client("tests.hub.round_trip", "push", folder, home=folder / "home", token=OWNER)
    return Pushed(folder, last_json(result))


def last_json(result: subprocess.CompletedProcess[str]) -> Any:
    """What a client said in its last line."""
    return json.loads(result.stdout.strip().splitlines()[-1])
