"""The WFDB headers below a folder: which are recordings, which are segments of one, which share their samples."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ecg_hf.data.report import Tally
from ecg_hf.errors import DatasetBuildError, EcgError
from ecg_hf.signal.io.paths import read_file
from ecg_hf.signal.io.wfdb_header import MAX_HEADER_BYTES

__all__ = [
    "Listing",
    "find_headers",
    "is_storable",
    "list_recordings",
    "named_in_header",
    "printable",
    "read_index",
]

MAX_INDEX_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Listing:
    """Recordings of a folder.

    Attributes:
        names: Paths relative to the folder, without extension; no segment of another recording in the list.
        headers: Every header below the folder, segments included.
        keys: What folds are drawn by, for recordings that share samples with another: one name for all of them.
    """

    names: list[str]
    headers: frozenset[str]
    keys: dict[str, str]

    def key(self, name: str) -> str:
        """What the fold of a recording is drawn by: its own name, unless it shares samples with others."""
        return self.keys.get(name, name)


def list_recordings(
    root: Path, tally: Tally, *, index: Iterable[str] = (), shown: Callable[[str], str] = str
) -> Listing:
    """Recordings below a folder, with segments and duplicate headers resolved.

    A header with several segments is one recording; its segments are left out, and counted as
    ``segment_of_a_record``. Where an index names segments but not the recording they belong to, they are kept, with
    one key for all. Headers that name the same signal file have one key, too.

    Args:
        root: The folder.
        tally: Counts what is left out: names that can't be stored (``odd_name``), folders that can't be listed.
        index: Names to choose, in this order; every header if it is empty.
        shown: How a name is written into the report.
    """
    names = list(dict.fromkeys(map(_normal, index)))
    # With an index, other files in the folder were not asked for, so they are not counted.
    headers = find_headers(root, Tally() if names else tally, shown=shown)
    names = names or headers
    segment_of, keys = _relations(root, headers)
    chosen = set(names)
    kept = []
    for name in names:
        if not is_storable(name):
            tally.drop(shown(printable(name)), "odd_name")
        elif segment_of.get(name) in chosen:
            tally.drop(shown(name), "segment_of_a_record")
        else:
            kept.append(name)
    first: dict[str, str] = {}
    for name in sorted(kept):
        if name in keys:
            first.setdefault(keys[name], segment_of.get(name, name))
    return Listing(kept, frozenset(headers), {name: first[keys[name]] for name in kept if name in keys})


def find_headers(root: Path, tally: Tally, *, shown: Callable[[str], str] = str) -> list[str]:
    """Headers below ``root``, links to folders not followed, in an order that does not depend on the file system.

    Args:
        root: The folder.
        tally: Counts names that can't be stored (``odd_name``) and folders that can't be listed.
        shown: How a name is written into the report.

    Returns:
        Paths relative to ``root``, without extension.
    """

    def unreadable(error: OSError) -> None:
        place = os.path.relpath(os.fsdecode(error.filename or root), root)
        tally.drop(f"{shown(printable(place))}/", "folder_not_readable")

    found: list[str] = []
    odd: list[str] = []
    for folder, _, files in os.walk(root, onerror=unreadable):
        relative = Path(folder).relative_to(root).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        for name in (f"{prefix}{file[:-4]}" for file in files if file.endswith(".hea")):
            (found if is_storable(name) else odd).append(name)
    for name in sorted(odd):
        tally.drop(shown(printable(name)), "odd_name")
    return sorted(found)


def read_index(path: Path) -> list[str]:
    """Lines of a RECORDS file, each once, without ``.hea``; a name that is not UTF-8 stays what it is on the disk.

    Raises:
        DatasetBuildError: if it can't be read.
    """
    try:
        content, size = read_file(str(path), max_bytes=MAX_INDEX_BYTES, what="RECORDS file", root=path.parent)
    except EcgError:
        raise DatasetBuildError("the RECORDS file can't be read", path=path) from None
    if size > MAX_INDEX_BYTES:
        raise DatasetBuildError(f"the RECORDS file is larger than {MAX_INDEX_BYTES} bytes", path=path)
    lines = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="surrogateescape").split("\n")
    return list(dict.fromkeys(line.strip().removesuffix(".hea") for line in lines if line.strip()))


def printable(name: str) -> str:
    """A name that can be stored and shown, with escapes for what can't."""
    text = name.encode("utf-8", errors="backslashreplace").decode("utf-8")
    return "".join(f"\\x{ord(c):02x}" if unicodedata.category(c) == "Cc" else c for c in text)


def is_storable(name: str) -> bool:
    """Whether a name is text: valid UTF-8 on the disk, and no control characters."""
    return printable(name) == name


def _normal(name: str) -> str:
    """One spelling for ``x/1``, ``./x/1`` and ``x//1``; a path that climbs is left for the source to refuse."""
    if ".." in name.split("/") or name.startswith("/"):
        return name
    return posixpath.normpath(name)


def _relations(root: Path, headers: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Segment -> its recording; and header -> a key, the same for headers that share samples."""
    segment_of: dict[str, str] = {}
    parent: dict[str, str] = {}

    def find(node: str) -> str:
        while (above := parent.setdefault(node, node)) != node:
            parent[node] = node = parent.setdefault(above, above)
        return node

    for name in headers:
        folder = posixpath.dirname(name)
        segments, files = named_in_header(root, name)
        for segment in segments:
            part = posixpath.normpath(posixpath.join(folder, segment))
            if part != name:
                segment_of.setdefault(part, name)
                parent[find(part)] = find(name)
        for file in files:
            # The trailing slash distinguishes a file from a header of the same name.
            parent[find(posixpath.normpath(posixpath.join(folder, file)) + "/")] = find(name)
    sizes: dict[str, int] = {}
    roots = {name: find(name) for name in headers if name in parent}
    for key in roots.values():
        sizes[key] = sizes.get(key, 0) + 1
    return segment_of, {name: key for name, key in roots.items() if sizes[key] > 1}


def named_in_header(root: Path, name: str) -> tuple[list[str], list[str]]:
    """Segments and signal files a header names. Read leniently, because a garbled header still names its segments."""
    path = str(root / f"{name}.hea")
    try:
        content, _ = read_file(path, max_bytes=MAX_HEADER_BYTES, what="header", root=root)
    except EcgError:
        return [], []
    lines = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="surrogateescape").splitlines()
    words = [line.split()[0] for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not words:
        return [], []
    rest = list(dict.fromkeys(word for word in words[1:] if word != "~"))
    return (rest, []) if "/" in words[0] else ([], rest)
