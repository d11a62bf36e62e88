"""Short versions of the soak tests, each in a fresh process: a few kills, every fault. The long ones run by hand."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.soak.scenarios import SCENARIOS

pytestmark = [pytest.mark.slow, pytest.mark.fixtures]


def run(module: str, *arguments: str) -> dict[str, int]:
    """Totals a soak module prints as its last line."""
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_killed_and_continued():
    total = run("tests.soak.kills", "--kills", "2")
    assert total["kills"] >= 2 * len(SCENARIOS)
    assert total["losses"] == 0


def test_disks_writers_and_clocks():
    total = run("tests.soak.faults", "--only", "build", "embed", "convert")
    assert total["losses"] == 0
    assert total["two_writers: result as undisturbed"] == 9
    assert total["clock_backwards: result as undisturbed"] == 3
    if not any("skipped" in name for name in total):
        assert total["disk_full: result as undisturbed"] == total["read_only: result as undisturbed"] == 3
