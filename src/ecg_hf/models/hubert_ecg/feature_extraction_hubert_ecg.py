"""Feature extraction of HuBERT-ECG: the published filter, scale and decimation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy.signal import decimate as decimated
from scipy.signal import filtfilt, firwin

from ecg_hf.errors import ConfigurationError, SamplingRateError
from ecg_hf.processing.backend import Array, ArrayBackend
from ecg_hf.processing.feature_extraction import EcgFeatureExtractor
from ecg_hf.processing.inputs import EcgStack
from ecg_hf.processing.options import Choice, Rule
from ecg_hf.processing.report import ReportBuilder

__all__ = ["HubertEcgFeatureExtractor"]

_BAND_HZ = (0.05, 47.0)
_TAPS_S = 0.3
_DECIMATION = 5
# Samples that the filter of ``scipy.signal.decimate`` reflects at each end.
_DECIMATION_PADDING = 27
# Millivolts; less is rounding, which must not become a signal.
_MIN_RANGE = 1e-6


class HubertEcgFeatureExtractor(EcgFeatureExtractor):
    """12 leads, 5 s at 100 Hz, each lead filtered and scaled to [-1, 1].

    In this order: a band-pass from 0.05 to 47 Hz (FIR of 0.3 s, forwards and backwards) at the recording's rate,
    Fourier resampling to 500 Hz, each lead's range to [-1, 1], the first 5 s, every fifth sample after a low-pass.

    Args:
        decimate: ``"flat"``, as published: the low-pass runs over all leads laid end to end, so that it rings across
            the borders of leads (up to half the range there). ``"lead"`` filters each lead by itself.
        kwargs: Of :class:`~ecg_hf.processing.EcgFeatureExtractor`.

    Raises:
        SamplingRateError: for recordings of 94 Hz or less, which have no 47 Hz.

    Differs from official code (``utils.py`` of Edoar-do/HuBERT-ECG): samples that are not finite are interpolated,
    not set to the record's mean; a lead without variation is zeros, not NaN.
    """

    option_rules: ClassVar[Mapping[str, Rule]] = {
        **EcgFeatureExtractor.option_rules,
        "decimate": Choice(("flat", "lead")),
    }

    def __init__(self, decimate: Literal["flat", "lead"] = "flat", **kwargs: Any) -> None:
        self.decimate = decimate
        super().__init__(**{"sampling_rate": 100, "duration_s": 5.0, "resampling": "fft", **kwargs})

    @property
    def filter_steps(self) -> list[str]:
        """What filters do, in their order, in words."""
        low, high = _BAND_HZ
        way = "over all leads laid end to end" if self.decimate == "flat" else "lead by lead"
        return [
            f"band-pass {low:g}-{high:g} Hz at the recording's rate",
            *super().filter_steps,
            f"each lead's range to [-1, 1], then decimation by {_DECIMATION} {way}",
        ]

    @property
    def slowest_hz(self) -> float | None:
        """Cut-off of the slowest filter."""
        return _BAND_HZ[0]

    def check_configuration(self) -> None:
        """Check all options, see the base class; a scaled signal can't be measured."""
        super().check_configuration()
        if self.return_measures:
            raise ConfigurationError("measurements need millivolts, this extractor scales each lead")

    def _at_rate(
        self,
        signal: Array,
        level: Array | None,
        stack: EcgStack,
        n_samples: int,
        backend: ArrayBackend,
        report: ReportBuilder | None,
    ) -> Array:
        rate, between = float(stack.sampling_rate), _DECIMATION * float(self.sampling_rate)
        if rate <= 2 * _BAND_HZ[1]:
            raise SamplingRateError(
                f"{rate:g} Hz are too few for the published filter up to {_BAND_HZ[1]:g} Hz", value=rate
            )
        varying = signal if level is None else signal - level
        signal = backend.constant(_bandpass(backend.to_numpy(varying), rate))
        if rate != between:
            signal = self._resampled(signal, between, stack, backend, report)
        values = _to_unit_range(backend.to_numpy(self._filtered(signal, between, backend)))
        start = stack.window.offset * _DECIMATION
        values = values[..., start : start + n_samples * _DECIMATION]
        whole = max(values.shape[-1] // _DECIMATION, 1) * _DECIMATION
        missing = max(whole - values.shape[-1], 0)  # of recordings shorter than one sample of the output
        values = np.pad(values[..., :whole], ((0, 0), (0, 0), (0, missing)), mode="edge")
        if self.decimate == "flat":
            values = _every_fifth(values.reshape(len(values), 1, -1)).reshape(*values.shape[:2], -1)
        else:
            values = _every_fifth(values)
        return backend.constant(values.astype(np.float32))


def _bandpass(signal: npt.NDArray[np.floating], rate: float) -> npt.NDArray[np.float32]:
    """``biosppy.signals.tools.filter_signal`` with an FIR of an odd number of taps."""
    taps = firwin(int(_TAPS_S * rate) | 1, _BAND_HZ, pass_zero=False, fs=rate)
    padding = min(3 * len(taps), signal.shape[-1] - 1)
    filtered: npt.NDArray[np.float32] = filtfilt(taps, [1.0], signal, padlen=padding).astype(np.float32)
    return filtered


def _to_unit_range(signal: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Each lead's range becomes [-1, 1]; a lead without variation becomes zeros."""
    values = signal.astype(np.float64)
    low, high = values.min(-1, keepdims=True), values.max(-1, keepdims=True)
    varies = high - low > _MIN_RANGE
    return np.where(varies, 2.0 * (values - low) / np.where(varies, high - low, 1.0) - 1.0, 0.0)


def _every_fifth(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Low-pass without phase shift and every fifth sample; too few samples for the filter are only thinned out."""
    if signal.shape[-1] <= _DECIMATION_PADDING:
        return signal[..., ::_DECIMATION]
    thinned: npt.NDArray[np.float64] = decimated(signal, _DECIMATION)
    return thinned
