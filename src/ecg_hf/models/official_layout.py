"""Folders and Hub repositories as a method's authors publish them, loaded by the Auto classes without their code.

Their ``config.json`` has a ``model_type`` of their own, which the registry names beside the method. Weights are
converted while they are loaded, as ``ecg-hf convert`` converts them, and every key is accounted for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedConfig
from transformers.utils import cached_file, logging

from ecg_hf.errors import EcgError, ModelFolderError
from ecg_hf.models.conversion import OfficialState
from ecg_hf.models.registry import OFFICIAL_TYPES

__all__ = ["FETCHING", "official_feature_extractor", "official_type", "read_official"]

logger = logging.get_logger(__name__)

FETCHING = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
"""Options of ``from_pretrained`` that say how a repository's files are fetched."""

_WEIGHTS = "model.safetensors"


def official_type(source: object, options: Mapping[str, Any]) -> str | None:
    """``model_type`` of a folder or repository if it is one of a method's authors, else None.

    Args:
        source: Folder or Hub repository.
        options: How its files are fetched, see :data:`FETCHING`; others are ignored.
    """
    try:
        content, _ = PreTrainedConfig.get_config_dict(str(source), **_fetching(options))
    except (OSError, ValueError):  # no configuration, so nobody's model
        return None
    kind = content.get("model_type")
    return kind if isinstance(kind, str) and kind in OFFICIAL_TYPES else None


def read_official(
    source: object,
    options: Mapping[str, Any],
    convert: Callable[..., Any],
    config: Any,
    sizes: Sequence[str],
) -> Any:
    """The weights of an authors' folder or repository under this package's names.

    Args:
        source: Folder or Hub repository.
        options: How its files are fetched, see :data:`FETCHING`; others are ignored.
        convert: The method's ``convert_official``.
        config: What the folder's ``config.json`` says, in this package's class.
        sizes: Fields of it that must be those of the weights.

    Returns:
        A :class:`ecg_hf.models.conversion.Converted`, whose configuration is inferred from the weights.

    Raises:
        ModelFolderError: if the configuration contradicts the weights.
        ConversionError: if keys or shapes are not those of the method.
    """
    file = cached_file(str(source), _WEIGHTS, **_fetching(options))
    try:
        tensors = load_file(str(file))
    except (SafetensorError, OSError) as error:
        raise ModelFolderError(f"{_WEIGHTS} is not a complete safetensors file", path=str(source)) from error
    try:
        told = {name: getattr(config, name) for name in sizes}
        state = OfficialState(tensors, told)
        converted = convert(state)
        state.finish()
        for name, value in told.items():
            found = getattr(converted.config, name)
            if _plain(found) != _plain(value):
                raise ModelFolderError(
                    f"config.json: {name} is {_plain(value)}, the weights have {_plain(found)}", value=name
                )
    except EcgError as error:
        error.path = str(source)
        raise
    for note in converted.notes:
        logger.warning_once(f"{source}: {note}")
    return converted


def official_feature_extractor(*args: Any, **kwargs: Any) -> Any:
    """The feature extractor of an authors' folder that has none, as its configuration calls for; None for others.

    Takes what ``AutoFeatureExtractor.from_pretrained`` takes.
    """
    from transformers import AutoConfig

    source = args[0] if args else kwargs.pop("pretrained_model_name_or_path")
    if official_type(source, kwargs) is None:
        return None
    rest = {
        name: value
        for name, value in kwargs.items()
        if name not in (*FETCHING, "config", "trust_remote_code") and not name.startswith("_")
    }
    return AutoConfig.from_pretrained(source, **_fetching(kwargs)).feature_extractor(**rest)


def _fetching(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in FETCHING if options.get(name) is not None}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value
