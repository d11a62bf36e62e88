"""Missing samples (NaN) around operations that can't take them, and padding that a recorder put in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ecg_hf.signal.record import EcgRecord

__all__ = ["bridge_gaps", "trailing_zeros", "without_padding"]


def bridge_gaps(
    signal: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_] | None]:
    """Replace NaN along the last axis by linear interpolation; edges take the nearest valid sample.

    Rows without any valid sample become zeros.

    Args:
        signal: Floating ``(..., samples)``, never modified.

    Returns:
        The signal without NaN, and the bool mask of what was missing. When nothing was, the signal is the
        input itself and the mask None.
    """
    missing = np.isnan(signal)
    if not missing.any():
        return signal, None
    filled = signal.copy()
    rows = filled.reshape(-1, signal.shape[-1])
    masks = missing.reshape(-1, signal.shape[-1])
    positions = np.arange(signal.shape[-1])
    for index in np.flatnonzero(masks.any(axis=1)).tolist():
        row, gap = rows[index], masks[index]
        row[gap] = 0.0 if gap.all() else np.interp(positions[gap], positions[~gap], row[~gap])
    return rows.reshape(signal.shape), missing


def trailing_zeros(signal: npt.NDArray[np.generic]) -> int:
    """How many samples at the end of ``(leads, samples)`` are zero in every lead."""
    used = np.flatnonzero((signal != 0).any(axis=0))
    return int(signal.shape[1] - (used[-1] + 1 if len(used) else 0))


def without_padding(record: EcgRecord) -> npt.NDArray[np.float32]:
    """The signal up to where a record's note ``zero_padding`` says that its last samples are no samples.

    Returns:
        ``(leads, samples)``, a view; all of it where there is no such note.
    """
    if not any(note.code == "zero_padding" for note in record.notes):
        return record.signal
    return record.signal[:, : max(1, record.signal.shape[1] - trailing_zeros(record.signal))]
