"""What ships with the package: models by name, and a recording to try them on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ecg_hf.errors import ConfigurationError

__all__ = [
    "DEFAULT_CLASSIFIER",
    "DEFAULT_MODEL",
    "ShippedModel",
    "list_pretrained",
    "pretrained_folder",
    "sample_record",
    "weights_folder",
]

DEFAULT_MODEL = "ecg-distil-ptbxl"
"""The encoder that is used where none is named."""

DEFAULT_CLASSIFIER = "ecg-distil-ptbxl-statements"
"""The classifier that is used where none is named."""

_INDEX = "index.json"
_SAMPLE = "sample_record/02940_lr.hea"


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """A model in the package.

    Attributes:
        name: What ``ecg_hf.pretrained`` takes.
        method: Name of its method in the registry.
        task: ``embedding`` or ``classification``.
        path: Its folder.
        size_bytes: All files of the folder.
        sha256: Digest of its weights.
        licence: SPDX identifier of the weights' licence.
        supervision: What it learnt from: ``labels``, ``reports``, ``measurements`` or several.
        trained_on: The recordings.
    """

    name: str
    method: str
    task: str
    path: str
    size_bytes: int
    sha256: str
    licence: str
    supervision: str
    trained_on: str

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def weights_folder() -> Path:
    """Where the package's weights are."""
    return Path(str(resources.files("ecg_hf.weights")))


@cache
def list_pretrained() -> tuple[ShippedModel, ...]:
    """All models that ship with the package."""
    folder = weights_folder()
    index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    return tuple(_shipped(folder / entry["name"], entry) for entry in index)


def _shipped(folder: Path, entry: dict[str, str]) -> ShippedModel:
    """A model's entry in the index, with what its folder says."""
    method = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    size = sum(file.stat().st_size for file in folder.iterdir())
    return ShippedModel(method=method, path=str(folder), size_bytes=size, **entry)


def pretrained_folder(name: str) -> Path:
    """Folder of a model that ships with the package.

    Raises:
        ConfigurationError: for an unknown name; the message lists those there are.
    """
    for model in list_pretrained():
        if model.name == name:
            return Path(model.path)
    known = ", ".join(model.name for model in list_pretrained())
    raise ConfigurationError(f"no pretrained model {name!r}; there are {known}", value=name)


def sample_record() -> Path:
    """A recording that ships with the package: PTB-XL 2940, twelve leads of 10 s at 100 Hz, left bundle branch block.

    It is of fold 9, which no model of :func:`list_pretrained` was trained on. Source and licence (CC BY 4.0) are in
    ``README.md`` beside it.

    Example:
        >>> record = ecg_hf.read_record(ecg_hf.sample_record())
    """
    return weights_folder() / _SAMPLE
