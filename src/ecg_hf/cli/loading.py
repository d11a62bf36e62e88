"""Loading a model folder or Hub repository for a command, with typed errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ecg_hf.cli.output import quiet_libraries
from ecg_hf.errors import ModelFolderError

__all__ = ["load_model", "resolve_device"]

Task = Literal["embed", "zero-shot", "classify"]


def resolve_device(device: str | None) -> str:
    """The device asked for, or the best there is.

    Raises:
        ModelFolderError: if the device does not exist here.
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelFolderError(f"device {device!r} can't be used here", value=device) from error
    return device


def load_model(name_or_path: str, *, device: str | None = None) -> tuple[Any, Any]:
    """The base model and feature extractor of a folder or Hub repository, in evaluation mode.

    Raises:
        ModelFolderError: if there is no such model or its files can't be loaded.
    """
    quiet_libraries()
    import ecg_hf  # noqa: F401  (registers the Auto classes)
    from safetensors import SafetensorError
    from transformers import AutoFeatureExtractor, AutoModel

    target = resolve_device(device)
    if Path(name_or_path).exists() and not (Path(name_or_path) / "config.json").is_file():
        raise ModelFolderError("no config.json here, so this is no model folder", path=name_or_path)
    try:
        model, info = AutoModel.from_pretrained(name_or_path, output_loading_info=True, use_safetensors=True)
        extractor = AutoFeatureExtractor.from_pretrained(name_or_path)
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelFolderError(f"can't load a model: {reason}", path=name_or_path) from error
    if info["missing_keys"] or info["mismatched_keys"]:
        missing = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
        raise ModelFolderError(
            f"{len(missing)} weights are missing or of the wrong shape, first {missing[0]}", path=name_or_path
        )
    return model.to(target).eval(), extractor
