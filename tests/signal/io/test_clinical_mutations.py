"""Spoilt clinical files: a thousand of each format raise nothing but ``EcgError`` and stay small in memory.

``ECG_HF_MUTATIONS=1000`` runs as many of each format; by default a sample of them is run.
"""

from __future__ import annotations

import os
import random
import re
import tracemalloc
import warnings

import pytest

from ecg_hf import read_record
from ecg_hf.errors import EcgError
from tests.signal.io.clinical import SMALL, small

COUNT = int(os.environ.get("ECG_HF_MUTATIONS", "40"))
ODD_BYTES = (b"\xff" * 4, b"\0" * 4, b"99999999", b"-1", b"1e999", b"<", b"nan", b'"', b"&a;", b"")
ODD_TEXTS = (
    b"", b"0", b"-1", b"1e308", b"nan", b"inf", b"9" * 20, b"0.0000001", b"x", b"65536", b"1e-320", b"1e5000",
    b"\xc2\xb5V", b"MEDIAN",
)  # fmt: skip
FIELD = re.compile(rb'>[^<>]{1,30}<|="[^"]{0,40}"')
DATA = re.compile(rb"[A-Za-z0-9+/ ,-]{200,}")


def spoilt_fields(content: bytes, dice: random.Random) -> bytes:
    """Values of XML exchanged for odd ones: well-formed, and so it gets far."""
    for _ in range(dice.choice((1, 1, 2, 4))):
        spots = list(FIELD.finditer(content[:60_000] if dice.random() < 0.5 else content))
        if not spots:
            return content
        spot, odd = dice.choice(spots), dice.choice(ODD_TEXTS)
        new = b">" + odd + b"<" if spot[0][:1] == b">" else b'="' + odd + b'"'
        content = content[: spot.start()] + new + content[spot.end() :]
    spots = list(DATA.finditer(content)) if dice.random() < 0.2 else []
    if spots:
        spot = dice.choice(spots)
        cut = dice.randrange(spot.start(), spot.end())
        content = (
            content[:cut]
            + dice.choice((b"", b"!", b"AAAA", b"9" * 50))
            + content[min(cut + dice.randrange(40), spot.end()) :]
        )
    return content


def spoilt_bytes(content: bytes, dice: random.Random) -> bytes:
    """Bits, bytes, digits and stretches changed, taken out or doubled; the first ones more often."""
    data = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 5, 20))):
        at = dice.randrange(min(len(data), dice.choice((64, 600, 4096, len(data)))) or 1)
        kind = dice.randrange(7)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << dice.randrange(8)
        elif kind == 1:
            data[at : at + dice.randrange(1, 9)] = dice.randbytes(dice.randrange(1, 9))
        elif kind == 2:
            del data[dice.randrange(len(data) + 1) :]
        elif kind == 3:
            del data[at : at + dice.randrange(1, 400)]
        elif kind == 4:
            data[at:at] = data[at : at + dice.randrange(1, 400)]
        elif kind == 5:
            data[at : at + dice.randrange(1, 9)] = dice.choice(ODD_BYTES)
        else:
            digits = [i for i in range(at, min(at + 300, len(data))) if 48 <= data[i] <= 57]
            if digits:
                data[dice.choice(digits)] = 48 + dice.randrange(10)
    return bytes(data)


@pytest.mark.parametrize("kind", SMALL)
def test_nothing_but_our_errors_and_little_memory(kind: str):
    content = small(kind)
    read_record(content)
    dice = random.Random(kind)
    is_xml = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(COUNT):
            spoil = spoilt_fields if is_xml and dice.random() < 0.75 else spoilt_bytes
            wrong = spoil(content, dice)
            is_measured = number % 10 == 0  # which makes it ten times slower
            if is_measured:
                tracemalloc.start()
            said = ""
            try:
                read_record(wrong)
            except EcgError as error:
                said = f"{error} {error.value!r}"
            finally:
                peak = tracemalloc.get_traced_memory()[1] if is_measured else 0
                tracemalloc.stop()
            assert "\n" not in said
            assert "ZZ" not in said, number
            assert peak < 40 * len(content) + 40_000_000, number
