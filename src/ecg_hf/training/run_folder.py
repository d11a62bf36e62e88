"""The output folder of a run: whose it is, and whether a run may go on in it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecg_hf.documents import read_json
from ecg_hf.errors import ConfigurationError
from ecg_hf.files import write_whole
from ecg_hf.training.training_log import LOG_FILE

__all__ = ["RUN_FILE", "claim_run_folder", "leave_run_folder", "write_json"]

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"
"""Everything a run's result depends on."""


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that is never seen half-written."""
    write_whole(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def claim_run_folder(folder: Path, settings: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Make ``folder`` the home of a run with these ``settings``, or find that it already is.

    Args:
        folder: Output folder; created if need be.
        settings: What the result depends on, as JSON values.
        resume: A run with the same settings may be continued.
        overwrite: Whatever run is there is thrown away.

    Raises:
        ConfigurationError: The folder holds a run and neither was allowed, or a run with other settings.
    """
    file = folder / RUN_FILE
    settings = json.loads(json.dumps(settings))
    if overwrite and not resume:
        _clear(folder)
    if file.is_file():
        there: dict[str, Any] = read_json(file, dict[str, Any])
        if not resume:
            raise ConfigurationError(
                "holds a run already: continue it with --resume (resume=True), throw it away with --overwrite "
                "(overwrite=True), or choose another folder",
                path=folder,
            )
        differing = _differences(there, settings)
        if differing:
            raise ConfigurationError(
                f"holds a run with other settings, which can't be resumed with these: {'; '.join(differing)}",
                path=folder,
                value=differing,
            )
        return
    if any(folder.glob("checkpoint-*")):
        raise ConfigurationError(f"holds checkpoints but no {RUN_FILE}: choose another folder", path=folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, settings)


def leave_run_folder(folder: Path) -> None:
    """Give up a folder in which nothing was trained, so that it is not in the way of the corrected command.

    Args:
        folder: Claimed by :func:`claim_run_folder`; left as it is once it holds checkpoints.
    """
    if any(folder.glob("checkpoint-*")):
        return
    for name in (RUN_FILE, LOG_FILE):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted({*there, *here}):
        old, new = there.get(key), here.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found.extend(_differences(old, new, f"{prefix}{key}."))
        elif old != new:
            found.append(f"{prefix}{key} was {old}, is {new}")
    return found


def _clear(folder: Path) -> None:
    if not (folder / RUN_FILE).is_file():
        return
    logger.warning("%s: the run in this folder is thrown away", folder)
    (folder / RUN_FILE).unlink()
    (folder / LOG_FILE).unlink(missing_ok=True)
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
