"""Checks of untrusted model folders: bounded sizes, no code or pickles, no outside paths, no missing weights.

Folders may come from anyone. ``transformers`` runs no code of a folder unless ``trust_remote_code=True``, but it
reads pickles (restricted), builds whatever sizes a configuration names, lets an index of shards point anywhere,
fetches attention kernels a configuration asks for, and replaces missing weights by random ones with a warning. Here
each of these is a :class:`~ecg_hf.errors.ModelFolderError`, raised before allocating anything if it is about size.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ecg_hf.errors import ModelFolderError
from ecg_hf.models.registry import METHODS, OFFICIAL_TYPES

__all__ = [
    "FOREIGN_CODE",
    "MAX_COUNT",
    "MAX_LABELS",
    "MAX_SIZE",
    "check_complete",
    "check_config_values",
    "check_finite",
    "check_weight_files",
    "refuse_code_of",
]

MAX_SIZE = 10**8
"""Largest whole number a configuration may hold, far above any real width, vocabulary or signal length."""

MAX_COUNT = 1024
"""Most layers, blocks, heads, states or classes per step of a loop: building modules takes time on any device."""

MAX_LABELS = 10_000
"""Most labels of a classifier: the library creates a name for each before it reads any weight."""

MIN_ALLOWANCE = 1 << 30
"""Bytes a model may need beyond its weights file in any case: fresh heads, position tables, masks."""

_COUNTED = re.compile(r"layers|blocks|heads|depth|state_size|(^|_)(groups|levels|stages)$")
_MAX_DEPTH = 20


FOREIGN_CODE = ("auto_map", "custom_pipelines")
"""Entries of a ``config.json`` that point the library to Python code in a repository."""


def refuse_code_of(source: object, reference: str, **options: Any) -> None:
    """Refuse to run code of a repository with a model of this package, even with ``trust_remote_code=True``.

    All classes of such a repository are in this package or in ``transformers``; only the ``auto_map`` of a
    tokenizer or processor asks for others.

    Args:
        source: Folder or Hub repository that was asked for.
        reference: The code it names, as ``module.Class``.
        options: How its files are fetched: ``revision``, ``token``, ``cache_dir`` and so on.

    Raises:
        ModelFolderError: if its ``config.json`` is of a method of this package.
    """
    from transformers import PreTrainedConfig

    fetching = ("cache_dir", "force_download", "token", "revision", "local_files_only", "subfolder")
    try:
        content, _ = PreTrainedConfig.get_config_dict(
            str(source), **{name: options[name] for name in fetching if name in options}
        )
    except (OSError, ValueError):  # without a configuration it is not a model of this package
        return
    if content.get("model_type") in {*METHODS, *OFFICIAL_TYPES}:
        raise ModelFolderError(
            f"asks to run its own code, {reference}; models of this package need none", path=str(source),
            value=reference,
        )  # fmt: skip


def check_config_values(values: Mapping[str, Any], config_class: type, path: object = None) -> None:
    """Refuse a configuration that would exhaust the machine, run foreign code or break its own class.

    Args:
        values: Content of ``config.json``.
        config_class: The class it is for.
        path: For the message.

    Raises:
        ModelFolderError: naming the field.
    """
    where = None if not path else str(path)
    for key in values:
        # The library would call ``setattr(config, "to_dict", ...)`` for a field of that name.
        there = getattr(config_class, key, None)
        derived = isinstance(there, property) and there.fset is None
        if callable(there) or derived or key.startswith("__"):
            raise ModelFolderError(f"config.json: {key!r} is not a field", path=where, value=key)
    for key in ("dtype", "torch_dtype"):
        value = values.get(key)
        known = isinstance(value, torch.dtype) or (
            isinstance(value, str)
            and isinstance(getattr(torch, value.removeprefix("torch."), None), torch.dtype)
        )
        if value is not None and not known:
            raise ModelFolderError(f"config.json: {key} is not a dtype, {value!r}", path=where, value=value)
    for name, value in _leaves(values, "", 0, where):
        field = name.rpartition(".")[2]
        if isinstance(value, str) and field != "num_labels":
            # "org/name" makes the library download a compiled kernel and run it, even without trust_remote_code.
            if "attn_implementation" in name and ("/" in value or "\\" in value):
                raise ModelFolderError(
                    f"config.json: {name} asks for foreign code, {value!r}", path=where, value=value
                )
        elif field == "num_labels" and value is not None:
            if type(value) is not int or not 0 <= value <= MAX_LABELS:
                raise ModelFolderError(
                    f"config.json: {name} = {value} is not within 0..{MAX_LABELS}", path=where, value=value
                )
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            limit = MAX_COUNT if _COUNTED.search(field) else MAX_SIZE
            if isinstance(value, int) and abs(value) > limit:
                raise ModelFolderError(
                    f"config.json: {name} = {value} is larger than {limit}", path=where, value=value
                )


def _leaves(value: Any, name: str, depth: int, where: str | None) -> Iterator[tuple[str, Any]]:
    if depth > _MAX_DEPTH:
        raise ModelFolderError("config.json is nested too deeply", path=where)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key), depth + 1, where)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _leaves(inner, name, depth + 1, where)
    else:
        yield name, value


def check_weight_files(
    model: nn.Module, files: Sequence[str], source: str | os.PathLike[str] | None, *, allow_mismatch: bool
) -> None:
    """Compare a model without storage with the headers of its weight files.

    Args:
        model: Built on the ``meta`` device.
        files: Weight files the library resolved.
        source: Folder or Hub repository they belong to.
        allow_mismatch: Tensors of another shape are re-initialised on purpose (``ignore_mismatched_sizes``).

    Raises:
        ModelFolderError: if a file is not a safetensors file or is outside the folder, a shape differs, or the
            model would need far more memory than its files hold.
    """
    where = None if source is None else str(source)
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        _check_place(file, files[0], where)
        shapes |= _shapes(file, where)
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    beyond, first_missing = 0, ""
    for name, tensor in own.items():
        # A head may be loaded from its base's weights, and the other way round.
        found = next(
            (shapes[n] for n in (name, prefix + name, name.removeprefix(prefix)) if n in shapes), None
        )
        if found is None or (found != tuple(tensor.shape) and allow_mismatch):
            first_missing = first_missing or name
            beyond += tensor.numel() * tensor.element_size()
        elif found != tuple(tensor.shape):
            raise ModelFolderError(
                f"{name} has shape {list(found)} in the weights, {list(tensor.shape)} by the configuration",
                path=where,
                value=name,
            )
    allowed = max(MIN_ALLOWANCE, 4 * sum(os.path.getsize(file) for file in files))
    if beyond > allowed:
        raise ModelFolderError(
            f"the configuration asks for {beyond / 1e9:.1f} GB that are not in the weights, first {first_missing}",
            path=where,
            value=beyond,
        )


def _check_place(file: str, first: str, where: str | None) -> None:
    """Check that all files an index of shards names are directly in the folder asked for."""
    if not file.endswith(".safetensors"):
        raise ModelFolderError(
            f"weights are read from safetensors only; {Path(file).name} may be a pickle",
            path=where,
            value=file,
        )
    # Users may write the folder itself with "..", but the index must not.
    place = Path(os.path.abspath(file))
    strays = place.parent != Path(os.path.abspath(first)).parent
    if where is not None and os.path.isdir(where):
        strays = strays or Path(os.path.abspath(where)) not in place.parents
    else:
        strays = strays or ".." in Path(file).parts
    if strays:
        raise ModelFolderError("the index of weights names a file outside the folder", path=where, value=file)


def _shapes(file: str, where: str | None) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(file, framework="pt") as handle:
            return {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFolderError(f"{Path(file).name} is not a complete safetensors file", path=where) from error


def check_complete(model: nn.Module, info: Mapping[str, Any], source: object) -> None:
    """Refuse weights that don't fit the class they were saved from.

    A head on a pretrained encoder may start with new weights, for fine-tuning. An encoder may not, and neither may
    anything in a folder that was saved from the same class.

    Args:
        model: As loaded.
        info: The library's report on the loading.
        source: For the message.

    Raises:
        ModelFolderError: naming the first tensor.
    """
    saved_as = getattr(model.config, "architectures", None) or ()
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    is_head = any(name.startswith(prefix) for name, _ in model.named_parameters())
    missing = sorted(map(str, info["missing_keys"]))
    unexpected = sorted(map(str, info["unexpected_keys"]))
    if type(model).__name__ not in saved_as:
        missing = [name for name in missing if name.startswith(prefix)] if is_head else missing
        # Parts of the class the folder was saved from may be left over: a decoder, a classifier.
        known = _names_of(saved_as, model.config) if unexpected else frozenset()
        unexpected = [name for name in unexpected if name not in known and prefix + name not in known]
    for names, what in ((missing, "missing"), (unexpected, "unknown")):
        if names:
            raise ModelFolderError(
                f"{len(names)} weights are {what}, first {names[0]}",
                path=None if source is None else str(source),
                value=names,
            )


def _names_of(class_names: Sequence[str], config: Any) -> frozenset[str]:
    """Names of the weights of these classes of the method, built without storage."""
    spec = METHODS.get(config.model_type)
    names: set[str] = set()
    if spec is None:
        return frozenset()
    for role in spec.roles:
        if spec.class_name(role) in class_names:
            with torch.device("meta"):
                names |= set(spec.load(role)(config).state_dict())
    return frozenset(names)


def check_finite(model: nn.Module, source: object) -> None:
    """Refuse weights that hold NaN or infinity.

    Raises:
        ModelFolderError: naming the first tensor.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not tensor.is_meta and not bool(torch.isfinite(tensor).all()):
            raise ModelFolderError(
                f"{name} holds NaN or infinite weights",
                path=None if source is None else str(source),
                value=name,
            )
