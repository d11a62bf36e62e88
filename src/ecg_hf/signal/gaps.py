"""Missing samples (NaN) around operations that can't take them: bridge, compute, put them back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["bridge_gaps"]


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
