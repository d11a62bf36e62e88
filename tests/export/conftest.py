"""One export of the shipped classifier for all tests, made by the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CLASSIFIER = "ecg-distil-ptbxl-statements"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the shipped classifier in ONNX."""
    for library in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(library, reason="the extra 'export' is not installed")
    folder = tmp_path_factory.mktemp("export") / "classifier"
    done = subprocess.run(
        [sys.executable, "-m", "ecg_hf.cli", "export", CLASSIFIER, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "logits" in done.stdout
    return folder
