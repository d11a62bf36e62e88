"""How commands print: JSON for programs, aligned columns for people."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import typer

__all__ = ["print_json", "print_table", "quiet_libraries"]


def print_json(value: Any) -> None:
    """Print ``value`` as JSON on standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Print rows as left-aligned columns with a header."""
    cells = [[str(row.get(column, "")) for column in columns] for row in rows]
    widths = [max([len(c), *(len(line[i]) for line in cells)]) for i, c in enumerate(columns)]
    for line in [list(columns), *cells]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def quiet_libraries(*, transfers: bool = False) -> None:
    """Keep the libraries' own progress bars and load reports out of a command's output.

    Args:
        transfers: Leave the bars of uploads and downloads.
    """
    if not transfers:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import constants
    from huggingface_hub.utils import enable_progress_bars
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub_logging.set_verbosity_error()
    if transfers and not constants.HF_HUB_DISABLE_PROGRESS_BARS:
        enable_progress_bars()  # the line that silences transformers silences these too
