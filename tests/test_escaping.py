"""Text of strangers in terminals and Markdown."""

from __future__ import annotations

import pytest

from ecg_hf.errors import ModelFolderError
from ecg_hf.escaping import markdown_code, markdown_text, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb", "a\\nb"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eabc", "\\u202eabc"),
        ("\ud800", "\\ud800"),
        ("Größe µV 心", "Größe µV 心"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_an_error_is_one_line_without_control_characters() -> None:
    error = ModelFolderError("first\n  second \x1b]52;c;x\x07", path="a\x1b]0;x\x07")
    assert str(error) == "a\\x1b]0;x\\x07: first second \\x1b]52;c;x\\x07"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.873 [0.861, 0.884]", "0.873 [0.861, 0.884]"),
        ("< 0.001", "< 0.001"),
        ("a|b", "a\\|b"),
        ("a\\|b", "a\\\\\\|b"),
        ("x\n\n# Title", "x # Title"),
        ("# Title", "\\# Title"),
        ("<img src=x>", "&lt;img src=x>"),
        ("[here](http://x)", "\\[here]\\(http://x)"),
        ("$x$ `y` *z*", "\\$x\\$ \\`y\\` \\*z\\*"),
    ],
)
def test_names_are_words_in_markdown(text: str, shown: str) -> None:
    assert markdown_text(text) == shown


def test_code_stays_code() -> None:
    assert markdown_code("a`b|c\n") == "`a'b\\|c`"
