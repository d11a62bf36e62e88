"""XML from strangers: no entities, no external files, bounded depth and size."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import HeaderError, SignalError, UnsupportedFormat

__all__ = ["base64_bytes", "child", "child_text", "looks_like_xml", "number", "numbers", "parse_xml"]

_MAX_DEPTH = 64
# Every element takes some hundred bytes in memory, whatever the file spends on it.
_MAX_ELEMENTS = 1_000_000
_WHITESPACE = b" \t\r\n"
_DECLARED = re.compile(rb"^<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")


def looks_like_xml(head: bytes) -> bool:
    """Whether a file begins with ``<``, after blank lines and a byte order mark at most."""
    encoding = _wide_encoding(head)
    if encoding:
        return (
            head[: len(head) // 2 * 2].decode(encoding, errors="replace").lstrip("\ufeff \t\r\n")[:1] == "<"
        )
    return head.removeprefix(b"\xef\xbb\xbf").lstrip(_WHITESPACE)[:1] == b"<"


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 told by its byte order mark or by every other byte being zero."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if head[1:2] == b"\0" and head[:1] in (b"<", b" ", b"\t", b"\r", b"\n"):
        return "utf-16-le"
    return "utf-16-be" if head[:1] == b"\0" and head[1:2] in (b"<", b" ", b"\t", b"\r", b"\n") else None


def _text(content: bytes) -> str:
    encoding = _wide_encoding(content)
    if encoding:
        return content.decode(encoding, errors="replace").removeprefix("\ufeff")
    content = content.removeprefix(b"\xef\xbb\xbf").lstrip(_WHITESPACE)
    declared = _DECLARED.match(content)
    name = declared[1].decode("ascii").lower() if declared else "utf-8"
    # A file that was transcoded keeps its old declaration: bytes of one byte each can't be UTF-16.
    candidates = (
        ("utf-8", "latin-1")
        if name.startswith(("utf-16", "utf16", "ucs-2", "iso-10646"))
        else (name, "latin-1")
    )
    for candidate in candidates:
        try:
            return content.decode(candidate)
        except (UnicodeDecodeError, LookupError):
            continue
    raise UnsupportedFormat("the file's text can't be decoded")


def parse_xml(content: bytes) -> Element:
    """The root element; names come without namespaces.

    A document type may be named and is never read. Comments and processing instructions are passed over.

    Raises:
        UnsupportedFormat: if it is not well-formed, defines entities, or is nested or split up beyond measure.
    """
    text = _text(content).lstrip("\ufeff \t\r\n")
    builder = TreeBuilder()
    parser = expat.ParserCreate(encoding="utf-8")
    parser.buffer_text = True
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    limit = min(_MAX_ELEMENTS, len(content) // 4 + 1)
    depth = elements = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements
        depth, elements = depth + 1, elements + 1
        if depth > _MAX_DEPTH or elements > limit:
            raise UnsupportedFormat("the XML is nested or split up more than an ECG file's is")
        builder.start(_local(name), {_local(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_local(name))

    def refuse(*_: Any) -> NoReturn:
        raise UnsupportedFormat("the XML defines entities, which are not read")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    parser.UnparsedEntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.SkippedEntityHandler = refuse
    try:
        parser.Parse(text.encode("utf-8", errors="replace"), True)
        return builder.close()
    except expat.ExpatError as error:
        # The error's own text has a position and no content of the file.
        raise UnsupportedFormat(f"the XML is not well-formed ({expat.ErrorString(error.code)})") from None
    except AssertionError:  # TreeBuilder, for a document without an element
        raise UnsupportedFormat("the XML has no element") from None


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def child(element: Element, path: str) -> Element:
    """The first element at a path such as ``resolution/yres``.

    Raises:
        HeaderError: if there is none; names the path.
    """
    found = element.find(path)
    if found is None:
        raise HeaderError(f"the file has no element {path}", value=path)
    return found


def child_text(element: Element, path: str) -> str:
    """Text of the first element at a path, empty where there is none."""
    return (element.findtext(path) or "").strip()


def number(text: str | None, what: str) -> float:
    """A finite number; the text itself is never repeated, it may be a person's.

    Raises:
        HeaderError: if it is not one; names ``what``.
    """
    try:
        value = float((text or "").strip())
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise HeaderError(f"{what} is not a number", value=what)
    return value


def numbers(text: str | None, what: str, separator: str | None = None) -> npt.NDArray[Any]:
    """Numbers between blanks (or another separator), as int32 where all are whole.

    Raises:
        SignalError: if there is none, or something is not a number.
    """
    cells = (text or "").strip().split(separator)
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        raise SignalError(f"{what} holds something that is not a number") from None
    if np.isinf(values).any():
        raise SignalError(f"{what} holds infinite numbers")
    if not np.isnan(values).any() and (np.abs(values) < 2**31).all() and (values == np.rint(values)).all():
        return values.astype(np.int32)
    return values


def base64_bytes(text: str | None, what: str) -> bytes:
    """Bytes of Base64 text in lines.

    Raises:
        SignalError: if it is empty or not Base64.
    """
    try:
        content = base64.b64decode("".join((text or "").split()), validate=True)
    except (binascii.Error, ValueError):
        raise SignalError(f"{what} is not valid Base64") from None
    if not content:
        raise SignalError(f"{what} is empty")
    return content
