"""Libraries that only some file formats need."""

from __future__ import annotations

import importlib
from typing import Any

from ecg_hf.errors import LibraryMissing

__all__ = ["needed"]


def needed(module: str, extra: str, what: str) -> Any:
    """An optional library.

    Args:
        module: Its name.
        extra: The extra of this package that brings it.
        what: What it reads, in the plural.

    Raises:
        LibraryMissing: if it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise LibraryMissing(
            f"{what} need {module.partition('.')[0]}: pip install 'ecg-hf[{extra}]' (in a checkout, '.[{extra}]')",
            value=extra,
        ) from None
