"""Annotation files of WFDB records (MIT format): where something was marked, and as what."""

from __future__ import annotations

import os
import struct

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import TruncatedSignal, UnsupportedFormat
from ecg_hf.signal.paths import inside_root, local_path, read_file

__all__ = ["SYMBOLS", "read_annotations"]

MAX_BYTES = 1 << 26

SYMBOLS: dict[int, str] = {
    **dict(zip(range(1, 14), "NLRaVFJASEj/Q", strict=True)),
    14: "~", 16: "|", 18: "s", 19: "T", 20: "*", 21: "D", 22: '"', 23: "=", 24: "p", 25: "B", 26: "^", 27: "t",
    28: "+", 29: "u", 30: "?", 31: "!", 32: "[", 33: "]", 34: "e", 35: "n", 36: "@", 37: "x", 38: "f", 39: "(",
    40: ")", 41: "r",
}  # fmt: skip
"""Annotation codes and the characters that stand for them (``ecgcodes.h`` of the WFDB library)."""

_SKIP, _NUM, _SUB, _CHN, _AUX = 59, 60, 61, 62, 63


def read_annotations(
    path: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Positions and symbols of an annotation file.

    Args:
        path: The file, extension included (``"data/1.ii"``).
        root: Folder that neither the path nor a link may leave.

    Returns:
        int64 sample numbers ``(annotations,)`` in the order of the file, and one symbol for each
        (``"N"``, ``"("``, ``"p"``; ``"#<code>"`` for codes without one).

    Raises:
        RecordNotFound: if there is no such file.
        TruncatedSignal: if it ends within an annotation or without an end mark.
        UnsupportedFormat: if it is too long to be one.
    """
    text = local_path(path)
    if root is not None:
        inside_root(text, root)
    content, size = read_file(text, max_bytes=MAX_BYTES, what="annotation file", root=root)
    if size > MAX_BYTES:
        raise UnsupportedFormat("annotation file is implausibly long", path=text, value=size)
    samples: list[int] = []
    symbols: list[str] = []
    time = at = 0
    while True:
        if at + 2 > len(content):
            raise TruncatedSignal("annotation file has no end mark", path=text, value=size)
        (word,) = struct.unpack_from("<H", content, at)
        at += 2
        code, value = word >> 10, word & 0x3FF
        if word == 0:
            return np.array(samples, dtype=np.int64), tuple(symbols)
        if code == _SKIP:
            if at + 4 > len(content):
                raise TruncatedSignal("annotation file ends within an annotation", path=text, value=size)
            # A 32-bit interval as the PDP-11 wrote it: high half first, each half little-endian.
            high, low = struct.unpack_from("<hH", content, at)
            time += (high << 16) + low
            at += 4
        elif code == _AUX:
            at += value + (value & 1)
        elif code not in (_NUM, _SUB, _CHN):
            time += value
            samples.append(time)
            symbols.append(SYMBOLS.get(code, f"#{code}"))
