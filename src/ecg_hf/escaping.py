"""Text of strangers where it is shown: names in their files must not steer a terminal, nor become markup.

HTML and YAML have escaping of their own, which is used where these are written.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["markdown_code", "markdown_text", "printable"]

# Control characters, marks that reverse or hide text, halves of surrogate pairs, line and paragraph separators.
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


def printable(text: object, *, keep: str = "") -> str:
    """``str(text)`` as it may be shown: whatever could steer a terminal, or pass for another line, is escaped.

    Names in files of strangers may hold sequences that clear the screen, write the clipboard or forge a row of a
    table. Letters of all alphabets stay as they are.

    Args:
        text: What is to be shown.
        keep: Characters that stay although they are control characters, such as a newline.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in _UNPRINTABLE and c not in keep
        else c
        for c in text
    )


# A tag, a comment or an autolink begins like this; "< 0.001" does not.
_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def markdown_text(text: object, *, keep: str = "") -> str:
    """``str(text)`` as words of one line in Markdown: no links, tags, code, formulas, headings or further columns.

    Args:
        text: What is to be shown.
        keep: Characters that keep their meaning, for sentences of our own around a name.
    """
    line = printable(" ".join(str(text).split()))
    line = "".join(f"\\{c}" if c in "\\`*$|" and c not in keep else c for c in line)
    line = _TAG.sub("&lt;", line).replace("](", "]\\(")
    return f"\\{line}" if line[:1] in ("#", ">", "[") and line[0] not in keep else line


def markdown_code(text: object) -> str:
    """``str(text)`` as a span of code, in a table too."""
    line = printable(" ".join(str(text).split()))
    return "`" + line.replace("`", "'").replace("|", "\\|") + "`"
