"""Loading a model folder or Hub repository for a command, with typed errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ecg_hf.cli.output import quiet_libraries
from ecg_hf.errors import EcgError, ModelFolderError

__all__ = [
    "load_classifier",
    "load_config",
    "load_model",
    "load_pipeline",
    "local_classifier",
    "local_model",
    "piece_device",
    "resolve_device",
]


def resolve_device(device: str | None) -> str:
    """The device asked for, or the best available one.

    Raises:
        ModelFolderError: if the device is not available.
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelFolderError(f"device {device!r} can't be used here", value=device) from error
    return device


def piece_device(device: str | None, engine: str) -> str:
    """The device of pieces: the workers of a cluster may have one that this machine has not.

    Raises:
        ModelFolderError: if pieces run on this machine, and it has no such device.
    """
    return device if engine == "dask" and device is not None else resolve_device(device)


@contextmanager
def _one_line_errors(name_or_path: str) -> Iterator[None]:
    """Turn what the library raises for a broken or missing model into one line."""
    folder = Path(name_or_path)
    if folder.exists() and not (folder / "config.json").is_file():
        raise ModelFolderError("not a model folder: it has no config.json", path=name_or_path)
    if (folder / "adapter_config.json").is_file():
        # With peft installed the library would load the base model this file names, from any address.
        raise ModelFolderError("this is an adapter; merge it into its model first", path=name_or_path)
    try:
        yield
    except EcgError as error:
        error.path = error.path or name_or_path
        raise
    # For damaged files the library raises TypeError, AttributeError, UnpicklingError, RecursionError and more.
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        reason = lines[0].rstrip(":") or type(error).__name__
        private = any("private" in line for line in lines[1:]) and not folder.exists()
        hint = "; for a private repository log in with `hf auth login` or set HF_TOKEN" if private else ""
        raise ModelFolderError(f"can't load a model: {reason}{hint}", path=name_or_path) from error


def load_model(name_or_path: str, *, device: str | None = None) -> tuple[Any, Any]:
    """The base model and feature extractor of a folder or Hub repository, in evaluation mode.

    Raises:
        ModelFolderError: if there is no such model or its files can't be loaded.
    """
    quiet_libraries()
    from transformers import AutoFeatureExtractor, AutoModel

    from ecg_hf.hub.fetching import resolve_model
    from ecg_hf.processing import EcgFeatureExtractor

    target, name_or_path = resolve_device(device), resolve_model(name_or_path)
    with _one_line_errors(name_or_path):
        _checked_config(name_or_path)
        model = AutoModel.from_pretrained(name_or_path, trust_remote_code=False)
        extractor = AutoFeatureExtractor.from_pretrained(name_or_path, trust_remote_code=False)
        if not isinstance(extractor, EcgFeatureExtractor):
            raise ModelFolderError(f"{type(extractor).__name__} is not a feature extractor for ECGs")
    return model.to(target).eval(), extractor


def load_config(name_or_path: str) -> Any:
    """The configuration of a folder or Hub repository.

    Raises:
        ModelFolderError: if there is no such model, or it is not one of this package.
    """
    quiet_libraries()
    with _one_line_errors(name_or_path):
        return _checked_config(name_or_path)


def _checked_config(name_or_path: str) -> Any:
    """The configuration. Checked before anything else is opened, because another library's model may be a pickle.

    Raises:
        ModelFolderError: if it is not one of this package.
    """
    from transformers import AutoConfig

    from ecg_hf.models.configuration import EcgConfig

    config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
    if not isinstance(config, EcgConfig):
        raise ModelFolderError(
            f"{config.model_type!r} is not a method of this package", value=config.model_type
        )
    return config


def _check_classifies(config: Any) -> None:
    """Refuse a model without a classifier.

    Raises:
        ModelFolderError: if it has none; says what to do instead.
    """
    from ecg_hf.models.registry import get_method

    if not any("Classification" in name for name in config.architectures or []):
        multimodal = get_method(config.model_type).multimodal
        instead = "fine-tune one with ecg-hf finetune"
        if multimodal:
            instead += ", or ask it about texts with ecg-hf predict --labels"
        raise ModelFolderError(f"this model has no classifier: {instead}")


def local_model(name_or_path: str) -> str:
    """Folder of a model for processes that load it themselves; a Hub repository is fetched into its cache.

    Nothing is loaded here: what a process has loaded or put on a GPU does not survive its fork.

    Raises:
        ModelFolderError: if there is no such model, or it is not one of this package.
    """
    return _local(name_or_path)[0]


def local_classifier(name_or_path: str) -> tuple[str, str]:
    """As :func:`local_model`, of a classifier, and what answers call it.

    Raises:
        ModelFolderError: if there is no such model, it is not one of this package, or it has no classifier.
    """
    folder, name, config = _local(name_or_path)
    with _one_line_errors(name):
        _check_classifies(config)
    return folder, Path(name).name if Path(name).is_dir() else name


def _local(name_or_path: str) -> tuple[str, str, Any]:
    from huggingface_hub import snapshot_download

    from ecg_hf.hub.fetching import resolve_model

    name = resolve_model(name_or_path)
    config = load_config(name)
    with _one_line_errors(name):
        folder = name
        if not Path(name).is_dir():
            folder = snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"])
    return folder, name, config


def load_pipeline(task: str, name_or_path: str, *, device: str | None = None) -> Any:
    """A pipeline of this package for a folder or Hub repository.

    Raises:
        ModelFolderError: if the model does not exist, its files can't be loaded, or it has no head for the task.
    """
    quiet_libraries()
    from transformers import pipeline

    from ecg_hf.hub.fetching import resolve_model
    from ecg_hf.models.registry import METHODS, get_method

    target, name_or_path = resolve_device(device), resolve_model(name_or_path)
    with _one_line_errors(name_or_path):
        config = _checked_config(name_or_path)
        multimodal = get_method(config.model_type).multimodal
        if task == "zero-shot-ecg-classification" and not multimodal:
            able = ", ".join(spec.name for spec in METHODS.values() if spec.multimodal)
            raise ModelFolderError(
                f"{config.model_type} was trained on signals alone and can't score --labels: fine-tune a "
                f"classifier, or use a method with a text side: {able}"
            )
        if task == "ecg-classification":
            _check_classifies(config)
        return pipeline(task, model=name_or_path, device=target, trust_remote_code=False)


def load_classifier(name_or_path: str, *, device: str | None = None) -> tuple[Any, Any, str, str]:
    """A classifier, its feature extractor, its folder or repository, and the device it is to run on.

    Raises:
        ModelFolderError: if there is no such model, its files can't be loaded, or it has no classifier.
    """
    from ecg_hf.hub.fetching import resolve_model

    pipe = load_pipeline("ecg-classification", name_or_path, device=device)
    return pipe.model, pipe.feature_extractor, resolve_model(name_or_path), resolve_device(device)
