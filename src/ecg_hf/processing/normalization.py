"""Amplitude normalisation of a batch of windows, safe for flat and missing leads.

Statistics are accumulated in float64 and applied in float32. A lead or record without variation becomes
zeros instead of 0/0. Missing leads are left out of the statistics of their record.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from ecg_hf.processing.backend import Array, ArrayBackend

__all__ = ["MINMAX_EPSILON", "NORMALIZATIONS", "Normalization", "normalize"]

Normalization = Literal["none", "zscore_record", "zscore_lead", "minmax_record"]

NORMALIZATIONS: tuple[str, ...] = get_args(Normalization)

MINMAX_EPSILON = 1e-8
"""Added to the range by MERL's downstream data sets (finetune_dataset.py)."""

# A deviation below this (1 nV for a signal around zero, a few float32 steps for one riding on an offset) is rounding,
# and dividing by it would turn rounding into a signal.
_MIN_DEVIATION = 1e-6


def normalize(
    signal: Array,
    kind: Normalization,
    present: npt.NDArray[np.bool_],
    backend: ArrayBackend,
    extremes: tuple[Array, Array] | None = None,
) -> Array:
    """Normalise windows.

    Args:
        signal: float32 ``(records, leads, samples)``, finite. Not changed.
        kind: ``"none"``; ``"zscore_record"`` mean 0 and population standard deviation 1 over all present
            leads and samples of a record (ST-MEM); ``"zscore_lead"`` the same per lead; ``"minmax_record"``
            ``(x - min) / (max - min + 1e-8)`` over the record (MERL).
        present: bool ``(records, leads)``: leads that take part; the others come back as zeros.
        backend: Array library in use.
        extremes: Minimum and maximum of each lead ``(records, leads)``, if they are known already.

    Returns:
        float32, same shape, sharing no memory with ``signal``.
    """
    mask = None if present.all() else backend.constant(present)
    if kind == "none":
        normalized = backend.float32(signal)
    elif kind == "minmax_record":
        low, high = extremes or (backend.minimum(signal), backend.maximum(signal))
        # A missing lead must set neither end of the range, whatever its row holds.
        lowest, highest = -_largest(-low, mask, backend), _largest(high, mask, backend)
        normalized = signal - lowest
        normalized /= highest - lowest + MINMAX_EPSILON
    else:
        per_lead = kind == "zscore_lead"
        mean = backend.mean64(signal)
        mean = mean[..., None] if per_lead else _over_leads(mean, mask, backend)
        normalized = signal - backend.float32(mean)
        variance = backend.mean_square64(normalized)
        variance = variance[..., None] if per_lead else _over_leads(variance, mask, backend)
        deviation = variance**0.5
        varies = deviation > _MIN_DEVIATION * (1.0 + abs(mean))
        normalized *= backend.float32(varies / backend.where(varies, deviation, deviation * 0 + 1))
    if mask is None:
        return normalized
    return backend.where(mask[..., None], normalized, backend.zeros((1,)))


def _over_leads(values: Array, mask: Array | None, backend: ArrayBackend) -> Array:
    """Mean over the present leads: ``(records, leads)`` to ``(records, 1, 1)``."""
    if mask is None:
        return (values.sum(axis=-1) / values.shape[-1])[..., None, None]
    used = backend.where(mask, values, values * 0)
    count = mask.sum(axis=-1)
    count = backend.where(count > 0, count, count * 0 + 1)
    return (used.sum(axis=-1) / count)[..., None, None]


def _largest(values: Array, mask: Array | None, backend: ArrayBackend) -> Array:
    """Maximum over the present leads: ``(records, leads)`` to ``(records, 1, 1)``."""
    if mask is None:
        return backend.maximum(values)[..., None, None]
    best = backend.maximum(backend.where(mask, values, values * 0 + float("-inf")))
    best = backend.where(mask.any(axis=-1), best, backend.zeros((1,)))
    return best[..., None, None]
