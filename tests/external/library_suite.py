"""Fetches the test suite that the pinned ``transformers`` ships in its source distribution, and imports it.

Nothing of it is copied into this repository. pip downloads it, from wherever pip is configured to, into a cache
outside the repository: ``ECG_HF_EXTERNAL_CACHE``, by default ``ecg_hf_external`` in the user's cache folder.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import subprocess
import sys
import tarfile
import tempfile
import types
from pathlib import Path

import transformers

__all__ = ["SuiteUnavailable", "import_from_suite"]

_PACKAGE = "transformers_suite"
# Seconds for one pip command: where no index answers, the suite must not wait long to be skipped.
_TIMEOUT_S = 60
# Modules the suite imports and the distribution lacks, each with the one class that is wanted of it.
_STAND_INS = {"exporters.test_export": "ExportTesterMixin", "generation.test_utils": "GenerationTesterMixin"}


class SuiteUnavailable(Exception):
    """The suite cannot be had; says why."""


def import_from_suite(module: str) -> types.ModuleType:
    """A module of the library's tests, such as ``test_modeling_common``.

    Raises:
        SuiteUnavailable: if the source distribution cannot be downloaded.
    """
    if _PACKAGE not in sys.modules:
        folder = _fetch()
        sys.path.append(str(folder / "packages"))
        _add_module(_PACKAGE).__path__ = [str(folder / "tests")]
        for name, wanted in _STAND_INS.items():
            parent = name.split(".")[0]
            _add_module(f"{_PACKAGE}.{parent}").__path__ = []
            setattr(_add_module(f"{_PACKAGE}.{name}"), wanted, type(wanted, (), {}))
    return importlib.import_module(f"{_PACKAGE}.{module}")


def _add_module(name: str) -> types.ModuleType:
    sys.modules[name] = module = types.ModuleType(name)
    return module


def _fetch() -> Path:
    """Folder with ``tests`` (the suite) and ``packages`` (what the suite needs and the library does not)."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ecg_hf_external"
    cache = Path(os.environ.get("ECG_HF_EXTERNAL_CACHE") or default)
    target = cache / f"transformers-{transformers.__version__}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # One download for all workers of a test session, and one failure.
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.is_dir():
                _download(cache, target)
    except OSError as error:
        raise SuiteUnavailable(f"cache folder {cache}: {error}") from None
    return target


def _download(cache: Path, target: Path) -> None:
    wanted = f"transformers=={transformers.__version__}"
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        made = Path(scratch) / "made"
        _pip("download", "--no-binary", ":all:", "--no-deps", "--dest", scratch, wanted)
        _pip("install", "--no-deps", "--target", str(made / "packages"), "parameterized")
        archive = next(Path(scratch).glob("*.tar.gz"))
        with tarfile.open(archive) as tar:
            root = archive.name.removesuffix(".tar.gz")
            members = [m for m in tar.getmembers() if m.name.startswith(f"{root}/tests/") and m.isfile()]
            tar.extractall(scratch, members, filter="data")
        (Path(scratch) / root / "tests").rename(made / "tests")
        made.rename(target)


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--retries", "0"]
    try:
        subprocess.run([*command, *arguments], check=True, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise SuiteUnavailable(f"pip {arguments[0]} did not end within {_TIMEOUT_S} s") from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["no message"]
        raise SuiteUnavailable(f"pip {arguments[0]}: {lines[-1]}") from None
