"""How commands are registered: what is a path of this machine takes no address."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import typer

from ecg_hf.errors import UnsafePath

__all__ = ["Commands", "this_machine"]

Function = TypeVar("Function", bound=Callable[..., Any])

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")  # two letters at least: C:/ is a path


def this_machine(text: str | os.PathLike[str]) -> Path:
    """A path of this machine. Made a ``Path``, ``s3://bucket/a`` would be the local folders ``s3:/bucket``.

    Raises:
        UnsafePath: if it is an address. The error shows its scheme alone, since the rest may hold a secret.
    """
    path = os.fspath(text)
    if found := _ADDRESS.match(path):
        raise UnsafePath("this command takes a path of this machine here, no address", path=f"{found[1]}://")
    return Path(path)


class Commands(typer.Typer):
    """Typer, whose commands refuse addresses where they declare a ``Path``; those that take both declare text."""

    def command(self, *args: Any, **kwargs: Any) -> Callable[[Function], Function]:
        """As typer's; the function itself is returned unchanged."""
        register = super().command(*args, **kwargs)

        def checked(function: Function) -> Function:
            @functools.wraps(function)
            def command(**values: Any) -> Any:
                for value in values.values():
                    for one in value if isinstance(value, list) else [value]:
                        if isinstance(one, Path):
                            this_machine(one)
                return function(**values)

            register(command)
            return function

        return checked
