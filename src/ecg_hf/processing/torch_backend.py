"""The processing steps' array operations on torch, on any device.

Resampling and filtering reproduce :mod:`ecg_hf.signal` (scipy) without recursion, so that they run in parallel
over samples: polyphase resampling is one strided convolution with an output channel per phase, a recursive
filter is a convolution with its impulse response through the FFT plus the response to its initial state. Both
are computed in float64 if the device supports it. On the CPU scipy itself is used, which is several times faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.signal import butter, iirnotch, sosfilt, sosfilt_zi, tf2sos
from torch.nn import functional as F

from ecg_hf.errors import ConfigurationError
from ecg_hf.processing.backend import Array, NumpyBackend, lead_weights
from ecg_hf.signal.filtering import edge_samples
from ecg_hf.signal.resampling import (
    HALF_WIDTH,
    polyphase_factors,
    polyphase_taps,
    rate_ratio,
    resampled_length,
    uses_fourier,
)

__all__ = ["TorchBackend"]

# With more polyphase weights than this (rates such as 257 and 360 Hz) scipy on the host is faster.
_MAX_POLYPHASE_WEIGHTS = 4_000_000
_NOTCH_QUALITY = 30.0


class TorchBackend:
    """:class:`~ecg_hf.processing.backend.ArrayBackend` on torch tensors of one device.

    Args:
        device: Anything ``torch.device`` takes.
        scipy_on_cpu: Leave resampling and filtering to scipy when the device is the CPU.
    """

    def __init__(self, device: Any, scipy_on_cpu: bool = True) -> None:
        self.device = torch.device(device)
        self._scipy = scipy_on_cpu and self.device.type == "cpu"
        # Apple's GPUs have no float64.
        self.exact = torch.float32 if self.device.type == "mps" else torch.float64
        self._host = NumpyBackend()

    def stack(self, arrays: Sequence[Array]) -> Array:
        """See :class:`ArrayBackend`."""
        if any(isinstance(array, torch.Tensor) for array in arrays):
            return torch.stack([self.float32(array) for array in arrays])
        return torch.from_numpy(self._host.stack(arrays)).to(self.device)

    def concatenate(self, arrays: Sequence[Array]) -> Array:
        """See :class:`ArrayBackend`."""
        return torch.cat(list(arrays))

    def float32(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        if not isinstance(array, torch.Tensor):
            # Through numpy, because torch takes neither big-endian nor read-only memory.
            return torch.from_numpy(self._host.float32(array)).to(self.device)
        return array.to(self.device, torch.float32, copy=True).contiguous()

    def as_float32(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return (
            array.to(self.device, torch.float32) if isinstance(array, torch.Tensor) else self.float32(array)
        )

    def constant(self, values: npt.ArrayLike) -> Array:
        """See :class:`ArrayBackend`."""
        return torch.from_numpy(np.array(values)).to(self.device)

    def to_numpy(self, array: Array) -> npt.NDArray[Any]:
        """See :class:`ArrayBackend`."""
        return array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)

    def zeros(self, shape: tuple[int, ...]) -> Array:
        """See :class:`ArrayBackend`."""
        return torch.zeros(shape, dtype=torch.float32, device=self.device)

    def where(self, condition: Array, yes: Array, no: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return torch.where(condition, yes, no)

    def minimum(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return array.amin(dim=-1)

    def maximum(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return array.amax(dim=-1)

    def mean64(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return array.mean(dim=-1, dtype=self.exact)

    def mean_square64(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return array.to(self.exact).square().mean(dim=-1)

    def running_maximum(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return torch.cummax(array, dim=-1).values

    def flip(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return array.flip(-1)

    def take(self, array: Array, indices: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return torch.gather(array, -1, indices)

    def pad(self, array: Array, before: int, after: int, value: float) -> Array:
        """See :class:`ArrayBackend`."""
        return F.pad(array, (before, after), value=value)

    def arrange(
        self, array: Array, lead_names: Sequence[str], wanted: Sequence[str], derive: bool
    ) -> tuple[Array, npt.NDArray[np.bool_], tuple[str, ...]]:
        """See :class:`ArrayBackend`."""
        weights, present, derived = lead_weights(lead_names, wanted, derive)
        if weights.shape[0] == weights.shape[1] and np.array_equal(weights, np.eye(len(weights))):
            return array, present, derived
        # Row by row instead of a matrix product, which a GPU may round to ten bits (TF32).
        rows = [_combine(array, row) for row in weights]
        return torch.stack(rows, dim=-2), present, derived

    def resample(self, array: Array, rate_in: float, rate_out: float, method: str) -> Array:
        """See :class:`ArrayBackend`."""
        if rate_ratio(rate_in, rate_out) == 1:
            return array
        length = resampled_length(array.shape[-1], rate_in, rate_out)
        if not self._scipy and uses_fourier(array.shape[-1], rate_in, rate_out, method):
            return _resample_fourier(array.to(self.exact), length).float()
        factors = polyphase_factors(rate_in, rate_out)
        by_phases = factors is not None and factors[0] * _polyphase_width(*factors) <= _MAX_POLYPHASE_WEIGHTS
        if self._scipy or not by_phases or array.shape[-1] == 1:
            resampled = self._host.resample(self.to_numpy(array), rate_in, rate_out, method)
            return torch.from_numpy(resampled).to(self.device)
        assert factors is not None
        return _resample_polyphase(array.to(self.exact), *factors, length).float()

    def highpass(self, array: Array, sampling_rate: float, cutoff_hz: float, order: int) -> Array:
        """See :class:`ArrayBackend`."""
        if self._scipy:
            return torch.from_numpy(
                self._host.highpass(self.to_numpy(array), sampling_rate, cutoff_hz, order)
            )
        return self._filter(array, butter(order, cutoff_hz, "highpass", fs=sampling_rate, output="sos"))

    def lowpass(self, array: Array, sampling_rate: float, cutoff_hz: float, order: int) -> Array:
        """See :class:`ArrayBackend`."""
        if self._scipy:
            return torch.from_numpy(self._host.lowpass(self.to_numpy(array), sampling_rate, cutoff_hz, order))
        return self._filter(array, butter(order, cutoff_hz, "lowpass", fs=sampling_rate, output="sos"))

    def notch(self, array: Array, sampling_rate: float, frequency_hz: float) -> Array:
        """See :class:`ArrayBackend`."""
        if self._scipy:
            return torch.from_numpy(self._host.notch(self.to_numpy(array), sampling_rate, frequency_hz))
        return self._filter(array, tf2sos(*iirnotch(frequency_hz, _NOTCH_QUALITY, fs=sampling_rate)))

    def _filter(self, array: Array, sections: npt.NDArray[np.float64]) -> Array:
        """Forwards and backwards over the oddly extended signal, as ``scipy.signal.sosfiltfilt``."""
        n_samples = array.shape[-1]
        padding = edge_samples(sections)
        if n_samples <= padding:
            raise ConfigurationError(
                f"signal of {n_samples} samples is too short for this filter, which needs {padding + 1}",
                value=n_samples,
            )
        extended = _odd_extension(array.to(self.exact), padding)
        length = extended.shape[-1]
        # Responses to an impulse, and to the state in which a constant input of 1 leaves the filter.
        impulse = np.zeros(length)
        impulse[0] = 1.0
        response = self.constant(sosfilt(sections, impulse)).to(self.exact)
        settled, _ = sosfilt(sections, np.zeros(length), zi=sosfilt_zi(sections))
        transient = self.constant(settled).to(self.exact)
        size = _fft_size(2 * length - 1)
        spectrum = torch.fft.rfft(response, n=size)
        for _ in range(2):
            convolved = torch.fft.irfft(torch.fft.rfft(extended, n=size) * spectrum, n=size)[..., :length]
            extended = (convolved + extended[..., :1] * transient).flip(-1)
        return extended[..., padding : length - padding].float().contiguous()


def _combine(array: torch.Tensor, weights: npt.NDArray[np.float32]) -> torch.Tensor:
    """Weighted sum of the few rows whose weight is not zero."""
    used = np.flatnonzero(weights)
    if not len(used):
        return torch.zeros_like(array[..., 0, :])
    total = array[..., int(used[0]), :] * float(weights[used[0]])
    for index in used[1:]:
        total = total + array[..., int(index), :] * float(weights[index])
    return total


def _odd_extension(array: torch.Tensor, padding: int) -> torch.Tensor:
    """Both ends extended by the signal rotated by 180 degrees about its end points."""
    first, last = array[..., :1], array[..., -1:]
    left = 2 * first - array[..., 1 : padding + 1].flip(-1)
    right = 2 * last - array[..., -padding - 1 : -1].flip(-1)
    return torch.cat([left, array, right], dim=-1)


def _fft_size(minimum: int) -> int:
    """The next power of two, the size every FFT library handles well."""
    return 1 << (minimum - 1).bit_length()


def _resample_fourier(array: torch.Tensor, length: int) -> torch.Tensor:
    """Periodic band-limited interpolation, as ``scipy.signal.resample``."""
    n_samples = array.shape[-1]
    shorter = min(n_samples, length)
    spectrum = torch.fft.rfft(array)[..., : shorter // 2 + 1].clone()
    if shorter % 2 == 0 and length != n_samples:
        # The bin at the lower Nyquist frequency stands for two frequencies on one side and for one on the other.
        spectrum[..., shorter // 2] *= 2.0 if length < n_samples else 0.5
    resampled: torch.Tensor = torch.fft.irfft(spectrum, n=length) * (length / n_samples)
    return resampled


def _polyphase_reach(up: int, down: int) -> tuple[int, int]:
    """Input samples before and after its own position that the outputs of one period of phases need."""
    half = HALF_WIDTH * max(up, down)
    return -(-half // up), ((up - 1) * down + half) // up


def _polyphase_width(up: int, down: int) -> int:
    before, after = _polyphase_reach(up, down)
    return before + after + 1


@lru_cache(maxsize=16)
def _polyphase_weights(up: int, down: int) -> npt.NDArray[np.float64]:
    """``(up, width)``: row r weighs the inputs for the outputs ``r, r + up, r + 2 up ...``."""
    half = HALF_WIDTH * max(up, down)
    taps = polyphase_taps(up, down) * up
    before, after = _polyphase_reach(up, down)
    phase = np.arange(up)[:, None] * down
    tap = phase - np.arange(-before, after + 1)[None, :] * up + half
    inside = (tap >= 0) & (tap < len(taps))
    weights: npt.NDArray[np.float64] = np.where(inside, taps[np.clip(tap, 0, len(taps) - 1)], 0.0)
    return weights


def _resample_polyphase(array: torch.Tensor, up: int, down: int, length: int) -> torch.Tensor:
    """As :func:`ecg_hf.signal.resampling.resample`, one convolution for all phases."""
    weights = torch.from_numpy(_polyphase_weights(up, down)).to(array)
    before, after = _polyphase_reach(up, down)
    n_samples = array.shape[-1]
    periods = -(-length // up)
    after_all = max(0, (periods - 1) * down + after - (n_samples - 1))
    # Only the deviation from the line through the first and last sample is filtered, so that ends don't ring.
    slope = (array[..., -1:] - array[..., :1]) / (n_samples - 1)
    steps = torch.arange(max(n_samples, length), device=array.device).to(array)
    level = array - (array[..., :1] + slope * steps[:n_samples])
    extended = F.pad(level, (before, after_all))
    phases = F.conv1d(extended.reshape(-1, 1, extended.shape[-1]), weights[:, None, :], stride=down)
    resampled = phases.transpose(1, 2).flatten(1)[:, :length].reshape(*array.shape[:-1], length)
    return resampled + (array[..., :1] + slope * (steps[:length] * (down / up)))
