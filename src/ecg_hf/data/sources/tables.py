"""Reading the tables and texts that come with recordings, with the same checks as the recordings."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ecg_hf.errors import DatasetBuildError
from ecg_hf.signal.io.paths import inside_root

__all__ = ["clean_text", "identifier", "read_table"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_WORD = re.compile(r"\w")


def read_table(path: Path, columns: Sequence[str], *, optional: Sequence[str] = ()) -> pd.DataFrame:
    """Columns of a CSV file, everything as text, missing cells as NaN.

    Args:
        path: The file.
        columns: Required columns.
        optional: Columns read if present.

    Raises:
        DatasetBuildError: if the file is missing, is not CSV, or lacks a column. Never quotes a cell.
        UnsafePath: if it is a link that leaves its folder.
    """
    inside_root(os.fspath(path), path.parent)
    wanted = {*columns, *optional}
    try:
        table = pd.read_csv(path, dtype=str, usecols=lambda name: name in wanted, encoding="utf-8")
    except FileNotFoundError:
        raise DatasetBuildError("the table is missing", path=path) from None
    except (OSError, ValueError, pd.errors.ParserError, pd.errors.EmptyDataError):
        raise DatasetBuildError("the table can't be read as CSV in UTF-8", path=path) from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DatasetBuildError(f"the table has no column {', '.join(missing)}", path=path)
    return table


def clean_text(value: object) -> tuple[str, tuple[str, ...]]:
    """A report as one line of text, and the codes of what was changed.

    Control characters and line ends become spaces (``report_control_characters`` for any but line
    ends and tabs); a text without a letter or digit, such as ``***``, is not a report (``report_without_words``).
    """
    if not isinstance(value, str):
        return "", ()
    notes: tuple[str, ...] = ()
    text = _CONTROL.sub(" ", value)
    if _CONTROL.search(re.sub(r"[\r\n\t]", "", value)):
        notes = ("report_control_characters",)
    text = text.strip()
    if text and not _WORD.search(text):
        return "", (*notes, "report_without_words")
    return text, notes


def identifier(value: object) -> str | None:
    """An identifier as text: ``"15709.0"``, as pandas writes integer columns with gaps, becomes ``"15709"``."""
    if not isinstance(value, str) or not value.strip():
        return None
    text = value.strip()
    return text[:-2] if re.fullmatch(r"\d+\.0", text) else text
