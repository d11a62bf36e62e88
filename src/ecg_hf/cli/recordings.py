"""What commands that take recordings share: options that tell what a file does not say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ecg_hf.errors import MetadataMissing

__all__ = ["naming_options"]


@contextmanager
def naming_options() -> Iterator[None]:
    """Let an error about what a file does not say also name the options that say it."""
    try:
        yield
    except MetadataMissing as error:
        flags = "--sampling-rate, --lead-names and --units say it"
        raise MetadataMissing(f"{error.message} ({flags})", path=error.path, value=error.value) from None
