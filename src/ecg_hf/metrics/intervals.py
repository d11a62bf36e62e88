"""Intervals: their limits, how they were made, and the units that are resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError
from ecg_hf.metrics.ranking import BoolArray, FloatArray

__all__ = [
    "DEFAULT_LEVEL",
    "DEFAULT_RESAMPLES",
    "RESAMPLING_SEED",
    "Interval",
    "IntervalMethod",
    "check_level",
    "included_classes",
    "percentiles",
    "unit_numbers",
]

IntervalMethod = Literal["percentile", "floored"]
"""How limits were made."""

DEFAULT_RESAMPLES = 1000
DEFAULT_LEVEL = 0.95

RESAMPLING_SEED = 0
"""The same for every row of an evaluation: models are then compared on the same resamples."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval.

    Attributes:
        estimate: The statistic on the test set itself.
        low: Lower limit; NaN when no resample had a value.
        high: Upper limit.
    """

    estimate: float
    low: float
    high: float

    @property
    def limits(self) -> list[float]:
        """``[low, high]``, as results files store it."""
        return [self.low, self.high]


def unit_numbers(
    n: int, groups: Sequence[object] | npt.NDArray[np.generic] | None
) -> tuple[npt.NDArray[np.intp], int]:
    """Number of the unit every record belongs to, and how many units there are.

    Args:
        n: Records.
        groups: Patient of every record; a record whose patient is ``None``, empty or NaN is a unit of its own, as is
            every record without ``groups``.

    Raises:
        ConfigurationError: if there is not one patient per record.
    """
    if groups is None:
        return np.arange(n), n
    if len(groups) != n:
        raise ConfigurationError(f"{len(groups)} patients for {n} records", value=len(groups))
    numbers: dict[object, int] = {}
    units = np.empty(n, dtype=np.intp)
    for row, group in enumerate(groups):
        missing = group is None or group == "" or group != group
        key: object = ("record", row) if missing else ("patient", group)
        units[row] = numbers.setdefault(key, len(numbers))
    return units, len(numbers)


def check_level(level: float) -> None:
    """Raise unless ``level`` can be a nominal coverage."""
    if not 0.0 < level < 1.0:
        raise ConfigurationError(f"level must lie between 0 and 1, got {level}", value=level)


def included_classes(k: int, include: npt.ArrayLike | None) -> BoolArray:
    """Which of ``k`` classes a macro mean is taken over: ``include``, or all.

    Raises:
        ConfigurationError: if ``include`` does not name ``k`` classes.
    """
    if include is None:
        return np.ones(k, dtype=bool)
    chosen = np.asarray(include, dtype=bool)
    if chosen.shape != (k,):
        raise ConfigurationError(
            f"include must name {k} classes, got shape {chosen.shape}", value=chosen.shape
        )
    return chosen


def percentiles(samples: FloatArray, level: float) -> tuple[float, float]:
    """Limits between which the middle ``level`` of the finite samples lies; NaN if there are none."""
    kept = samples[np.isfinite(samples)]
    if kept.size == 0:
        return float("nan"), float("nan")
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(kept, [tail, 1.0 - tail])
    return float(low), float(high)
