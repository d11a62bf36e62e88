"""Loading a model folder or Hub repository for a command, with typed errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ecg_hf.cli.output import quiet_libraries
from ecg_hf.errors import EcgError, ModelFolderError

__all__ = ["load_model", "load_pipeline", "resolve_device"]


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


@contextmanager
def _one_line_errors(name_or_path: str) -> Iterator[None]:
    """Turn what the library raises for a broken or absent model into one line."""
    from safetensors import SafetensorError

    if Path(name_or_path).exists() and not (Path(name_or_path) / "config.json").is_file():
        raise ModelFolderError("no config.json here, so this is no model folder", path=name_or_path)
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        if isinstance(error, EcgError):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        private = any("private" in line for line in lines[1:]) and not Path(name_or_path).exists()
        hint = "; for a private repository log in with `hf auth login` or set HF_TOKEN" if private else ""
        raise ModelFolderError(f"can't load a model: {lines[0]}{hint}", path=name_or_path) from error


def load_model(name_or_path: str, *, device: str | None = None) -> tuple[Any, Any]:
    """The base model and feature extractor of a folder or Hub repository, in evaluation mode.

    Raises:
        ModelFolderError: if there is no such model or its files can't be loaded.
    """
    quiet_libraries()
    from transformers import AutoFeatureExtractor, AutoModel

    target = resolve_device(device)
    with _one_line_errors(name_or_path):
        model, info = AutoModel.from_pretrained(name_or_path, output_loading_info=True, use_safetensors=True)
        extractor = AutoFeatureExtractor.from_pretrained(name_or_path)
    if info["missing_keys"] or info["mismatched_keys"]:
        missing = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
        raise ModelFolderError(
            f"{len(missing)} weights are missing or of the wrong shape, first {missing[0]}", path=name_or_path
        )
    return model.to(target).eval(), extractor


def load_pipeline(task: str, name_or_path: str, *, device: str | None = None) -> Any:
    """A pipeline of this package for a folder or Hub repository.

    Raises:
        ModelFolderError: if there is no such model, its files can't be loaded, or it has no head for the task.
    """
    quiet_libraries()
    from transformers import AutoConfig, pipeline

    target = resolve_device(device)
    with _one_line_errors(name_or_path):
        if task == "ecg-classification":
            architectures = AutoConfig.from_pretrained(name_or_path).architectures or []
            if not any("Classification" in name for name in architectures):
                raise ModelFolderError(
                    "this model has no classifier: give --labels for zero-shot", path=name_or_path
                )
        return pipeline(task, model=name_or_path, device=target)
