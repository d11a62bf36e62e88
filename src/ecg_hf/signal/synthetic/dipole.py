"""The cardiac dipole: its directions, its lead fields, and the kernels its loops are drawn with.

Axes: x to the patient's left, y towards the feet, z to the front. Amplitudes are millivolts. Signals live in
the eight independent leads ``I II V1..V6`` until the very end, when the other four limb leads are computed
from I and II; that is what makes Einthoven's and Goldberger's identities hold to the last rounding.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ecg_hf.signal.synthetic.draws import FloatArray

__all__ = ["INDEPENDENT_LEADS", "LEAD_FIELD", "electrodes_to_leads", "flat_top", "twelve_leads"]

INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")

# Limb leads form Einthoven's equilateral triangle. Chest rows follow the course of the classical
# vectorcardiographic transforms (Dower 1980), rounded, with gains that match the amplitudes of PTB-XL.
LEAD_FIELD: FloatArray = np.asarray(
    [
        [1.00, 0.000, 0.00],
        [0.50, 0.866, 0.00],
        [-0.55, 0.16, 1.00],
        [0.07, 0.21, 1.90],
        [1.20, 0.14, 1.70],
        [1.70, 0.17, 0.85],
        [1.45, 0.16, 0.10],
        [1.05, 0.10, -0.28],
    ]
)

# Rows: the eight independent leads. Columns: electrodes RA, LA, LL, V1..V6.
_THIRD = 1.0 / 3.0
ELECTRODES_TO_LEADS: FloatArray = np.vstack(
    [
        [-1, 1, 0, 0, 0, 0, 0, 0, 0],
        [-1, 0, 1, 0, 0, 0, 0, 0, 0],
        np.hstack([np.full((6, 3), -_THIRD), np.eye(6)]),
    ]
)


def electrodes_to_leads(potentials: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Leads ``(..., 8, samples)`` from electrode potentials RA, LA, LL, V1..V6 ``(..., 9, samples)``."""
    right, left, foot = potentials[..., 0, :], potentials[..., 1, :], potentials[..., 2, :]
    terminal = (right + left + foot) * np.float32(_THIRD)
    leads = np.empty((*potentials.shape[:-2], 8, potentials.shape[-1]), dtype=np.float32)
    leads[..., 0, :] = left - right
    leads[..., 1, :] = foot - right
    leads[..., 2:, :] = potentials[..., 3:, :] - terminal[..., None, :]
    return leads


def twelve_leads(
    independent: npt.NDArray[np.float32], out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Standard leads ``(..., 12, samples)`` from ``I II V1..V6`` ``(..., 8, samples)``, float32."""
    if out is None:
        out = np.empty((*independent.shape[:-2], 12, independent.shape[-1]), dtype=np.float32)
    half = np.float32(0.5)
    one, two = independent[..., 0, :], independent[..., 1, :]
    out[..., 0, :] = one
    out[..., 1, :] = two
    out[..., 2, :] = two - one
    out[..., 3, :] = (one + two) * -half
    out[..., 4, :] = one - half * two
    out[..., 5, :] = two - half * one
    out[..., 6:, :] = independent[..., 2:, :]
    return out


def flat_top(
    time: npt.NDArray[np.floating],
    center: npt.NDArray[np.floating],
    left: npt.NDArray[np.floating],
    right: npt.NDArray[np.floating],
    plateau: npt.NDArray[np.floating] | None = None,
) -> npt.NDArray[np.floating]:
    """Gaussian kernel with two flanks and, if asked for, a flat top. Peak value 1.

    Args:
        time: Seconds, broadcastable against the parameters.
        center: Middle of the kernel (of its flat top) in seconds.
        left: Standard deviation of the rising flank in seconds.
        right: Standard deviation of the falling flank in seconds.
        plateau: Half length of the flat top in seconds.
    """
    offset = time - center
    scale = np.where(offset < 0, np.reciprocal(left), np.reciprocal(right))
    if plateau is not None:
        offset = np.maximum(np.abs(offset) - plateau, 0)
    offset *= scale
    np.square(offset, out=offset)
    offset *= offset.dtype.type(-0.5)
    np.exp(offset, out=offset)
    return offset
