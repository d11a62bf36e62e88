"""How commands print: JSON for programs, aligned columns for people, and no terminal control characters."""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import indent
from typing import Any

import typer

from ecg_hf.escaping import printable

__all__ = ["echo", "print_json", "print_json_array", "print_table", "printable_logs", "quiet_libraries"]

# Characters JSON does not escape: DEL and C1 controls, marks that hide or reverse text, lone surrogates.
_UNSAFE_IN_JSON = re.compile(
    "[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def echo(text: object, *, err: bool = False) -> None:
    """Print lines; control characters other than line ends are escaped."""
    typer.echo(printable(text, keep="\n"), err=err)


def print_json(value: Any) -> None:
    """Print ``value`` as JSON on standard output."""
    typer.echo(_as_json(value))


def print_json_array(values: Iterable[Any]) -> None:
    """Print a JSON array whose values come one by one, and are gone once they are printed."""
    before = "["
    for value in values:
        typer.echo(before + "\n" + indent(_as_json(value), "  "), nl=False)
        before = ","
    typer.echo("[]" if before == "[" else "\n]")


def _as_json(value: Any) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Print rows as left-aligned columns with a header."""
    cells = [[printable(row.get(column, "")) for column in columns] for row in rows]
    widths = [max([len(c), *(len(line[i]) for line in cells)]) for i, c in enumerate(columns)]
    for line in [list(columns), *cells]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


class _PrintableRecord(logging.LogRecord):
    """A record whose message holds no control characters: names of files and classes are untrusted."""

    def getMessage(self) -> str:
        return printable(super().getMessage(), keep="\n")


@contextmanager
def printable_logs() -> Iterator[None]:
    """Escape control characters in everything any library logs or warns about meanwhile."""
    factory, show = logging.getLogRecordFactory(), warnings.formatwarning

    def printable_warning(message: Warning | str, *args: Any, **kwargs: Any) -> str:
        return printable(show(message, *args, **kwargs), keep="\n")

    logging.setLogRecordFactory(_PrintableRecord)
    warnings.formatwarning = printable_warning
    try:
        yield
    finally:
        logging.setLogRecordFactory(factory)
        warnings.formatwarning = show


def quiet_libraries(*, transfers: bool = False) -> None:
    """Keep the libraries' progress bars and load reports out of a command's output.

    Args:
        transfers: Keep the progress bars of uploads and downloads.
    """
    if not transfers:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import constants
    from huggingface_hub.utils import enable_progress_bars
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    hub_logging.set_verbosity_error()
    if transfers and not constants.HF_HUB_DISABLE_PROGRESS_BARS:
        enable_progress_bars()  # the line that silences transformers silences these too
