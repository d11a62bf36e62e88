"""Label fractions: nested subsets of the training records, by seed or by MERL's published rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecg_hf.errors import ConfigurationError

__all__ = ["DEFAULT_FRACTIONS", "LabelledSubset", "merl_subset", "nested_subsets"]

DEFAULT_FRACTIONS: tuple[float, ...] = (0.01, 0.1, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSubset:
    """Training records whose labels a probe may see.

    Attributes:
        fraction: Share of the training records, in (0, 1].
        indices: Ascending row numbers within the training records.
        positives: int64 ``(classes,)``: positive records per class within the subset.
    """

    fraction: float
    indices: npt.NDArray[np.int64]
    positives: npt.NDArray[np.int64]

    @property
    def n(self) -> int:
        """Number of records."""
        return len(self.indices)


def nested_subsets(
    labels: npt.ArrayLike, fractions: Sequence[float] = DEFAULT_FRACTIONS, *, seed: int = 0
) -> tuple[LabelledSubset, ...]:
    """Uniform random subsets, each containing all smaller ones.

    ``numpy.random.RandomState(seed)`` permutes the records once and every fraction takes its beginning:
    1 % lies inside 10 %, which lies inside 100 %. Subsets are not stratified: a class may have no positive,
    which :attr:`LabelledSubset.positives` shows.

    Args:
        labels: 0/1 ``(training records, classes)``.
        fractions: Shares in (0, 1]; at least one record is kept for each.
        seed: Seed of the permutation.

    Returns:
        One subset per fraction, in the order given.

    Raises:
        ConfigurationError: for a share outside (0, 1] or labels without records.
    """
    y = np.asarray(labels)
    if y.ndim != 2 or len(y) == 0:
        raise ConfigurationError(f"labels must be (records, classes), got {y.shape}", value=y.shape)
    order = np.random.RandomState(seed).permutation(len(y))
    subsets = []
    for fraction in fractions:
        _check_fraction(fraction)
        indices = np.sort(order[: max(1, _floor(fraction, len(y)))]).astype(np.int64)
        subsets.append(LabelledSubset(float(fraction), indices, y[indices].astype(bool).sum(axis=0)))
    return tuple(subsets)


def merl_subset(n: int, fraction: float) -> npt.NDArray[np.int64]:
    """Row numbers MERL trains on at a label fraction, in MERL's order.

    Source: ``finetune_dataset.py`` (scikit-learn's ``train_test_split`` with ``random_state=42``), which is
    the end of one seeded permutation.

    Args:
        n: Rows of the training table.
        fraction: 0.01, 0.1 or 1.

    Raises:
        ConfigurationError: for a share outside (0, 1] or one that keeps no row.
    """
    _check_fraction(fraction)
    if fraction == 1.0:
        return np.arange(n, dtype=np.int64)
    kept = _floor(fraction, n)
    if kept < 1:
        raise ConfigurationError(f"{fraction:g} of {n} rows is none", value=fraction)
    return np.random.RandomState(42).permutation(n)[n - kept :].astype(np.int64)


def _floor(fraction: float, n: int) -> int:
    # 0.1 * 30 is 3.0000000000000004 and 0.29 * 100 is 28.999999999999996: both mean the whole number.
    return int(np.floor(round(fraction * n, 9)))


def _check_fraction(fraction: float) -> None:
    if not 0.0 < fraction <= 1.0:
        raise ConfigurationError(f"a label fraction must lie in (0, 1], got {fraction}", value=fraction)
