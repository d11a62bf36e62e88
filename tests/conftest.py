"""The tiers of the suite; where its real recordings and official numbers are."""

from __future__ import annotations

import csv
import lzma
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

# Before anything imports torch or huggingface_hub: two cores are shared by two test workers, and no test
# may reach for a network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from filelock import FileLock

from tests.tiers import drawn, recorded_slow_tests, seed_of_the_day, tier_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datasets import Dataset
    from fsspec.implementations.memory import MemoryFileSystem

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
SHARED = Path(os.environ.get("ECG_HF_SHARED", ROOT.parent / "shared"))


def _own_deprecations() -> str:
    """``PYTHONWARNINGS`` that turns deprecations our modules raise into errors; it takes whole module names only."""
    source = ROOT / "src"
    modules = (file.relative_to(source).with_suffix("") for file in source.rglob("*.py"))
    names = sorted(".".join(module.parts).removesuffix(".__init__") for module in modules)
    return ",".join(
        f"error::{category}:{name}" for name in names for category in ("DeprecationWarning", "FutureWarning")
    )


# For the processes that tests start; pyproject.toml has the same for this one.
os.environ.setdefault("PYTHONWARNINGS", _own_deprecations())


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--sample``, which ``make test`` gives."""
    parser.addoption(
        "--sample", action="store_true", help="draw a share of the longest tests with the seed of the day"
    )


def pytest_report_header(config: pytest.Config) -> str | None:
    """How to run the same sample again."""
    if not config.getoption("sample"):
        return None
    return f"long tests: a sample, ECG_HF_TEST_SEED={seed_of_the_day()} (all of them: make test-all)"


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every test its tier, and leave out what the day's sample leaves out."""
    recorded = recorded_slow_tests()
    tiers = {}
    for item in items:
        marked = item.get_closest_marker("slow") is not None
        tiers[item.nodeid] = tier_of(item.nodeid, marked_slow=marked, recorded=recorded)
        if not marked:
            item.add_marker(tiers[item.nodeid])
    if config.getoption("sample"):
        chosen = drawn(tiers, seed_of_the_day())
        left_out = [item for item in items if item.nodeid not in chosen]
        items[:] = [item for item in items if item.nodeid in chosen]
        config.hook.pytest_deselected(items=left_out)


class OfficialNumbers:
    """Folders of numbers made with the official implementations: ``shared_fixtures / "ecg_jepa"``.

    Those beside the tests come first. A test that asks for a folder that only the shared material has is skipped
    where that is absent.
    """

    def __truediv__(self, name: str) -> Path:
        for folder in (TESTS / "fixtures" / name, SHARED / "fixtures" / name):
            if folder.exists():
                return folder
        pytest.skip(f"official numbers of {name} are not in tests/fixtures (ECG_HF_SHARED has more)")


@pytest.fixture
def empty_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MemoryFileSystem]:
    """fsspec's memory as an object store that nothing was put in, and a cache of its own."""
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setenv("ECG_HF_CACHE", str(tmp_path / "cache"))
    # Folders outlive the objects in them, and a `put` into one that is there puts one level lower.
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    MemoryFileSystem.clear_instance_cache()
    yield MemoryFileSystem()
    MemoryFileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def built_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small built dataset of synthetic recordings."""
    import transformers.models.auto.modeling_auto  # noqa: F401  (before ecg_hf: see ecg_hf.auto_registration)

    from ecg_hf.data import build_dataset

    folder = tmp_path_factory.mktemp("built") / "synthetic"
    build_dataset("synthetic", None, folder, records=160, progress=False)
    return folder


@pytest.fixture
def built(built_path: Path) -> Dataset:
    """The same, loaded."""
    from ecg_hf.data import load_built

    return load_built(built_path)


@pytest.fixture(scope="session")
def shared_fixtures() -> OfficialNumbers:
    """Numbers made with the official implementations, by the name of their folder."""
    return OfficialNumbers()


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Genuine recordings that travel with the code: ``ptbxl/`` and ``ludb/`` (tests/recordings/README.md)."""
    return TESTS / "recordings"


@pytest.fixture(scope="session")
def merl_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MERL's published tables and prompts, unpacked: ``data_split/`` and ``CKEPE_prompt.json``."""
    folder = tmp_path_factory.mktemp("merl_tables")
    with tarfile.open(TESTS / "fixtures" / "merl_protocol" / "tables.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def ptbxl_labels() -> list[dict[str, str]]:
    """``ecg_id``, ``patient_id``, ``scp_codes`` and ``strat_fold`` of all 21,799 recordings of PTB-XL."""
    path = TESTS / "fixtures" / "ptbxl_labels" / "ptbxl_database.csv.xz"
    with lzma.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def clinical_files() -> Path:
    """Files as clinical devices write them, of which few may be redistributed with the code."""
    folder = SHARED / "data" / "clinical"
    if not folder.is_dir():
        pytest.skip("files of clinical devices may not travel with the code; ECG_HF_SHARED names their place")
    return folder


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of all datasets (``challenge2021/``, ``mitdb/`` ...), unpacked once per session.

    For tests that need other datasets than PTB-XL and LUDB, or hundreds of records; ``recordings`` is for all others.
    """
    if "ECG_HF_TEST_DATA" in os.environ:
        return Path(os.environ["ECG_HF_TEST_DATA"])
    unpack = SHARED / "data" / "unpack.py"
    if not unpack.is_file():
        pytest.skip(
            "needs recordings of datasets that don't travel with the code (Challenge 2021 and 2025, CPSC 2018,"
            " MIT-BIH); ECG_HF_TEST_DATA names a folder that has them"
        )
    # One folder for all workers of a session: the script stamps each archive and unpacks it once.
    base = tmp_path_factory.getbasetemp()
    shared_base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = shared_base / "real_recordings"
    lock = shared_base / "real_recordings.lock"
    with FileLock(lock):
        subprocess.run([sys.executable, str(unpack), str(folder)], check=True, stdout=subprocess.DEVNULL)
    return folder
