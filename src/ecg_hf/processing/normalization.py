"""Amplitude normalisation of a batch of windows, safe for flat and missing leads.

Statistics are accumulated in float64 and applied in float32. A lead or record without variation becomes
zeros instead of 0/0. Leads that are not there take no part in the statistics of their record.
"""

from __future__ import annotations

from typing import Literal, get_args

from ecg_hf.processing.backend import Array, ArrayBackend

__all__ = ["MINMAX_EPSILON", "NORMALIZATIONS", "Normalization", "normalize"]

Normalization = Literal["none", "zscore_record", "zscore_lead", "minmax_record"]

NORMALIZATIONS: tuple[str, ...] = get_args(Normalization)

MINMAX_EPSILON = 1e-8
"""Added to the range by MERL's downstream data sets (finetune_dataset.py)."""

# Below this (1 nV for a signal around zero, a few float32 steps for one riding on an offset) what is left is
# rounding, and dividing by it would turn rounding into a signal.
_MIN_DEVIATION = 1e-6


def normalize(signal: Array, kind: Normalization, present: Array, backend: ArrayBackend) -> Array:
    """Normalise windows.

    Args:
        signal: float32 ``(records, leads, samples)``, finite. Not changed.
        kind: ``"none"``; ``"zscore_record"`` mean 0 and population standard deviation 1 over all present
            leads and samples of a record (ST-MEM); ``"zscore_lead"`` the same per lead; ``"minmax_record"``
            ``(x - min) / (max - min + 1e-8)`` over the record (MERL).
        present: bool ``(records, leads)``: leads that take part; the others come back as zeros.
        backend: Array library in use.

    Returns:
        float32, same shape.
    """
    kept = present[..., None]
    if kind == "zscore_lead":
        signal = _standardize(signal, backend.mean64(signal)[..., None], None, backend)
    elif kind == "zscore_record":
        lead_means = backend.mean64(signal)
        signal = _standardize(signal, _over_leads(lead_means, present, backend), present, backend)
    elif kind == "minmax_record":
        lowest, highest = backend.minimum(signal), backend.maximum(signal)
        # A lead that is absent must set neither end of the range, whatever its row holds.
        low = -_largest(-lowest, present, backend)
        high = _largest(highest, present, backend)
        signal = (signal - low) / (high - low + MINMAX_EPSILON)
    return backend.where(kept, signal, backend.zeros((1,)))


def _standardize(signal: Array, mean: Array, present: Array | None, backend: ArrayBackend) -> Array:
    centered = signal - backend.float32(mean)
    variance = backend.mean_square64(centered)
    variance = variance[..., None] if present is None else _over_leads(variance, present, backend)
    deviation = variance**0.5
    varies = deviation > _MIN_DEVIATION * (1.0 + abs(mean))
    safe = backend.where(varies, deviation, deviation * 0 + 1)
    return backend.where(varies, centered / backend.float32(safe), backend.zeros((1,)))


def _over_leads(values: Array, present: Array, backend: ArrayBackend) -> Array:
    """Mean over the present leads: ``(records, leads)`` to ``(records, 1, 1)``."""
    used = backend.where(present, values, values * 0)
    count = present.sum(axis=-1)
    count = backend.where(count > 0, count, count * 0 + 1)
    return (used.sum(axis=-1) / count)[..., None, None]


def _largest(values: Array, present: Array, backend: ArrayBackend) -> Array:
    """Maximum over the present leads: ``(records, leads)`` to ``(records, 1, 1)``."""
    floor = values * 0 + float("-inf")
    best = backend.maximum(backend.where(present, values, floor))
    best = backend.where(present.any(axis=-1), best, backend.zeros((1,)))
    return best[..., None, None]
