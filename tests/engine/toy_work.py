"""Pieces for the tests: each writes a file; some end or stop their process first."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Piece:
    """A file to write. ``deaths`` is how many processes it takes with it before it is done; ``hangs`` likewise."""

    folder: str
    number: int
    deaths: int = 0
    hangs: int = 0

    def __str__(self) -> str:
        return f"piece {self.number}"


def write(piece: Piece) -> int:
    """Write the piece's file; counts every try in another."""
    folder = Path(piece.folder)
    with (folder / f"{piece.number}.tries").open("a") as file:
        file.write("x")
    tries = (folder / f"{piece.number}.tries").stat().st_size
    if tries <= piece.deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    if tries <= piece.hangs:
        time.sleep(600)
    time.sleep(0.02)
    (folder / f"{piece.number}.done").write_text(str(piece.number**2))
    return piece.number**2


def refuse(piece: Piece) -> int:
    """Raise the package's error for piece 3."""
    from ecg_hf.errors import HeaderError

    if piece.number == 3:
        raise HeaderError("this piece is no good", value=3)
    return write(piece)
