"""Which tests are ``unit``, ``contract`` or ``slow``, and which of the long ones a day's run draws.

A test is in exactly one tier. It is slow where it is marked so, lies in a folder of ``SLOW``, or is listed in
``slow_tests.txt`` (measured at five seconds of processor time or more); a contract where it lies below
``CONTRACT``: whole methods, commands, processes and model folders; a unit test otherwise.
"""

from __future__ import annotations

import datetime
import math
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

TIERS = ("unit", "contract", "slow")

# Files and folders below tests/.
SLOW = ("external", "soak")
CONTRACT = (
    "data/test_building.py",
    "data/test_merging.py",
    "data/test_streaming.py",
    "cli",
    "demo",
    "engine",
    "evaluation/test_online_probe.py",
    "hub",
    "models",
    "pipelines",
    "planning",
    "quickstart",
    "serving",
    "training",
    "test_architecture.py",
    "test_examples.py",
    "test_packaging.py",
)

# Share of the parameters of one test function that a sampled run draws, at least one of each, and of the slow
# functions of a file that have none; the longest of these prefixes counts. Tests of other files have the share of
# their tier, all of them if it has none.
SHARES: Mapping[str, float] = {
    "cli/test_hostile_models.py": 0.2,
    "external": 0.1,
    "models/test_safe_loading.py": 0.2,
    "soak": 0.5,
    "contract": 0.16,
    "slow": 0.14,
}

# Of these the functions themselves are drawn, as each of them takes minutes.
DRAWN_TOGETHER = ("soak",)

_SLOW_TESTS = Path(__file__).with_name("slow_tests.txt")


def recorded_slow_tests() -> frozenset[str]:
    """Tests that ``slow_tests.txt`` names, without their parameters: ``cli/test_embed.py::test_name``."""
    lines = _SLOW_TESTS.read_text(encoding="utf-8").splitlines()
    return frozenset(line.split()[-1] for line in lines if line and not line.startswith("#"))


def function_of(nodeid: str) -> str:
    """Name of a test below ``tests/`` without its parameters."""
    return nodeid.removeprefix("tests/").partition("[")[0]


def below(function: str, prefixes: Iterable[str]) -> list[str]:
    """Those of the files and folders that hold a test, longest first."""
    path = function.partition("::")[0]
    return sorted((p for p in prefixes if path == p or path.startswith(p + "/")), key=len, reverse=True)


def tier_of(nodeid: str, *, marked_slow: bool, recorded: frozenset[str]) -> str:
    """The one tier of a test."""
    function = function_of(nodeid)
    if marked_slow or function in recorded or below(function, SLOW):
        return "slow"
    return "contract" if below(function, CONTRACT) else "unit"


def seed_of_the_day() -> str:
    """``ECG_HF_TEST_SEED``, or today's date. Set for the workers too: midnight may fall between their starts."""
    return os.environ.setdefault("ECG_HF_TEST_SEED", datetime.date.today().isoformat())


def drawn(tests: Mapping[str, str], seed: str) -> set[str]:
    """Tests of a sampled run: a share of the long ones, some of every function or, if that is slow, of every file.

    Args:
        tests: Tier of each test by its id.
        seed: Equal seeds draw equal tests, whatever other tests there are.
    """
    functions: dict[tuple[str, float], list[str]] = defaultdict(list)
    for nodeid, tier in tests.items():
        function = function_of(nodeid)
        named = below(function, SHARES)
        share = SHARES[named[0] if named else tier] if named or tier in SHARES else 1.0
        group = function
        if together := below(function, DRAWN_TOGETHER):
            group = together[0]
        elif tier == "slow" and "[" not in nodeid:
            group = function.partition("::")[0]
        functions[group, share].append(nodeid)
    chosen: set[str] = set()
    for (function, share), ids in functions.items():
        count = max(1, math.ceil(share * len(ids)))
        chosen.update(random.Random(f"{seed}:{function}").sample(sorted(ids), count))
    return chosen
