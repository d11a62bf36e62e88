"""Every test is in one tier, a sample leaves out no file, and what travels with the code is small."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests import tiers

TESTS = Path(__file__).resolve().parent


@pytest.mark.parametrize(
    ("nodeid", "marked", "tier"),
    [
        ("tests/signal/test_units.py::test_a[1]", False, "unit"),
        ("tests/signal/test_units.py::test_a[1]", True, "slow"),
        ("tests/cli/test_errors.py::test_a", False, "contract"),
        ("tests/cli_other/test_errors.py::test_a", False, "unit"),
        ("tests/external/test_x.py::test_a[a-b]", False, "slow"),
        ("tests/data/test_x.py::test_long[a::b]", False, "slow"),
        ("tests/data/test_x.py::test_longer", False, "unit"),
    ],
)
def test_tiers(nodeid: str, marked: bool, tier: str) -> None:
    recorded = frozenset({"data/test_x.py::test_long"})
    assert tiers.tier_of(nodeid, marked_slow=marked, recorded=recorded) == tier


def test_a_sample_has_something_of_all_and_is_another_one_tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "SHARES", {"hub": 0.2, "hub/test_b.py": 0.5, "slow": 0.5})
    tests = {f"tests/hub/test_a.py::test_{name}[{i}]": "contract" for name in "xy" for i in range(10)}
    tests |= {f"tests/hub/test_b.py::test_x[{i}]": "slow" for i in range(10)}
    tests |= {f"tests/nn/test_c.py::test_x[{i}]": "slow" for i in range(3)}
    tests |= {f"tests/nn/test_c.py::test_y[{i}]": "unit" for i in range(3)} | {
        f"tests/nn/test_c.py::test_z{i}": "slow" for i in range(4)
    }
    chosen = tiers.drawn(tests, "2026-01-01")
    counts = Counter(tiers.function_of(nodeid).rstrip("0123") for nodeid in chosen)
    assert counts == {
        "hub/test_a.py::test_x": 2, "hub/test_a.py::test_y": 2, "hub/test_b.py::test_x": 5, "nn/test_c.py::test_x": 2,
        "nn/test_c.py::test_y": 3, "nn/test_c.py::test_z": 2,
    }  # fmt: skip
    assert tiers.drawn(tests, "2026-01-01") == chosen != tiers.drawn(tests, "2026-01-02")
    # Tests that come or go change nothing for the others.
    fewer = {nodeid: tier for nodeid, tier in tests.items() if "test_a.py" in nodeid}
    assert tiers.drawn(fewer, "2026-01-01") == {nodeid for nodeid in chosen if "test_a.py" in nodeid}


def test_the_seed_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECG_HF_TEST_SEED", "7")
    assert tiers.seed_of_the_day() == "7"
    monkeypatch.delenv("ECG_HF_TEST_SEED")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", tiers.seed_of_the_day())


def test_named_files_and_tests_exist() -> None:
    for name in {*tiers.SLOW, *tiers.CONTRACT, *tiers.SHARES} - set(tiers.TIERS):
        assert (TESTS / name).exists(), name
    for function in tiers.recorded_slow_tests():
        path, _, name = function.partition("::")
        name = name.rpartition("::")[2]
        assert f"def {name}(" in (TESTS / path).read_text(encoding="utf-8"), f"slow_tests.txt: {function}"


def size_of(*folders: str) -> int:
    files = [path for folder in folders for path in (TESTS / folder).rglob("*") if path.is_file()]
    assert files
    return sum(path.stat().st_size for path in files)


def test_what_travels_with_the_code_is_small_and_explained() -> None:
    assert size_of("fixtures") < 12_000_000
    assert size_of("recordings/ptbxl", "recordings/ludb") < 3_000_000
    explained = [TESTS / "recordings", TESTS / "fixtures", *(TESTS / "fixtures").glob("*/")]
    assert [folder for folder in explained if not (folder / "README.md").is_file()] == []


def test_own_suite_asks_for_no_hard_dependency_with_importorskip() -> None:
    """A hard dependency that is missing is a fault to be seen; extras and tools of the build may be missing."""
    allowed = {"numba", "sktime", "setuptools", "distributed", "onnx", "onnxruntime", "onnxscript"}
    allowed |= {"gradio", "playwright", "s3fs", "moto"}
    for path in TESTS.rglob("*.py"):
        asked = set(re.findall(r"importorskip\(\s*[\"'](\w+)", path.read_text(encoding="utf-8")))
        assert asked <= allowed, path
