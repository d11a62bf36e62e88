"""Authors' files as an enemy or an accident leaves them, for the converters of all methods."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

Writer = Callable[[dict[str, Tensor], Path], None]
"""Writes what is left of good weights to a path."""


class Payload:
    """Makes a file beside the checkpoint when something careless unpickles it."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.canary}",)


def canary_of(path: Path) -> Path:
    return path.with_name("canary")


def _largest(weights: dict[str, Tensor]) -> str:
    """Not a table of positions: those that are fixed are computed, and what the file has of them is left out."""
    learned = [key for key in weights if not key.endswith(("pos_embed", ".pe"))]
    return max(learned, key=lambda key: weights[key].numel())


def _changed(change: Callable[[dict[str, Tensor]], None]) -> Writer:
    def write(weights: dict[str, Tensor], path: Path) -> None:
        weights = {key: value.clone() for key, value in weights.items()}
        change(weights)
        torch.save({"state_dict": weights}, path)

    return write


def _drop(weights: dict[str, Tensor]) -> None:
    del weights[_largest(weights)]


def _claim(weights: dict[str, Tensor]) -> None:
    weights[_largest(weights)] = torch.zeros(1).expand(1 << 20, 1 << 20)


def _nan(weights: dict[str, Tensor]) -> None:
    weights[_largest(weights)].view(-1)[-1] = torch.nan


def _rename(weights: dict[str, Tensor]) -> None:
    for key in list(weights):
        weights[f"{key}s"] = weights.pop(key)


def _grow(weights: dict[str, Tensor]) -> None:
    weights[_largest(weights)] = torch.zeros(3, 5, 7)


def _code(weights: dict[str, Tensor], path: Path) -> None:
    torch.save({"state_dict": weights, "epoch": Payload(canary_of(path))}, path)


def _garbage(weights: dict[str, Tensor], path: Path) -> None:
    path.write_bytes(b"\x80\x02}q\x00" + bytes(range(64)))


HOSTILE: dict[str, tuple[Writer, str]] = {
    "code": (_code, "refused"),
    "key-missing": (_changed(_drop), "missing"),
    "key-extra": (_changed(lambda weights: weights.update(stray=torch.ones(3))), "1 unexpected: stray"),
    "keys-renamed": (_changed(_rename), "not a checkpoint of this method"),
    "shape-of-terabytes": (_changed(_claim), "too few numbers"),
    "shape-wrong": (_changed(_grow), "x.pt"),
    "nan": (_changed(_nan), "not finite"),
    "garbage": (_garbage, "x.pt"),
}
"""Files no converter may take, and a word of the refusal."""
