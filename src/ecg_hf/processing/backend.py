"""The few array operations the processing steps are written in, for numpy and for torch.

Each step (gaps, windows, normalisation) exists once, in terms of :class:`ArrayBackend`; so numpy and
torch give the same numbers by construction, not because two copies are kept in step.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ecg_hf.signal.filtering import highpass, lowpass, notch
from ecg_hf.signal.leads import arrange_leads
from ecg_hf.signal.resampling import resample

__all__ = ["Array", "ArrayBackend", "NumpyBackend", "is_torch_tensor", "lead_weights"]

# Samples summed in float32 before the sum is added up in float64: exact enough, and six times as fast.
_BLOCK = 4096

Array: TypeAlias = Any
"""A numpy array or a torch tensor, whichever the backend works on."""


class ArrayBackend(Protocol):
    """Array operations on ``(..., samples)`` signals of one array library."""

    def stack(self, arrays: Sequence[Array]) -> Array:
        """Equal-shaped arrays as one new float32 array with a leading axis."""

    def concatenate(self, arrays: Sequence[Array]) -> Array:
        """Arrays joined along their first axis."""

    def float32(self, array: Array) -> Array:
        """A float32 copy that shares no memory with ``array``."""

    def as_float32(self, array: Array) -> Array:
        """The array as float32 on the device; not a copy if it is that already."""

    def constant(self, values: npt.ArrayLike) -> Array:
        """A small numpy array on the backend's device."""

    def to_numpy(self, array: Array) -> npt.NDArray[Any]:
        """The array in host memory."""

    def zeros(self, shape: tuple[int, ...]) -> Array:
        """float32 zeros."""

    def where(self, condition: Array, yes: Array, no: Array) -> Array:
        """Elementwise choice."""

    def minimum(self, array: Array) -> Array:
        """Minimum over the last axis (NaN propagates)."""

    def maximum(self, array: Array) -> Array:
        """Maximum over the last axis (NaN propagates)."""

    def mean64(self, array: Array) -> Array:
        """Mean over the last axis, accumulated in float64."""

    def mean_square64(self, array: Array) -> Array:
        """Mean of squares over the last axis, accumulated in float64 (at least between blocks)."""

    def running_maximum(self, array: Array) -> Array:
        """Cumulative maximum along the last axis."""

    def flip(self, array: Array) -> Array:
        """The last axis reversed."""

    def take(self, array: Array, indices: Array) -> Array:
        """``array[..., indices[...]]`` along the last axis."""

    def pad(self, array: Array, before: int, after: int, value: float) -> Array:
        """The last axis extended by a constant."""

    def arrange(
        self, array: Array, lead_names: Sequence[str], wanted: Sequence[str], derive: bool
    ) -> tuple[Array, npt.NDArray[np.bool_], tuple[str, ...]]:
        """Rows selected, ordered and derived by name; see :func:`ecg_hf.signal.leads.arrange_leads`."""

    def resample(self, array: Array, rate_in: float, rate_out: float, method: str) -> Array:
        """Another sampling rate; see :func:`ecg_hf.signal.resampling.resample`."""

    def highpass(self, array: Array, sampling_rate: float, cutoff_hz: float, order: int) -> Array:
        """Zero-phase Butterworth high-pass."""

    def lowpass(self, array: Array, sampling_rate: float, cutoff_hz: float, order: int) -> Array:
        """Zero-phase Butterworth low-pass."""

    def notch(self, array: Array, sampling_rate: float, frequency_hz: float) -> Array:
        """Zero-phase notch."""


class NumpyBackend:
    """:class:`ArrayBackend` on numpy arrays."""

    def stack(self, arrays: Sequence[Array]) -> Array:
        """See :class:`ArrayBackend`."""
        out = np.empty((len(arrays), *arrays[0].shape), dtype=np.float32)
        with np.errstate(over="ignore"):
            for row, array in zip(out, arrays, strict=True):
                row[...] = array
        return out

    def concatenate(self, arrays: Sequence[Array]) -> Array:
        """See :class:`ArrayBackend`."""
        return np.concatenate(arrays)

    def float32(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        with np.errstate(over="ignore"):
            return np.array(array, dtype=np.float32, order="C")

    def as_float32(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        with np.errstate(over="ignore"):
            return np.asarray(array, dtype=np.float32)

    def constant(self, values: npt.ArrayLike) -> Array:
        """See :class:`ArrayBackend`."""
        return np.asarray(values)

    def to_numpy(self, array: Array) -> npt.NDArray[Any]:
        """See :class:`ArrayBackend`."""
        return np.asarray(array)

    def zeros(self, shape: tuple[int, ...]) -> Array:
        """See :class:`ArrayBackend`."""
        return np.zeros(shape, dtype=np.float32)

    def where(self, condition: Array, yes: Array, no: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return np.where(condition, yes, no)

    def minimum(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return array.min(axis=-1)

    def maximum(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return array.max(axis=-1)

    def mean64(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return array.mean(axis=-1, dtype=np.float64)

    def mean_square64(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        total = np.zeros(array.shape[:-1])
        for start in range(0, array.shape[-1], _BLOCK):
            block = array[..., start : start + _BLOCK]
            total += np.vecdot(block, block)
        return total / array.shape[-1]

    def running_maximum(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return np.maximum.accumulate(array, axis=-1)

    def flip(self, array: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return array[..., ::-1]

    def take(self, array: Array, indices: Array) -> Array:
        """See :class:`ArrayBackend`."""
        return np.take_along_axis(array, indices, axis=-1)

    def pad(self, array: Array, before: int, after: int, value: float) -> Array:
        """See :class:`ArrayBackend`."""
        widths = [(0, 0)] * (array.ndim - 1) + [(before, after)]
        return np.pad(array, widths, constant_values=value)

    def arrange(
        self, array: Array, lead_names: Sequence[str], wanted: Sequence[str], derive: bool
    ) -> tuple[Array, npt.NDArray[np.bool_], tuple[str, ...]]:
        """See :class:`ArrayBackend`."""
        return arrange_leads(array, lead_names, wanted, derive=derive)

    def resample(self, array: Array, rate_in: float, rate_out: float, method: str) -> Array:
        """See :class:`ArrayBackend`."""
        return resample(array, rate_in, rate_out, method=method)  # type: ignore[arg-type]

    def highpass(self, array: Array, sampling_rate: float, cutoff_hz: float, order: int) -> Array:
        """See :class:`ArrayBackend`."""
        return highpass(array, sampling_rate, cutoff_hz, order=order)

    def lowpass(self, array: Array, sampling_rate: float, cutoff_hz: float, order: int) -> Array:
        """See :class:`ArrayBackend`."""
        return lowpass(array, sampling_rate, cutoff_hz, order=order)

    def notch(self, array: Array, sampling_rate: float, frequency_hz: float) -> Array:
        """See :class:`ArrayBackend`."""
        return notch(array, sampling_rate, frequency_hz)


def lead_weights(
    lead_names: Sequence[str], wanted: Sequence[str], derive: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], tuple[str, ...]]:
    """Lead selection and derivation as a matrix, for array libraries ``arrange_leads`` does not know.

    Returns:
        float32 ``(wanted, leads)`` weights (a selected lead's row holds a single 1), which of ``wanted`` exist, and
        the names that are derived.
    """
    identity = np.eye(len(lead_names), dtype=np.float32)
    weights, present, derived = arrange_leads(identity, lead_names, wanted, derive=derive)
    return np.asarray(weights, dtype=np.float32), present, derived


def is_torch_tensor(value: object) -> bool:
    """Whether ``value`` is a torch tensor, without importing torch to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)
