"""How commands are registered: what is a path of this machine takes no address."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import typer

from ecg_hf.storage import local_only

__all__ = ["Commands"]

Function = TypeVar("Function", bound=Callable[..., Any])


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
                            local_only(one)
                return function(**values)

            register(command)
            return function

        return checked
