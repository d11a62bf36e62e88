"""Files gone wrong at random: bytes changed, cut, repeated; words replaced by such as cause trouble."""

from __future__ import annotations

import random

WORDS = (
    *(
        "0",
        "1",
        "-1",
        "2",
        "16",
        "24",
        "80",
        "212",
        "310",
        "311",
        "508",
        "516",
        "61",
        "8",
        "17",
        "16x2",
        "16x0",
        "16:5",
    ),
    *(
        "16+24",
        "16x999999:999999999+999999999999",
        "212x3",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "1e-320",
        "1e300",
        "5e9",
    ),
    *(
        "99999999",
        "500000000000",
        "9223372036854775808",
        "1_000",
        "\u0661\u0662",
        "\u00b2",
        "0x10",
        "1.5",
        ".",
        "+",
    ),
    *(
        "../r0",
        "../secret.dat",
        "/etc/passwd",
        "..",
        "~",
        "~/r0.dat",
        "r0",
        "r0/2",
        "r0.dat",
        "secret.dat",
        "a\\b",
    ),
    *(
        "http://h/r0.dat",
        "s3://b/r0",
        "-",
        "#",
        "(",
        ")",
        "/",
        "mV",
        "uV",
        "furlong",
        "1000(0)/mV",
        "200(1e5)/uV",
    ),
    *(
        "1000(99999999999)/mV",
        "-1000/mV",
        "0/mV",
        "I",
        "II",
        "aVR",
        "MLII",
        "\u00b5V",
        '"',
        "'",
        ",",
        ";",
        "\t",
    ),
    *(
        "True",
        "None",
        "{}",
        "[]",
        "__import__('os')",
        "'descr': '|O'",
        "'<f8'",
        "(12, 5000)",
        "(-1, 5)",
        "{'a':1}",
    ),
)
TROUBLE = (
    b"\0",
    b"\xff",
    b"\r",
    b"\n",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"\x1a",
    b"\xc3\x28",
    b"#",
    b" ",
    b"\x80" * 8,
)


def mutate(content: bytes, source: random.Random, *, words: bool) -> bytes:
    """``content`` with one to four changes.

    Args:
        content: A file as it should be.
        source: Of randomness.
        words: The file is text: replace and move words too.
    """
    for _ in range(source.randint(1, 4)):
        change = source.choice(
            (_flip, _cut, _insert, _repeat, _swap, *((_word, _word, _word, _line) if words else ()))
        )
        content = change(content, source)
    return content


def _flip(content: bytes, source: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(source.choice((1, 1, 8, 64))):
        if changed:
            # The beginning decides more than the middle.
            changed[source.randrange(min(len(changed), source.choice((64, 512, 1 << 30))))] = (
                source.randrange(256)
            )
    return bytes(changed)


def _cut(content: bytes, source: random.Random) -> bytes:
    start, stop = sorted(source.randrange(len(content) + 1) for _ in range(2))
    return source.choice((content[:start], content[start:], content[:start] + content[stop:]))


def _insert(content: bytes, source: random.Random) -> bytes:
    at = source.randrange(len(content) + 1)
    return content[:at] + source.choice(TROUBLE) + content[at:]


def _repeat(content: bytes, source: random.Random) -> bytes:
    start, stop = sorted(source.randrange(len(content) + 1) for _ in range(2))
    return content[:stop] + content[start : min(stop, start + 4096)] * source.randint(1, 4) + content[stop:]


def _swap(content: bytes, source: random.Random) -> bytes:
    a, b, c = sorted(source.randrange(len(content) + 1) for _ in range(3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def _word(content: bytes, source: random.Random) -> bytes:
    lines = content.split(b"\n")
    at = source.randrange(len(lines))
    parts = lines[at].split(b" ")
    parts[source.randrange(len(parts))] = source.choice(WORDS).encode()
    lines[at] = b" ".join(parts)
    return b"\n".join(lines)


def _line(content: bytes, source: random.Random) -> bytes:
    lines = content.split(b"\n")
    at = source.randrange(len(lines))
    lines.insert(
        source.randrange(len(lines) + 1), source.choice((lines[at], b"", b"#x", b"r0 5000", b"~ 1000"))
    )
    return b"\n".join(lines)
