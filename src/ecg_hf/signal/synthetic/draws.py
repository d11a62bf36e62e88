"""Random numbers that belong to a record, not to the batch it happens to be made in."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

__all__ = ["Draws", "FloatArray", "IntArray", "Stream", "generator"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Stream(IntEnum):
    """Independent families of random numbers; adding one never shifts the others."""

    LAYOUT = 1
    PATIENT = 2
    RECORD = 3
    BEATS = 4
    NOISE = 5
    REPORT = 6


def generator(seed: int, stream: Stream, index: int) -> np.random.Generator:
    """The generator of one record, patient or block, whatever else is being simulated."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, int(stream), index))))


class Draws:
    """A table of uniform numbers, one row per record, handed out column by column.

    Every decision about a record takes the next column, so that decisions are vectorised over the batch
    while each row depends on ``(seed, stream, index)`` alone.

    Args:
        seed: Seed of the corpus.
        stream: Family of random numbers.
        indices: Record (or patient) numbers, one per row.
        columns: How many numbers each row holds.
    """

    def __init__(self, seed: int, stream: Stream, indices: Sequence[int], columns: int) -> None:
        # The loop is the price of independence from the batch: some ten microseconds per row.
        rows = [generator(seed, stream, int(index)).random(columns) for index in indices]
        self._table: FloatArray = np.stack(rows) if rows else np.empty((0, columns))
        self._next = 0

    def take(self, rows: IntArray) -> Draws:
        """The same draws for a selection (with repetition) of rows, starting at the same column."""
        chosen = object.__new__(Draws)
        chosen._table = self._table[rows]
        chosen._next = self._next
        return chosen

    @classmethod
    def either(cls, condition: npt.NDArray[np.bool_], yes: Draws, no: Draws, columns: int) -> Draws:
        """``columns`` new columns, taken row by row from ``yes`` or ``no``; both move on."""
        chosen = object.__new__(cls)
        chosen._table = np.where(condition[:, None], yes.block(columns), no.block(columns))
        chosen._next = 0
        return chosen

    def block(self, columns: int) -> FloatArray:
        """``(rows, columns)`` uniform numbers in [0, 1)."""
        start, stop = self._next, self._next + columns
        if stop > self._table.shape[1]:
            raise IndexError(f"{stop} random columns wanted, {self._table.shape[1]} drawn")
        self._next = stop
        return self._table[:, start:stop]

    def uniform(self, low: float = 0.0, high: float = 1.0) -> FloatArray:
        """``(rows,)`` uniform numbers in [low, high)."""
        return low + (high - low) * self.block(1)[:, 0]

    def normal(self, mean: float = 0.0, deviation: float = 1.0, limit: float = 3.0) -> FloatArray:
        """``(rows,)`` Gaussian numbers, clipped at ``limit`` standard deviations."""
        return mean + deviation * self.normals(1, limit)[:, 0]

    def normals(self, columns: int, limit: float = 3.0) -> FloatArray:
        """``(rows, columns)`` standard Gaussian numbers, clipped at ``limit``."""
        standard: FloatArray = ndtri(np.maximum(self.block(columns), 1e-12))
        return np.clip(standard, -limit, limit)

    def chance(self, probability: float | FloatArray) -> npt.NDArray[np.bool_]:
        """``(rows,)`` True with the given probability."""
        return self.block(1)[:, 0] < probability

    def choice(self, weights: FloatArray) -> IntArray:
        """``(rows,)`` category numbers, by ``(rows, categories)`` or ``(categories,)`` weights.

        A row whose weights are all zero gets category -1.
        """
        table = np.broadcast_to(weights, (self._table.shape[0], weights.shape[-1]))
        edges = np.cumsum(table, axis=1)
        total = edges[:, -1]
        point = self.block(1)[:, 0] * total
        picked = np.minimum((edges <= point[:, None]).sum(axis=1), table.shape[1] - 1)
        return np.where(total > 0.0, picked, -1).astype(np.int64)
