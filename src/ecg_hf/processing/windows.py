"""Windows of a fixed length: cropping and padding with the account of which samples are real."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from ecg_hf.processing.backend import Array, ArrayBackend

__all__ = ["Crop", "PaddingSide", "crop_start", "crop_window", "pad_window", "window_mask"]

Crop = Literal["start", "center"]
PaddingSide = Literal["right", "left"]


def crop_start(length: int, n_samples: int, crop: Crop) -> int:
    """First sample that :func:`crop_window` keeps of ``length``."""
    surplus = max(length - n_samples, 0)
    return 0 if crop == "start" else surplus // 2


def crop_window(signal: Array, n_samples: int, crop: Crop) -> Array:
    """At most ``n_samples`` samples of ``(..., samples)``, from the start or the middle. A view."""
    if signal.shape[-1] <= n_samples:
        return signal
    offset = crop_start(signal.shape[-1], n_samples, crop)
    return signal[..., offset : offset + n_samples]


def pad_window(
    signal: Array, n_samples: int, side: PaddingSide, value: float, backend: ArrayBackend
) -> Array:
    """At least ``n_samples`` samples of ``(..., samples)``: ``side`` is where ``value`` is appended."""
    missing = n_samples - signal.shape[-1]
    if missing <= 0:
        return signal
    before, after = (0, missing) if side == "right" else (missing, 0)
    return backend.pad(signal, before, after, value)


def window_mask(n_real: int, n_samples: int, side: PaddingSide) -> npt.NDArray[np.int64]:
    """int64 ``(n_samples,)``: 1 for the ``n_real`` samples that were recorded, 0 for padding."""
    mask = np.zeros(n_samples, dtype=np.int64)
    real = slice(0, n_real) if side == "right" else slice(max(n_samples - n_real, 0), n_samples)
    mask[real] = 1
    return mask
