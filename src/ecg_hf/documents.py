"""JSON and YAML that others wrote: read within bounds and checked against a type, with errors that name the field.

Results, datasets, runs and recipes travel as text files. A reader names the type it needs, a dataclass, a
``TypedDict`` or plain types, and gets a value of that type or an :class:`~ecg_hf.errors.EcgError` that names file and
field; nothing else leaves these functions, whatever the file holds.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

import yaml

from ecg_hf.errors import ConfigurationError, EcgError

__all__ = ["Bound", "Count", "Range", "Share", "check", "parse_json", "parse_yaml", "read_json", "read_text"]

MAX_BYTES = 256 << 20
"""Largest file that is read: no results file of this package comes near."""

_MAX_WHOLE = 2**63 - 1

_NAMES = {
    int: "a whole number",
    float: "a finite number",
    str: "text",
    bool: "true or false",
    dict: "an object",
}


class Bound:
    """What a value must fulfil beyond its type, as metadata of an ``Annotated`` type; ``str`` says it."""

    def holds(self, value: Any) -> bool:
        """Whether ``value``, which is of the type, fulfils it."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, slots=True)
class Range(Bound):
    """Bounds of a number, for ``Annotated[float, Range(0, 1)]``; both included."""

    low: float = -math.inf
    high: float = math.inf

    def holds(self, value: Any) -> bool:
        """Whether a number lies within."""
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"at least {self.low:g}"
        return f"in [{self.low:g}, {self.high:g}]"


Count = Annotated[int, Range(0)]
"""A whole number that is not negative."""

Share = Annotated[float, Range(0, 1)]
"""A number from 0 to 1."""


def read_text(path: str | os.PathLike[str], *, error: type[EcgError] = ConfigurationError) -> str:
    """Text of a file, as UTF-8.

    Args:
        path: The file.
        error: Class of the error.

    Raises:
        EcgError: The file is absent, no ordinary file, larger than :data:`MAX_BYTES`, or no text.
    """
    path = Path(path)
    if not path.is_file():  # a pipe or a device would be read for ever
        raise error("no such file", path=path)
    try:
        with path.open("rb") as file:
            # Not the limit at once: that much room would be made first.
            content = file.read(min(os.fstat(file.fileno()).st_size, MAX_BYTES) + 1)
        if len(content) > MAX_BYTES:
            raise error(f"larger than {MAX_BYTES >> 20} MiB", path=path)
        return content.decode("utf-8-sig")
    except OSError as failure:
        raise error(f"can't be read: {failure.strerror or failure}", path=path) from None
    except UnicodeDecodeError:
        raise error("not a text file in UTF-8", path=path) from None


def read_json(
    path: str | os.PathLike[str], kind: Any = Any, *, error: type[EcgError] = ConfigurationError
) -> Any:
    """Content of a JSON file, as a value of ``kind``; see :func:`check`.

    Raises:
        EcgError: The file can't be read, is no JSON, or does not hold a ``kind``.
    """
    return parse_json(read_text(path, error=error), kind, error=error, path=path)


