"""Changing the sampling rate: a windowed sinc at any ratio by default, Fourier where a published pipeline needs it.

One kernel serves every ratio. Where the rates are a ratio of integers it is applied as a polyphase filter, of small
ones as a matrix product; otherwise it is evaluated at the exact position of each output sample, so no ratio is ever
rounded.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.signal import firwin, resample_poly
from scipy.signal import resample as _resample_fourier
from scipy.special import i0

from ecg_hf.errors import ConfigurationError, SamplingRateError, SignalError
from ecg_hf.signal.gaps import bridge_gaps
from ecg_hf.signal.units import checked_sampling_rate

__all__ = [
    "HALF_WIDTH",
    "RESAMPLING_METHODS",
    "polyphase_factors",
    "polyphase_taps",
    "rate_ratio",
    "resample",
    "resampled_length",
    "uses_fourier",
]

RESAMPLING_METHODS = ("polyphase", "fft")

HALF_WIDTH = 24
"""Half the kernel's length, in samples of the lower of the two rates."""

# With 24 samples to each side: -69 dB from 1.1 times the lower Nyquist frequency, within 0.004 dB up to 0.9 of it.
_KAISER_BETA = 6.8
# Both factors of a ratio that is filtered by phases; the filter has 48 taps per unit of the larger one.
_LARGEST_FACTOR = 10_000
_LARGEST_RATIO = 10_000
# Weights held at once where the kernel is evaluated for each output sample.
_BLOCK_WEIGHTS = 1 << 18
# Weights of a filter that is applied as a matrix product, and values of the signal that are worked on at once: what
# the processor's cache holds.
_MATRIX_WEIGHTS = 1 << 18
_BLOCK_VALUES = 1 << 18
# Places between two samples of the lower rate at which the kernel is tabulated.
_PHASES = 1024


def rate_ratio(rate_in: float, rate_out: float) -> Fraction:
    """``rate_out / rate_in`` as the exact ratio of the numbers written.

    A rate is taken as a fraction with a small denominator if it is one to the last bit (500 / 3), otherwise as the
    decimal number that it prints as (62.4725).

    Raises:
        SamplingRateError: if a rate is not in (0, 100000] Hz, or one is over 10000 times the other.
    """
    return _ratio(checked_sampling_rate(rate_in), checked_sampling_rate(rate_out))


@lru_cache(maxsize=256)
def _ratio(first: float, second: float) -> Fraction:
    # Cached, because fractions take as long as cutting a record, and a dataset has a few rates.
    ratio = _exact(second) / _exact(first)
    if not 1 <= ratio * _LARGEST_RATIO <= _LARGEST_RATIO**2:
        raise SamplingRateError(
            f"can't resample from {first:g} to {second:g} Hz: more than {_LARGEST_RATIO} to 1",
            value=(first, second),
        )
    return ratio


def _exact(rate: float) -> Fraction:
    simple = Fraction(rate).limit_denominator(1000)
    return simple if float(simple) == rate else Fraction(repr(rate))


def polyphase_factors(rate_in: float, rate_out: float) -> tuple[int, int] | None:
    """Factors up and down whose ratio is exactly ``rate_out / rate_in``, None if they are too large for phases."""
    ratio = rate_ratio(rate_in, rate_out)
    if max(ratio.numerator, ratio.denominator) > _LARGEST_FACTOR:
        return None
    return ratio.numerator, ratio.denominator


def resampled_length(samples: int, rate_in: float, rate_out: float) -> int:
    """Number of samples after resampling: ``samples * rate_out / rate_in`` rounded, at least 1."""
    return max(1, round(samples * rate_ratio(rate_in, rate_out)))


def uses_fourier(samples: int, rate_in: float, rate_out: float, method: str) -> bool:
    """Whether ``method`` is ``"fft"`` and the result is a whole number of samples, as that method needs."""
    return method == "fft" and (samples * rate_ratio(rate_in, rate_out)).denominator == 1


def resample(
    signal: npt.NDArray[np.floating],
    rate_in: float,
    rate_out: float,
    method: str = "polyphase",
) -> npt.NDArray[np.float32]:
    """Resample along the last axis with a zero-phase anti-aliasing filter.

    ``"polyphase"`` is a Kaiser-windowed sinc around the straight line from the first to the last sample of each row,
    so offsets and drifts do not ring at the edges. It passes frequencies up to 0.9 times the lower Nyquist frequency
    (within 0.01 dB) and attenuates those from 1.1 times (by 69 dB). Output sample ``k`` is the signal at ``k /
    rate_out`` seconds, whatever the ratio and however long the signal.

    ``"fft"`` is :func:`scipy.signal.resample`, which treats the signal as periodic; several published pipelines use
    it. It can only stretch the signal to a whole number of samples: where ``samples * rate_out / rate_in`` is not
    whole, samples would move by up to half a sample, and ``"polyphase"`` is used instead.

    NaN samples are bridged by linear interpolation for the filter; output samples whose nearest input
    sample was NaN are NaN again.

    Args:
        signal: Real ``(..., samples)``, never modified.
        rate_in: Present rate in Hz.
        rate_out: Wanted rate in Hz.
        method: ``"polyphase"`` or ``"fft"``.

    Returns:
        Float32 ``(..., round(samples * rate_out / rate_in))``. At equal rates, a float32 input is
        returned as it is.

    Raises:
        SamplingRateError: for rates that are not positive or over 10000 to 1.
        ConfigurationError: for an unknown method.
        SignalError: for an empty or non-real signal.
    """
    if method not in RESAMPLING_METHODS:
        raise ConfigurationError(f"resampling must be one of {', '.join(RESAMPLING_METHODS)}, got {method!r}")
    if signal.ndim < 1 or 0 in signal.shape or signal.dtype.kind not in "iuf":
        raise SignalError(f"can't resample {signal.dtype} of shape {signal.shape}", value=signal.shape)
    ratio = rate_ratio(rate_in, rate_out)
    single = signal.astype(np.float32, copy=False)
    if ratio == 1:
        return single
    samples = signal.shape[-1]
    length = max(1, round(samples * ratio))
    if samples == 1:
        # No slope to continue and nothing to interpolate: hold the value.
        return np.repeat(single, length, axis=-1)
    filled, missing = bridge_gaps(single)
    if uses_fourier(samples, rate_in, rate_out, method):
        resampled = _resample_fourier(filled, length, axis=-1)
    else:
        rows, factors = filled.reshape(-1, samples), polyphase_factors(rate_in, rate_out)
        resampled = np.empty((len(rows), length), np.float32)
        group = max(1, _BLOCK_VALUES // samples)
        for start in range(0, len(rows), group):
            part = slice(start, start + group)
            resampled[part] = _resample_around_line(rows[part], ratio, factors, length)
        resampled = resampled.reshape(*signal.shape[:-1], length)
    output: npt.NDArray[np.float32] = np.ascontiguousarray(resampled, dtype=np.float32)
    if missing is not None:
        nearest = np.rint(np.arange(length) * float(1 / ratio)).astype(np.int64)
        output[missing[..., np.minimum(nearest, samples - 1)]] = np.nan
    return output


def _resample_around_line(
    rows: npt.NDArray[np.floating], ratio: Fraction, factors: tuple[int, int] | None, length: int
) -> npt.NDArray[np.floating]:
    """Rows ``(rows, samples)`` of at least two samples through the kernel, which sees their deviation from a line."""
    samples = rows.shape[1]
    first, last = rows[:, :1].astype(np.float64), rows[:, -1:].astype(np.float64)
    slope = (last - first) / (samples - 1)
    matrix = None if factors is None else _polyphase_matrix(*factors)
    # In single precision where rates are a ratio of integers: half the time, and exact to 1e-6 of the deviation.
    if factors is None:
        resampled = _interpolate(rows - (first + slope * np.arange(samples)), ratio, length)
    elif matrix is None:
        level = (rows - (first + slope * np.arange(samples))).astype(np.float32)
        taps = polyphase_taps(*factors).astype(np.float32)
        resampled = resample_poly(level, *factors, axis=-1, window=taps)[:, :length]
    else:
        resampled = _by_matrix(rows, first, slope, matrix, *factors, length)
    line: npt.NDArray[np.float64] = first + slope * (np.arange(length) * float(1 / ratio))
    return np.asarray(resampled + line)


def _by_matrix(
    rows: npt.NDArray[np.floating],
    first: npt.NDArray[np.float64],
    slope: npt.NDArray[np.float64],
    matrix: npt.NDArray[np.float32],
    up: int,
    down: int,
    length: int,
) -> npt.NDArray[np.float32]:
    """The polyphase filter of ``rows - (first + slope * sample)``: pieces of it times their outputs' weights."""
    width, outputs = matrix.shape
    step, reach = outputs // up * down, _reach(up, down)
    pieces = -(-length // outputs)
    padded = np.empty((len(rows), (pieces - 1) * step + width), np.float32)
    kept = min(rows.shape[1], padded.shape[1] - reach)
    padded[:, :reach] = 0.0
    padded[:, reach + kept :] = 0.0
    level = padded[:, reach : reach + kept]
    np.multiply(slope.astype(np.float32), np.arange(kept, dtype=np.float32), out=level)
    level += first.astype(np.float32)
    np.subtract(rows[:, :kept], level, out=level)
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)[:, ::step]
    resampled = np.empty((len(rows), pieces, outputs), np.float32)
    at_once = max(1, _BLOCK_VALUES // width)
    for start in range(0, pieces, at_once):
        part = windows[:, start : start + at_once]
        # Overlapping pieces are copied, because BLAS takes no view of them; and a product for each row, because on
        # some processors its last bit depends on how many rows there are.
        resampled[:, start : start + at_once] = np.ascontiguousarray(part) @ matrix
    return resampled.reshape(len(rows), -1)[:, :length]


def _reach(up: int, down: int) -> int:
    """Input samples to either side that an output sample depends on."""
    return HALF_WIDTH * max(up, down) // up


@lru_cache(maxsize=16)
def _polyphase_matrix(up: int, down: int) -> npt.NDArray[np.float32] | None:
    """Weights ``(inputs, outputs)`` of some whole periods of the filter, read-only; None if they are too many.

    Inputs begin :func:`_reach` samples before the first output's place.
    """
    reach = _reach(up, down)
    periods = max(1, round(2 * reach / down))
    outputs = periods * up
    width = (outputs - 1) * down // up + 2 * reach + 2
    if width * outputs > _MATRIX_WEIGHTS:
        return None
    taps = polyphase_taps(up, down)
    index = taps.size // 2 + np.arange(outputs) * down - (np.arange(width)[:, None] - reach) * up
    inside = (index >= 0) & (index < taps.size)
    matrix = np.where(inside, up * taps[index.clip(0, taps.size - 1)], 0.0).astype(np.float32)
    matrix.flags.writeable = False
    return matrix


@lru_cache(maxsize=16)
def polyphase_taps(up: int, down: int) -> npt.NDArray[np.float64]:
    """The kernel at steps of ``1 / up`` input samples, read-only; they sum to 1 within a thousandth."""
    largest = max(up, down)
    taps: npt.NDArray[np.float64] = firwin(
        2 * HALF_WIDTH * largest + 1, 1.0 / largest, window=("kaiser", _KAISER_BETA), scale=False
    )
    taps.flags.writeable = False
    return taps


@lru_cache(maxsize=16)
def _phase_table(ratio: float) -> tuple[npt.NDArray[np.float64], int]:
    """The kernel around an output sample, a row per place between two input samples; inputs before the first column.

    Rows are close enough that the line from one to the next errs by about a millionth.
    """
    cutoff = min(1.0, ratio)
    half = HALF_WIDTH / cutoff
    before = int(half)
    phases = max(8, round(_PHASES * cutoff))
    away = np.arange(phases + 1)[:, None] / phases - np.arange(-before, before + 2)
    window = np.sqrt(np.maximum(1.0 - np.square(away / half), 0.0))
    table: npt.NDArray[np.float64] = (
        np.sinc(cutoff * away) * i0(_KAISER_BETA * window) * (cutoff / i0(_KAISER_BETA))
    )
    table[np.abs(away) > half] = 0.0
    table.flags.writeable = False
    return table, before


def _interpolate(signal: npt.NDArray[np.floating], ratio: Fraction, length: int) -> npt.NDArray[np.floating]:
    """The kernel at the exact place of every output sample, in blocks."""
    samples = signal.shape[-1]
    rows = signal.reshape(-1, samples)
    table, before = _phase_table(float(ratio))
    phases, width = len(table) - 1, table.shape[1]
    padded = np.pad(rows, ((0, 0), (before, width + 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)
    output = np.empty((rows.shape[0], length))
    block = max(1, _BLOCK_WEIGHTS // width)
    for start in range(0, length, block):
        # Positions are ratios of integers: the division is the only rounding, at any length.
        index = np.arange(start, min(start + block, length)) * float(ratio.denominator)
        places = index / float(ratio.numerator)
        nearest = np.floor(places)
        fine = (places - nearest) * phases
        lower = np.minimum(fine.astype(np.int64), phases - 1)
        weights = table[lower]
        weights += (fine - lower)[:, None] * (table[lower + 1] - weights)
        # Rounding may place the last sample just past the end.
        taken = np.minimum(nearest.astype(np.int64), samples)
        part = slice(start, start + places.size)
        for row, views in enumerate(windows):
            output[row, part] = np.einsum("kw,kw->k", weights, views[taken])
    return output.reshape(*signal.shape[:-1], length)
