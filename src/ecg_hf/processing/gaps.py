"""Invalid samples: NaN, infinities and values no amplifier can deliver."""

from __future__ import annotations

from typing import Literal

import numpy as np
from transformers.utils import logging

from ecg_hf.errors import NonFiniteSignal
from ecg_hf.processing.backend import Array, ArrayBackend
from ecg_hf.processing.inputs import EcgStack
from ecg_hf.processing.report import ReportBuilder

__all__ = ["MAX_AMPLITUDE", "NanPolicy", "fill_gaps", "repair_gaps"]

logger = logging.get_logger(__name__)

NanPolicy = Literal["interpolate", "zero", "raise"]

MAX_AMPLITUDE = 1e10
"""Largest magnitude accepted as a sample. Above any ADC's full scale (int32: 2.1e9), and small enough that sums
of squares and differences stay finite in float32 statistics."""


def repair_gaps(
    stack: EcgStack,
    policy: NanPolicy,
    max_share: float,
    backend: ArrayBackend,
    report: ReportBuilder | None,
) -> Array:
    """The stack's signal with invalid samples replaced, announced by one warning.

    Args:
        stack: Records in which no lead has more than ``max_share`` of invalid samples. Not changed.
        policy: See :func:`fill_gaps`.
        max_share: The limit, for the warning.
        backend: Array library in use.
        report: Where to note how many samples of which lead.

    Raises:
        NonFiniteSignal: if ``policy`` is ``"raise"`` and a sample of the window is invalid.
    """
    signal = stack.signal
    invalid = ~(abs(signal) <= MAX_AMPLITUDE)
    if not bool(invalid.any()):
        return signal
    begin, end = stack.window.used
    counts = backend.to_numpy(invalid[..., begin:end].sum(axis=-1))
    if not counts.any():
        # All invalid samples are in the margins, so nothing that is used was changed.
        return fill_gaps(signal, invalid, "interpolate", backend)
    if policy == "raise":
        record, lead = np.argwhere(counts)[0]
        raise NonFiniteSignal(
            f"record {stack.positions[record]} of the batch has {counts[record, lead]} invalid samples",
            lead=stack.lead_names[lead],
            value=int(counts[record, lead]),
        )
    what = "set to zero" if policy == "zero" else "replaced by straight lines"
    logger.warning_once(
        f"Invalid samples (NaN, infinite or absurd) are {what}, at most {max_share:.0%} of a lead; "
        "return_report=True says where."
    )
    if report is not None:
        code = "nan_zeroed" if policy == "zero" else "nan_interpolated"
        for record, lead in np.argwhere(counts):
            detail = f"{counts[record, lead]} of {end - begin} samples"
            report.add([stack.positions[record]], code, detail, stack.lead_names[lead])
    return fill_gaps(signal, invalid, policy, backend)


def fill_gaps(signal: Array, invalid: Array, policy: NanPolicy, backend: ArrayBackend) -> Array:
    """Replace invalid samples.

    Args:
        signal: float32 ``(records, leads, samples)``. Not changed.
        invalid: bool, same shape: which samples are invalid. Every lead needs a valid sample.
        policy: ``"interpolate"`` draws a straight line between the valid neighbours and holds the first and
            last valid value at the ends; ``"zero"`` writes 0 mV; ``"raise"`` refuses.
        backend: Array library in use.

    Returns:
        The repaired signal.
    """
    if policy == "raise":
        raise NonFiniteSignal("the signal has invalid samples")
    if policy == "zero":
        return backend.where(invalid, backend.zeros((1,)), signal)
    n_samples = signal.shape[-1]
    rows = signal.reshape(-1, n_samples)
    bad = invalid.reshape(-1, n_samples)
    # Gaps are rare: the neighbour search runs over the affected leads only.
    affected = bad.any(axis=-1)
    repaired = backend.float32(rows)
    repaired[affected] = _interpolate(rows[affected], bad[affected], backend)
    return repaired.reshape(signal.shape)


def _interpolate(rows: Array, bad: Array, backend: ArrayBackend) -> Array:
    n_samples = rows.shape[-1]
    index = backend.constant(range(n_samples))
    # Index of the nearest valid sample at or before each position (-1: none), and at or after it (n: none).
    before = backend.running_maximum(backend.where(bad, index * 0 - 1, index))
    mirrored = backend.flip(backend.where(bad, index * 0 - 1, n_samples - 1 - index))
    after = n_samples - 1 - backend.flip(backend.running_maximum(mirrored))
    # At the ends only one neighbour exists; it serves as both.
    has_before, has_after = before >= 0, after < n_samples
    left = backend.where(has_before, before, after)
    right = backend.where(has_after, after, before)
    gap = right - left
    weight = backend.float32(index - left) / backend.float32(backend.where(gap > 0, gap, gap * 0 + 1))
    start, end = backend.take(rows, left), backend.take(rows, right)
    return backend.where(bad, start + (end - start) * weight, rows)
