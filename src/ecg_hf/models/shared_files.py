"""Which files of a folder belong to the model, may be pushed, and decide what it answers."""

from __future__ import annotations

import hashlib
import os
from fnmatch import fnmatch
from pathlib import Path

from ecg_hf.errors import ModelFolderError

__all__ = ["CARD_FILE", "belongs_to_model", "model_digest", "model_files"]

CARD_FILE = "README.md"

_PUBLIC = (
    *("config.json", "model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("preprocessor_config.json", "processor_config.json", "ecg_hf_shim.py", CARD_FILE),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model"),
)
"""Everything else is never pushed: checkpoints, logs, settings with local paths, pickles."""


def belongs_to_model(name: str) -> bool:
    """Whether a file of that name is part of a model, as far as this package and transformers read it."""
    return any(fnmatch(name, pattern) for pattern in _PUBLIC)


def model_files(folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Files of the model in a folder, sorted by name.

    Raises:
        ModelFolderError: if one of them is a link that leaves the folder: with an untrusted folder that could push a
            file of the user's. Links of the Hub's cache, from a snapshot to its blobs, are allowed.
    """
    files = tuple(
        file for file in sorted(Path(folder).iterdir()) if belongs_to_model(file.name) and file.is_file()
    )
    home = Path(os.path.realpath(folder))
    homes = {home, home.parent.parent / "blobs"} if home.parent.name == "snapshots" else {home}
    for file in files:
        if Path(os.path.realpath(file)).parent not in homes:
            raise ModelFolderError("is a link that leaves the model's folder", path=file)
    return files


def model_digest(folder: str | os.PathLike[str]) -> str:
    """Identifies what a model answers by the content of its files; its card is none of them.

    Raises:
        ModelFolderError: see :func:`model_files`.
    """
    digest = hashlib.sha256()
    for path in model_files(folder):
        if path.name != CARD_FILE:
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
