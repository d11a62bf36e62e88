"""Checks a saved model from outside: a new process, Auto classes only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ModelFolderError

__all__ = ["reload_in_clean_process"]

_SCRIPT = """
import json, sys
import ecg_hf
from ecg_hf.data import load_built
from ecg_hf.evaluation import embed_dataset, read_embeddings
from transformers import AutoFeatureExtractor, AutoModel

folder, dataset, rows, device, threads, output = json.loads(sys.stdin.read())
import torch
torch.set_num_threads(threads)
model = AutoModel.from_pretrained(folder)
extractor = AutoFeatureExtractor.from_pretrained(folder)
records = load_built(dataset).select(rows)
embed_dataset(model.to(device), extractor, records, batch_size=len(rows), output=output, progress=False)
print(type(model).__name__, type(extractor).__name__)
"""


def reload_in_clean_process(
    model_folder: Path,
    dataset_folder: Path,
    rows: list[int],
    expected: npt.NDArray[np.float32],
    scratch: Path,
    *,
    device: str = "cpu",
    threads: int = 1,
) -> dict[str, Any]:
    """Load a model through the Auto classes in a fresh interpreter and embed some records again.

    Args:
        model_folder: The saved model.
        dataset_folder: The built dataset.
        rows: Records to embed.
        expected: float32 ``(rows, dim)``, computed here from the model in memory, in one batch of the same rows.
        scratch: Folder for the other process's result.
        device: Device of both computations.
        threads: Threads of both computations.

    Returns:
        ``max_difference``, ``records`` and the classes the Auto classes chose.

    Raises:
        ModelFolderError: if the other process fails or its embeddings differ in a single bit.
    """
    output = scratch / "reloaded.safetensors"
    output.unlink(missing_ok=True)
    request = json.dumps([str(model_folder), str(dataset_folder), rows, device, threads, str(output)])
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        input=request,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelFolderError(f"the model does not load in a clean process: {reason}", path=model_folder)
    from ecg_hf.evaluation import read_embeddings

    difference = float(np.abs(read_embeddings(output) - expected).max())
    if difference != 0.0:
        raise ModelFolderError(
            f"a clean process gets other embeddings, by up to {difference:.3g}",
            path=model_folder,
            value=difference,
        )
    model_class, extractor_class = result.stdout.split()[-2:]
    return {
        "max_difference": difference,
        "records": len(rows),
        "model_class": model_class,
        "feature_extractor_class": extractor_class,
    }