def parse_json(
    text: str | bytes,
    kind: Any = Any,
    *,
    error: type[EcgError] = ConfigurationError,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """As :func:`read_json`, from text.

    Args:
        text: The JSON.
        kind: Type of the content.
        error: Class of the error.
        path: For the message.
    """
    try:
        content = json.loads(text, object_pairs_hook=_without_repetition, parse_constant=_no_number)
    except (ValueError, RecursionError) as failure:  # a UnicodeDecodeError is a ValueError
        raise error(f"not a JSON file: {_reason(failure)}", path=path) from None
    return check(content, kind, error=error, path=path)


def parse_yaml(
    text: str,
    kind: Any = Any,
    *,
    error: type[EcgError] = ConfigurationError,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Content of a YAML text as a value of ``kind``: plain data without aliases, which could grow without bound.

    Args:
        text: The YAML.
        kind: Type of the content.
        error: Class of the error.
        path: For the message.
    """
    try:
        content = yaml.load(text, Loader=_PlainLoader)
    # The library's constructors let more than YAMLError escape: dates of month 13, numbers of 5,000 digits.
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
        RecursionError,
    ) as failure:
        raise error(f"not a YAML file: {_reason(failure)}", path=path) from None
    return check(content, kind, error=error, path=path)


class _PlainLoader(yaml.SafeLoader):
    """YAML's plain types; no aliases, and no key twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        _without_repetition((repr(key), None) for key in keys)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def _no_number(word: str) -> None:
    """NaN and infinities, which JSON has no words for and many writers write: nothing is known."""


def _without_repetition(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f"{name!r} is there twice")
        content[name] = value
    return content


def _reason(failure: Exception) -> str:
    if isinstance(failure, RecursionError):
        return "nested too deeply"
    return " ".join(str(failure).split())[:200] or type(failure).__name__


def check(
    value: Any,
    kind: Any,
    *,
    error: type[EcgError] = ConfigurationError,
    path: str | os.PathLike[str] | None = None,
    name: str = "",
) -> Any:
    """``value`` if it is of ``kind``; a dataclass is built from an object.

    Numbers must be finite and within 64 bits, text must have a form in UTF-8. Fields that a class does not have are
    left alone in a ``TypedDict`` and left out of a dataclass, so that files of newer versions can be read.

    Args:
        value: What a parser gave.
        kind: ``Any``, ``int``, ``float``, ``str``, ``bool``, ``None``, ``list[...]``, ``tuple[...]``,
            ``dict[str, ...]``, ``Literal``, unions, ``Annotated`` with a :class:`Bound`, ``TypedDict`` or dataclass.
        error: Class of the error.
        path: For the message.
        name: Of the field, for the message.

    Raises:
        EcgError: naming file and field.
    """
    try:
        return _check(value, kind, name)
    except _Mismatch as wrong:
        raise error(str(wrong), path=path, value=wrong.value) from None
    except RecursionError:
        raise error("nested too deeply", path=path) from None
    except EcgError as wrong:  # a dataclass that checks itself
        raise error(wrong.message, path=path, value=wrong.value) from None


class _Mismatch(Exception):
    def __init__(self, name: str, wanted: str, value: Any) -> None:
        super().__init__(f"{name or 'the content'} must be {wanted}, got {reprlib.repr(value)}")
        self.value = value


def _check(value: Any, kind: Any, name: str) -> Any:
    origin = get_origin(kind)
    if origin in _BY_ORIGIN:
        return _BY_ORIGIN[origin](value, kind, name)
    if kind is Any or kind is object:
        return _plain(value, name)
    if kind is None or kind is type(None):
        if value is not None:
            raise _Mismatch(name, "null", value)
        return value
    if isinstance(kind, type):
        if dataclasses.is_dataclass(kind):
            return _dataclass(value, kind, name)
        if typing.is_typeddict(kind):
            return _typed_dict(value, kind, name)
        if kind in _SCALARS and _SCALARS[kind](value):
            return value
        if kind in (dict, list):
            return _check(value, dict[str, Any] if kind is dict else list[Any], name)
    raise _Mismatch(name, _describe(kind), value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and (value.isascii() or value.encode("utf-8", "ignore").decode() == value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_WHOLE


_SCALARS: dict[Any, Callable[[Any], bool]] = {
    bool: lambda value: isinstance(value, bool),
    int: _is_whole,
    float: lambda value: _is_whole(value) or (isinstance(value, float) and math.isfinite(value)),
    str: _is_text,
}


def _plain(value: Any, name: str) -> Any:
    """Anything a JSON file can hold; numbers and text as everywhere."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _check(value, str, name)
    if isinstance(value, int | float):
        return _check(value, float, name)
    if isinstance(value, Mapping):
        return _object(value, dict[str, Any], name)
    if isinstance(value, list | tuple):
        return _list(value, list[Any], name)
    raise _Mismatch(name, "a value that JSON has", value)  # YAML has dates and sets


def _object(value: Any, kind: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(map(_is_text, value)):
        raise _Mismatch(name, "an object", value)
    _, inner = get_args(kind)
    return {key: _check(one, inner, f"{name}.{key}" if name else key) for key, one in value.items()}


def _list(value: Any, kind: Any, name: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _Mismatch(name, "a list", value)
    (inner,) = get_args(kind)
    return [_check(one, inner, f"{name}[{i}]") for i, one in enumerate(value)]


def _tuple(value: Any, kind: Any, name: str) -> Any:
    inner = get_args(kind)
    if inner[1:] == (...,):
        return tuple(_list(value, list[inner[0]], name))  # type: ignore[valid-type]
    if not isinstance(value, list | tuple) or len(value) != len(inner):
        raise _Mismatch(name, f"a list of {len(inner)}", value)
    return tuple(
        _check(one, part, f"{name}[{i}]") for i, (one, part) in enumerate(zip(value, inner, strict=True))
    )


def _union(value: Any, kind: Any, name: str) -> Any:
    found: list[_Mismatch] = []
    for one in get_args(kind):
        try:
            return _check(value, one, name)
        except _Mismatch as wrong:
            found.append(wrong)
    # What is wrong deep inside the one member that could hold it says more than the list of members.
    deeper = [wrong for wrong in found if wrong.value is not value]
    raise deeper[0] if deeper else _Mismatch(name, _describe(kind), value)


def _literal(value: Any, kind: Any, name: str) -> Any:
    for one in get_args(kind):
        if value == one and type(value) is type(one):
            return value
    raise _Mismatch(name, _describe(kind), value)


def _annotated(value: Any, kind: Any, name: str) -> Any:
    inner, *bounds = get_args(kind)
    value = _check(value, inner, name)
    for bound in bounds:
        if isinstance(bound, Bound) and not bound.holds(value):
            raise _Mismatch(name, f"{_describe(inner)} {bound}", value)
    return value


_BY_ORIGIN: dict[Any, Callable[[Any, Any, str], Any]] = {
    dict: _object,
    Mapping: _object,
    list: _list,
    Sequence: _list,
    tuple: _tuple,
    Union: _union,
    types.UnionType: _union,
    Literal: _literal,
    Annotated: _annotated,
}


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _typed_dict(value: Any, kind: type, name: str) -> dict[str, Any]:
    content = _object(value, dict[str, Any], name)
    for field, hint in _hints(kind).items():
        # Not __required_keys__: it does not see through postponed annotations.
        required = get_origin(hint) is not NotRequired
        hint = get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint
        where = f"{name}.{field}" if name else field
        if field in content:
            content[field] = _check(content[field], hint, where)
        elif required:
            raise _Mismatch(where, _describe(hint), None)
    return content


def _dataclass(value: Any, kind: type, name: str) -> Any:
    content = _object(value, dict[str, Any], name)
    given = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        where, hint = f"{name}.{field.name}" if name else field.name, _hints(kind)[field.name]
        if field.name in content:
            given[field.name] = _check(content[field.name], hint, where)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise _Mismatch(where, _describe(hint), None)
    return kind(**given)


def _describe(kind: Any) -> str:
    origin = get_origin(kind)
    if kind in _NAMES:
        return _NAMES[kind]
    if origin in (Union, types.UnionType):
        return " or ".join(map(_describe, get_args(kind)))
    if origin is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if origin is Annotated:
        inner, *bounds = get_args(kind)
        return " ".join([_describe(inner), *map(str, bounds)]).strip()
    if origin in (list, tuple, Sequence) or kind is list:
        return "a list"
    if kind is type(None):
        return "null"
    return "an object"
