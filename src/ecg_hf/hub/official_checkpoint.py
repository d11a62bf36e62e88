"""Reading checkpoints as method authors publish them: tensors only, never code.

A ``.safetensors`` file is read as such; everything else by ``torch.load(weights_only=True)``, which builds
only tensors and plain containers. Lightning and other training checkpoints wrap the weights in containers
next to optimiser states and counters: the weights are extracted, counters are kept as facts, the rest is listed as
ignored.
"""

from __future__ import annotations

import hashlib
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ecg_hf.errors import ConversionError

__all__ = ["OfficialCheckpoint", "read_official_checkpoint"]

# Entries that hold the weights themselves: their names are not part of the keys.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
# Entries of training checkpoints that hold tensors but not weights.
_TRAINING_STATE = (
    "optimizer",
    "optimizer_state_dict",
    "optimizer_states",
    "scaler",
    "lr_scheduler",
    "lr_schedulers",
)
# Entries that hold the sizes of the network.
_CONFIGURATIONS = ("cfg", "config", "args", "hyper_parameters")
# Beside that of the network, what a fine-tuned one was made with.
_OF_FINE_TUNING = "eval_config"
_PROCESS_PREFIXES = ("module.", "_orig_mod.")  # prefixes added by DistributedDataParallel and torch.compile


@dataclass(frozen=True, slots=True, eq=False)
class OfficialCheckpoint:
    """A checkpoint, flat.

    Attributes:
        tensors: By key; nested containers joined with dots.
        facts: Numbers and short texts found beside them, such as ``epoch``.
        ignored: Entries that were neither.
        config: The authors' configuration, if it is beside the weights.
        sha256: Of the file.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    sha256: str = ""
    config: dict[str, Any] = field(default_factory=dict)


def read_official_checkpoint(path: str | Path, allowed_globals: Sequence[Any] = ()) -> OfficialCheckpoint:
    """Read a checkpoint without running any code it may hold.

    Args:
        path: ``.safetensors`` file, or a file written by ``torch.save``.
        allowed_globals: Harmless classes the unpickler may build beyond tensors and containers, such as
            ``argparse.Namespace``. Their content is ignored.

    Raises:
        ConversionError: The file is missing, damaged, holds other objects than those, or no tensor.
    """
    path = Path(path)
    if not path.is_file():
        raise ConversionError("checkpoint not found", path=path)
    content = (
        _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path, allowed_globals)
    )
    tensors: dict[str, Tensor] = {}
    facts: dict[str, Any] = {}
    ignored: list[str] = []
    _flatten(content, "", tensors, facts, ignored)
    if not tensors:
        raise ConversionError("holds no tensors", path=path)
    _check_storage(tensors, path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return OfficialCheckpoint(
        _without_process_prefix(tensors), facts, tuple(ignored), digest, _configuration(content)
    )


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except (SafetensorError, OSError) as error:
        raise ConversionError(f"not a safetensors file: {error}", path=path) from None


def _load_pickle(path: Path, allowed_globals: Sequence[Any]) -> Any:
    try:
        with torch.serialization.safe_globals(list(allowed_globals)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"an object of {found[1]}" if found else "something other than tensors, or is not a checkpoint"
        raise ConversionError(
            f"refused: the file holds {what}, and building that could run code; ask its authors for a file of plain "
            "tensors, or re-save the state dict as safetensors where you trust it",
            path=path,
            value=found[1] if found else None,
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConversionError(f"not a checkpoint torch can read: {first}", path=path) from None


def _flatten(
    content: Any, prefix: str, tensors: dict[str, Tensor], facts: dict[str, Any], ignored: list[str]
) -> None:
    if not isinstance(content, Mapping):
        ignored.append(prefix.rstrip(".") or type(content).__name__)
        return
    for name, value in content.items():
        key = f"{prefix}{name}"
        if isinstance(value, Tensor):
            tensors[key] = value
        elif isinstance(value, Mapping) and key not in _TRAINING_STATE and isinstance(name, str):
            _flatten(value, "" if key in _WRAPPERS else f"{key}.", tensors, facts, ignored)
        elif isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= 100):
            facts[key] = value
        else:
            ignored.append(key)


def _check_storage(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that claim more numbers than the file holds: strides of 0 make terabytes of a few bytes."""
    for key, value in tensors.items():
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ConversionError(
                f"{key} claims the shape {tuple(value.shape)}, for which the file holds too few numbers",
                path=path,
                value=key,
            )


def _configuration(content: Any) -> dict[str, Any]:
    """Sizes that a training checkpoint keeps beside its weights; fairseq has those of the model one level down."""
    for name in _CONFIGURATIONS if isinstance(content, Mapping) else ():
        found = content.get(name)
        found = vars(found) if isinstance(found, Namespace) else found
        if isinstance(found, Mapping):
            inner = found.get("model")
            tuned = content.get(_OF_FINE_TUNING)
            return {
                **(tuned if isinstance(tuned, Mapping) else {}),
                **(inner if isinstance(inner, Mapping) else found),
            }
    return {}


def _without_process_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PROCESS_PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors
