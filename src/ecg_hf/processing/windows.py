"""Windows of a fixed length: cropping, padding, and the mask of recorded samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ecg_hf.processing.backend import Array, ArrayBackend
from ecg_hf.signal.resampling import rate_ratio, resampled_length

__all__ = ["Crop", "InputWindow", "PaddingSide", "crop_start", "input_window", "pad_window", "window_mask"]

Crop = Literal["start", "center"]
PaddingSide = Literal["right", "left"]


@dataclass(frozen=True, slots=True)
class InputWindow:
    """Which part of a recording is read, and which part of that is used.

    Attributes:
        first: First sample of the recording that is read.
        last: One past the last sample that is read.
        used: First and one past the last sample that is used, counted from ``first``.
        start: First sample of the output, in samples of the whole recording at the output's rate.
        offset: The same, counted from ``first``.
        length: Samples of the whole recording at the output's rate.
    """

    first: int
    last: int
    used: tuple[int, int]
    start: int
    offset: int
    length: int


def input_window(
    samples: int, rate_in: float, rate_out: float, n_samples: int | None, crop: Crop, margin_s: float
) -> InputWindow:
    """The part of a recording that ``n_samples`` of output depend on.

    Args:
        samples: Samples of the recording.
        rate_in: Its rate in Hz.
        rate_out: Rate of the output in Hz.
        n_samples: Samples of the output; ``None`` for all.
        crop: Which part.
        margin_s: Seconds on either side that resampling and filters need.

    Raises:
        SamplingRateError: if the rates can't be related.
    """
    length = samples if rate_in == rate_out else resampled_length(samples, rate_in, rate_out)
    if n_samples is None or length <= n_samples:
        return InputWindow(0, samples, (0, samples), 0, 0, length)
    ratio = rate_ratio(rate_in, rate_out)
    start = crop_start(length, n_samples, crop)
    margin = math.ceil(margin_s * rate_out)
    # The sampling grids coincide every ``ratio.denominator`` input samples. Starting at such a sample, the part is
    # resampled to the same values as within the whole recording.
    periods = max(0, start - margin) // ratio.numerator
    first, skipped = periods * ratio.denominator, periods * ratio.numerator
    # A whole number of periods, because the Fourier method would stretch any other length to whole output samples.
    last = first + -(-(start + n_samples + margin - skipped) // ratio.numerator) * ratio.denominator
    last = min(samples, last)
    begin, end = math.floor(start / ratio) - first, math.ceil((start + n_samples) / ratio) - first
    used = (min(begin, last - first - 1), min(max(end, begin + 1), last - first))
    return InputWindow(first, last, used, start, start - skipped, length)


def crop_start(length: int, n_samples: int, crop: Crop) -> int:
    """First sample that is kept of ``length``."""
    surplus = max(length - n_samples, 0)
    return 0 if crop == "start" else surplus // 2


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
