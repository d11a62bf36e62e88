"""Fixtures shared by the whole suite: where the real recordings and numerical fixtures are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Before anything imports torch or huggingface_hub: two cores are shared by two test workers, and no test
# may reach for a network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

ROOT = Path(__file__).resolve().parent.parent
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


@pytest.fixture(scope="session")
def shared_fixtures() -> Path:
    """Folder of the numerical fixtures made with the official implementations."""
    folder = SHARED / "fixtures"
    if not folder.is_dir():
        pytest.skip("numerical fixtures not found (set ECG_HF_SHARED)")
    return folder


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with genuine recordings, unpacked once per session (``ptbxl/``, ``challenge2021/`` ...)."""
    if "ECG_HF_TEST_DATA" in os.environ:
        return Path(os.environ["ECG_HF_TEST_DATA"])
    unpack = SHARED / "data" / "unpack.py"
    if not unpack.is_file():
        pytest.skip("real recordings not found (set ECG_HF_SHARED or ECG_HF_TEST_DATA)")
    # One folder for all workers of a session: the script stamps each archive and unpacks it once.
    base = tmp_path_factory.getbasetemp()
    shared_base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = shared_base / "real_recordings"
    lock = shared_base / "real_recordings.lock"
    import fcntl

    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        subprocess.run([sys.executable, str(unpack), str(folder)], check=True, stdout=subprocess.DEVNULL)
    return folder
