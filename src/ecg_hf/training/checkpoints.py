"""Finding the checkpoint to resume from: the newest one that was written to the end.

``Trainer`` writes a checkpoint file by file, so a process that dies meanwhile leaves a folder that looks
like a checkpoint. Its ``trainer_state.json`` is written last; a folder counts as complete when that file
and all it depends on can be read.
"""

from __future__ import annotations

import logging
import re
import shutil
import zipfile
from pathlib import Path
from typing import TypedDict

from safetensors import SafetensorError, safe_open

from ecg_hf.documents import Count, read_json
from ecg_hf.errors import ConfigurationError

__all__ = ["discard_incomplete_checkpoints", "incompleteness", "newest_complete_checkpoint"]

logger = logging.getLogger(__name__)

STATE_FILE = "trainer_state.json"
WEIGHTS_FILE = "model.safetensors"
WEIGHTS_INDEX_FILE = "model.safetensors.index.json"
TORCH_FILES = ("optimizer.pt", "scheduler.pt")


class _Index(TypedDict):
    """Index of weights in several files."""

    weight_map: dict[str, str]


class _State(TypedDict):
    """State of the trainer, as far as it is looked at here."""

    global_step: Count


def _checkpoints(output_dir: Path) -> list[tuple[int, Path]]:
    found = []
    if output_dir.is_dir():
        for folder in output_dir.iterdir():
            match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
            if match and folder.is_dir():
                found.append((int(match[1]), folder))
    return sorted(found, reverse=True)


def _weight_files(folder: Path) -> list[Path]:
    index = folder / WEIGHTS_INDEX_FILE
    if index.is_file():
        shards = set(read_json(index, _Index)["weight_map"].values())
        return [folder / Path(shard).name for shard in sorted(shards)]
    return [folder / WEIGHTS_FILE]


def incompleteness(checkpoint: Path) -> str | None:
    """Why a checkpoint can't be resumed from, or None when it is whole.

    Args:
        checkpoint: A folder ``checkpoint-<step>``. Checkpoints of sharded (FSDP) training, whose weights lie
            in sub-folders, are judged by their state file alone.
    """
    if not (checkpoint / STATE_FILE).is_file():
        return f"{STATE_FILE} is missing"
    try:
        step = read_json(checkpoint / STATE_FILE, _State)["global_step"]
    except ConfigurationError:
        return f"{STATE_FILE} is unreadable"
    if checkpoint.name != f"checkpoint-{step}":
        return f"{STATE_FILE} belongs to step {step}"
    if any(child.is_dir() for child in checkpoint.glob("*_fsdp_*")) or any(
        checkpoint.glob("pytorch_model_fsdp*")
    ):
        return None
    try:
        for weights in _weight_files(checkpoint):
            with safe_open(weights, framework="pt") as handle:  # checks the header against the file's length
                handle.keys()
    except (OSError, ValueError, KeyError, SafetensorError):
        return "the weights are missing or cut short"
    for name in TORCH_FILES:
        # torch writes zip archives, whose directory comes last: a file cut short has none.
        if not (checkpoint / name).is_file() or not zipfile.is_zipfile(checkpoint / name):
            return f"{name} is missing or cut short"
    return None


def newest_complete_checkpoint(output_dir: Path | str) -> Path | None:
    """The newest checkpoint below ``output_dir`` that can be resumed from, None if there is none.

    Newer ones that were not written to the end are passed over with a warning.
    """
    for _, folder in _checkpoints(Path(output_dir)):
        reason = incompleteness(folder)
        if reason is None:
            return folder
        logger.warning("%s is incomplete (%s): passed over", folder, reason)
    return None


def discard_incomplete_checkpoints(output_dir: Path | str) -> list[Path]:
    """Remove what interrupted saves left below ``output_dir``; returns the folders removed.

    Otherwise the resumed run would later write over them, and for a while old and new files would lie
    side by side in a folder that looks whole.
    """
    removed = []
    for _, folder in _checkpoints(Path(output_dir)):
        reason = incompleteness(folder)
        if reason is not None:
            logger.warning("%s is incomplete (%s): removed", folder, reason)
            (folder / STATE_FILE).unlink(missing_ok=True)
            shutil.rmtree(folder)
            removed.append(folder)
    return removed
