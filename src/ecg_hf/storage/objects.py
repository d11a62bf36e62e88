"""Names of objects, and the accounts of those that this package publishes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ecg_hf.errors import UnsafePath

__all__ = ["ACCOUNTS", "StoredObject", "account_name", "is_account", "is_plain", "parse_account", "plain"]

ACCOUNTS = "_accounts"
"""Folder of the accounts. Readers of Parquet and of Arrow pass over names that begin with an underscore."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as its store lists it.

    Attributes:
        name: Relative to the folder.
        size: Bytes.
        tag: Changes whenever the object is written, such as S3's ETag.
    """

    name: str
    size: int
    tag: str


def is_plain(name: str) -> bool:
    """Whether a name stays below a folder, on every system."""
    parts = name.split("/")
    return (
        all(parts) and not {".", ".."} & set(parts) and not set("\\\0") & set(name) and parts[0][1:2] != ":"
    )


def plain(name: str) -> str:
    """The name of an object, if it is one that a file can have.

    Raises:
        UnsafePath: if it leads elsewhere.
    """
    if not is_plain(name):
        raise UnsafePath("not the plain name of an object", path=name)
    return name


def account_name(name: str) -> str:
    """Name of the account of an object."""
    return f"{ACCOUNTS}/{plain(name)}.json"


def is_account(name: str) -> bool:
    """Whether an object is the account of another."""
    return name.startswith(f"{ACCOUNTS}/")


def parse_account(content: bytes) -> dict[str, Any] | None:
    """An account; None for what is none, as if it were not there."""
    try:
        said = json.loads(content)
        fits = (
            isinstance(said["account"], dict)
            and isinstance(said["size"], int)
            and said["sha256"]
            and "tag" in said
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return said if fits else None
