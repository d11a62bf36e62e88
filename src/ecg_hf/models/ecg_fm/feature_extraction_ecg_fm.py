"""Feature extraction of ECG-FM: linear interpolation, and each lead of the record with mean 0 and deviation 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ecg_hf.processing.backend import Array, ArrayBackend
from ecg_hf.processing.feature_extraction import EcgFeatureExtractor
from ecg_hf.processing.inputs import EcgStack
from ecg_hf.processing.normalization import normalize
from ecg_hf.processing.options import Choice, Rule
from ecg_hf.processing.report import ReportBuilder
from ecg_hf.signal.resampling import RESAMPLING_METHODS

__all__ = ["EcgFmFeatureExtractor"]


class EcgFmFeatureExtractor(EcgFeatureExtractor):
    """12 leads, 10 s at 500 Hz, each lead with mean 0 and standard deviation 1 over the whole recording; no filter.

    The model cuts the 10 s into pieces of 5 s.

    Args:
        resampling: ``"linear"``, as published: interpolation that maps the first sample to the first and the last to
            the last, without a low-pass. ``"polyphase"`` and ``"fft"`` are the band-limited ones of other methods.
        kwargs: Of :class:`~ecg_hf.processing.EcgFeatureExtractor`.

    Differs from official code (``preprocess.py`` of bowang-lab/ECG-FM): of recordings much longer than 10 s, mean and
    deviation are those of the 10 s and 2 s on either side; missing leads are zeros, not NaN.
    """

    option_rules: ClassVar[Mapping[str, Rule]] = {
        **EcgFeatureExtractor.option_rules,
        "resampling": Choice(("linear", *RESAMPLING_METHODS)),
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"resampling": "linear", **kwargs})

    @property
    def filter_steps(self) -> list[str]:
        """What filters do, in their order, in words."""
        return [
            *super().filter_steps,
            "each lead of the recording to mean 0 and deviation 1, before it is cut",
        ]

    def _at_rate(
        self,
        signal: Array,
        level: Array | None,
        stack: EcgStack,
        n_samples: int,
        backend: ArrayBackend,
        report: ReportBuilder | None,
    ) -> Array:
        signal = super()._at_rate(signal, level, stack, n_samples, backend, report)
        everywhere = np.ones(tuple(signal.shape[:2]), dtype=np.bool_)
        return normalize(signal, "zscore_lead", everywhere, backend)

    def _interpolated(self, signal: Array, rate_in: float, rate_out: float, backend: ArrayBackend) -> Array:
        if self.resampling != "linear":
            return super()._interpolated(signal, rate_in, rate_out, backend)
        return backend.constant(_linear(backend.to_numpy(signal), rate_in, rate_out))


def _linear(signal: npt.NDArray[np.floating], rate_in: float, rate_out: float) -> npt.NDArray[np.float32]:
    """Interpolate ``(..., samples)``; ends stay ends."""
    samples = signal.shape[-1]
    length = max(int(samples * rate_out / rate_in), 1)
    places = np.arange(length) * ((samples - 1) / max(length - 1, 1))
    before = np.minimum(places.astype(np.int64), samples - 2)
    share = places - before
    values = signal.astype(np.float64)
    mixed: npt.NDArray[np.float32] = (
        values[..., before] * (1.0 - share) + values[..., before + 1] * share
    ).astype(np.float32)
    return mixed
