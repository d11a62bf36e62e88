"""Progress bars as the library draws them, for people alone: a log file gets none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging
from transformers.utils.logging import tqdm

__all__ = ["progress_bar", "without_progress_bars"]


def progress_bar(total: int, title: str, unit: str, *, initial: int = 0, show: bool = True) -> Any:
    """A bar as a context manager with ``update(n)``.

    Nothing is drawn where standard error is neither a terminal nor a notebook's, nor after
    ``transformers.utils.logging.disable_progress_bar()``.

    Args:
        total: Steps of the whole.
        title: Stands before the bar.
        unit: What a step is.
        initial: Steps done by earlier calls.
        show: False draws nothing.
    """
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(total=total, initial=initial, desc=title, unit=unit, disable=not (show and watched))


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Without the library's own progress bars, which cut across ours."""
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
