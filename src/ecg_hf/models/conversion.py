"""Keeps track of the authors' tensors: each must be taken, marked as not needed, or is an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ecg_hf.errors import ConversionError
from ecg_hf.models.configuration import EcgConfig
from ecg_hf.models.registry import ClassRole

__all__ = ["Converted", "OfficialFiles", "OfficialState", "attention_heads"]

_SHOWN = 6  # keys of one kind named in a message


@dataclass(frozen=True, slots=True)
class OfficialFiles:
    """What a method's authors publish; each converter's module has one as ``FILES``.

    Attributes:
        names: Names of the files.
        repository: Where they are, or where the address is said.
        size_bytes: Weights of the largest model in float32; training checkpoints hold more than weights.
        parity: What was shown to be equal, and how.
        keys: Ends of keys that such a file has and files of other methods don't.
        part_keys: The same, a tuple for each, of files that hold a part of the network without those of ``keys``.
    """

    names: tuple[str, ...]
    repository: str
    size_bytes: int
    parity: str
    keys: tuple[str, ...]
    part_keys: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """An official checkpoint converted to this package's names.

    Attributes:
        config: Configuration, inferred from the tensors' shapes and the options.
        state_dict: Weights under the names of the class in ``role``.
        role: ``model``, ``pretraining`` or ``classification``.
        notes: What a user of the result should know, such as parts the checkpoint did not have.
        extractor: Fields of the feature extractor that the checkpoint tells.
    """

    config: EcgConfig
    state_dict: dict[str, Tensor]
    role: ClassRole
    notes: tuple[str, ...] = ()
    extractor: Mapping[str, Any] = field(default_factory=dict)


class OfficialState:
    """Official tensors by key, with a record of which were taken.

    Problems are collected instead of raised one by one: :meth:`take` returns zeros for tensors that are missing or
    don't fit, and :meth:`finish` lists everything that is missing, mis-shaped or left over.

    Args:
        tensors: The checkpoint, flat.
        config: Sizes that tensors don't tell, under the authors' names: what the checkpoint or the user says.
    """

    def __init__(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> None:
        self._tensors = dict(tensors)
        self._config = dict(config or {})
        self._seen: set[str] = set()
        self._missing: list[str] = []
        self._misshaped: list[str] = []

    def keys(self) -> Iterable[str]:
        """All keys of the checkpoint."""
        return self._tensors.keys()

    def has(self, prefix: str) -> bool:
        """Whether a key is, or starts with, ``prefix``."""
        return any(key.startswith(prefix) for key in self._tensors)

    def count(self, pattern: str) -> int:
        """Number of consecutive ``i`` from 0 for which ``pattern.format(i)`` starts some key."""
        number = 0
        while self.has(pattern.format(number)):
            number += 1
        return number

    def shape(self, key: str) -> tuple[int, ...] | None:
        """Shape of a tensor, or None if it does not exist. Does not count as taking it."""
        return tuple(self._tensors[key].shape) if key in self._tensors else None

    def options(self, *names: str, published: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Values of the authors' configuration.

        Args:
            names: What is asked for.
            published: Values of the published network, if the tensors are those of one; the configuration's go first.

        Raises:
            ConversionError: naming those that are not known.
        """
        known = {**(published or {}), **self._config}
        missing = [name for name in names if name not in known]
        if missing:
            raise ConversionError(
                f"tensors do not tell {', '.join(missing)}: give the authors' configuration, --config FILE.json",
                value=missing,
            )
        return {name: known[name] for name in names}

    def take_weight_norm(
        self, prefix: str, hidden_size: int, group_width: int, kernel_size: int
    ) -> dict[str, Tensor]:
        """Scale, direction and bias of a convolution with weight norm per tap, in either spelling of torch."""
        new = self.has(f"{prefix}parametrizations.")
        scale, direction = (
            ("parametrizations.weight.original0", "parametrizations.weight.original1")
            if new
            else ("weight_g", "weight_v")
        )
        return {
            "scale": self.take(prefix + scale, 1, 1, kernel_size),
            "direction": self.take(prefix + direction, hidden_size, group_width, kernel_size),
            "bias": self.take(f"{prefix}bias", hidden_size),
        }

    def require_shape(self, key: str, dims: int) -> tuple[int, ...]:
        """Shape of a tensor that sizes are read from.

        Raises:
            ConversionError: if it is missing or has another number of dimensions, in which case nothing else can be
                checked.
        """
        shape = self.shape(key)
        if shape is None or len(shape) != dims:
            found = "is missing" if shape is None else f"has shape {shape}"
            raise ConversionError(
                f"not a checkpoint of this method: {key} {found}; keys begin with {self._first_keys()}",
                value=key,
            )
        return shape

    def take(self, key: str, *shape: int) -> Tensor:
        """A tensor of the expected shape, in float32 if it is floating."""
        self._seen.add(key)
        found = self._tensors.get(key)
        if found is None:
            self._missing.append(key)
        elif tuple(found.shape) != shape:
            self._misshaped.append(f"{key} is {tuple(found.shape)}, not {shape}")
        else:
            return found.float() if found.is_floating_point() else found
        return torch.zeros(shape)

    def ignore(self, key: str) -> None:
        """Mark a key as known and not needed; it may be missing."""
        self._seen.add(key)

    def ignore_outside(self, prefix: str) -> int:
        """Mark keys that do not begin with ``prefix``, so of other networks, as not needed; their number."""
        outside = [key for key in self._tensors if not key.startswith(prefix)]
        self._seen.update(outside)
        return len(outside)

    def finish(self) -> None:
        """Check that every tensor was used.

        Raises:
            ConversionError: Keys are missing, mis-shaped or unexpected; all are counted, the first few of each named.
        """
        unexpected = sorted(self._tensors.keys() - self._seen)
        problems = [
            f"{len(keys)} {kind}: {'; '.join(keys[:_SHOWN])}{' ...' if len(keys) > _SHOWN else ''}"
            for kind, keys in (
                ("missing", self._missing),
                ("mis-shaped", self._misshaped),
                ("unexpected", unexpected),
            )
            if keys
        ]
        if problems:
            raise ConversionError(
                f"keys do not fit this method: {' | '.join(problems)}",
                value={"missing": self._missing, "mis-shaped": self._misshaped, "unexpected": unexpected},
            )

    def _first_keys(self) -> str:
        return ", ".join(list(self._tensors)[:3]) or "nothing"


def attention_heads(part: str, given: int | None, width: int, published: int | str, option: str) -> int:
    """The number of attention heads of a part, which shapes of tensors don't determine.

    Args:
        part: Of the model, for the message.
        given: What the caller says.
        width: Of the part.
        published: What published checkpoints have.
        option: The converter's option to give it with.

    Raises:
        ConversionError: if it is not given or does not divide the width.
    """
    if given is None:
        raise ConversionError(
            f"tensors do not tell the number of attention heads of the {part}: give {option} "
            f"({published} in the published models)"
        )
    if given < 1 or width % given:
        raise ConversionError(f"{given} heads do not divide the {part}'s width of {width}", value=given)
    return given
