"""Annotation files of WFDB records (MIT format): positions and types of marks."""

from __future__ import annotations

import os
import re
import struct

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import MetadataMissing, RecordNotFound, TruncatedSignal, UnsupportedFormat
from ecg_hf.signal.io.paths import inside_root, local_path, read_file
from ecg_hf.signal.io.wfdb_record import read_header
from ecg_hf.signal.units import checked_sampling_rate

__all__ = ["SYMBOLS", "read_annotations"]

MAX_BYTES = 1 << 26

SYMBOLS: dict[int, str] = {
    **dict(zip(range(1, 14), "NLRaVFJASEj/Q", strict=True)),
    14: "~", 16: "|", 18: "s", 19: "T", 20: "*", 21: "D", 22: '"', 23: "=", 24: "p", 25: "B", 26: "^", 27: "t",
    28: "+", 29: "u", 30: "?", 31: "!", 32: "[", 33: "]", 34: "e", 35: "n", 36: "@", 37: "x", 38: "f", 39: "(",
    40: ")", 41: "r",
}  # fmt: skip
"""Annotation codes and the characters that stand for them (``ecgcodes.h`` of the WFDB library)."""

_NOTE, _SKIP, _NUM, _SUB, _CHN, _AUX = 22, 59, 60, 61, 62, 63
_DEFINITION = b"## "
_RESOLUTION = re.compile(rb"## time resolution: *([0-9.eE+-]{1,32})\s*")
_BEGIN, _END = b"## annotation type definitions", b"## end of definitions"


def read_annotations(
    path: str | os.PathLike[str],
    *,
    sampling_rate: float | None = None,
    root: str | os.PathLike[str] | None = None,
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Positions and symbols of an annotation file.

    Notes at the beginning that define the file (its time resolution, its own types) are not annotations and are left
    out. Where a time resolution is stated, positions are converted to samples: of ``sampling_rate``, or of the record
    whose header lies beside the file.

    Args:
        path: The file, extension included (``"data/1.ii"``).
        sampling_rate: Rate of the signal in Hz whose samples are wanted. Without it, and without a time resolution in
            the file, positions are those in the file: frames of its record.
        root: Folder that neither the path nor a link may leave.

    Returns:
        int64 sample numbers ``(annotations,)`` in the order of the file, and one symbol for each
        (``"N"``, ``"("``, ``"p"``; ``"#<code>"`` for codes without one).

    Raises:
        RecordNotFound: if it does not exist.
        TruncatedSignal: if it ends within an annotation or without an end mark.
        UnsupportedFormat: if it is too long to be one, or its definitions are malformed.
        MetadataMissing: if it states a time resolution and nothing says the signal's sampling rate.
    """
    text = local_path(path)
    if root is not None:
        inside_root(text, root)
    content, size = read_file(text, max_bytes=MAX_BYTES, what="annotation file", root=root)
    if size > MAX_BYTES:
        raise UnsupportedFormat("annotation file is implausibly long", path=text, value=size)
    samples: list[int] = []
    codes: list[int] = []
    texts: list[bytes] = []  # of each annotation; only those of the definitions matter
    time = at = 0
    while True:
        if at + 2 > len(content):
            raise TruncatedSignal("annotation file has no end mark", path=text, value=size)
        (word,) = struct.unpack_from("<H", content, at)
        at += 2
        code, value = word >> 10, word & 0x3FF
        if word == 0:
            break
        if code == _SKIP:
            if at + 4 > len(content):
                raise TruncatedSignal("annotation file ends within an annotation", path=text, value=size)
            # A 32-bit interval as the PDP-11 wrote it: high half first, each half little-endian.
            high, low = struct.unpack_from("<hH", content, at)
            time += (high << 16) + low
            at += 4
        elif code == _AUX:
            if texts and not texts[-1]:
                texts[-1] = content[at : at + value]
            at += value + (value & 1)
        elif code not in (_NUM, _SUB, _CHN):
            time += value
            if code:  # 0 marks nothing; wfdb-python writes one after its definitions
                samples.append(time)
                codes.append(code)
                texts.append(b"")
    resolution, own_symbols, first = _definitions(samples, codes, texts, text)
    positions = np.array(samples[first:], dtype=np.int64)
    if resolution is not None:
        rate = checked_sampling_rate(sampling_rate) if sampling_rate is not None else _rate_beside(text, root)
        positions = np.rint(positions * (rate / resolution)).astype(np.int64)
    return positions, tuple(own_symbols.get(code, SYMBOLS.get(code, f"#{code}")) for code in codes[first:])


def _definitions(
    samples: list[int], codes: list[int], texts: list[bytes], path: str
) -> tuple[float | None, dict[int, str], int]:
    """Ticks per second and symbols that notes at the beginning define, and how many notes those are."""
    resolution = None
    symbols: dict[int, str] = {}
    is_list = False
    for place, (sample, code, note) in enumerate(zip(samples, codes, texts, strict=True)):
        if code != _NOTE or sample != 0 or not (is_list or note.startswith(_DEFINITION)):
            return resolution, symbols, place
        note = note.rstrip(b"\0")
        if note.startswith(_BEGIN):
            is_list = True
        elif note.startswith(_END):
            is_list = False
        elif is_list:
            number, _, rest = note.partition(b" ")
            symbol = rest.split(b" ")[0].decode("utf-8", errors="replace")
            if not number.isdigit() or not symbol:
                raise UnsupportedFormat("annotation file has a malformed definition", path=path)
            symbols[int(number)] = symbol
        elif match := _RESOLUTION.fullmatch(note):
            try:
                resolution = checked_sampling_rate(float(match[1]))
            except ValueError:
                raise UnsupportedFormat(
                    "annotation file has a malformed time resolution", path=path
                ) from None
    return resolution, symbols, len(samples)


def _rate_beside(path: str, root: str | os.PathLike[str] | None) -> float:
    """Frame rate of the record that an annotation file lies beside."""
    try:
        rate = read_header(os.path.splitext(path)[0] + ".hea", root=root).sampling_rate
    except RecordNotFound:
        rate = None
    if rate is None:
        raise MetadataMissing(
            "annotation file has its own time resolution; pass the signal's sampling_rate",
            path=path,
            value="sampling_rate",
        )
    return checked_sampling_rate(rate)
