"""Feature extraction of ECG-Beat: the raw signal, where its beats are, and 359 measurements."""

from __future__ import annotations

from typing import Any, ClassVar

from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

__all__ = ["EcgBeatFeatureExtractor"]


class EcgBeatFeatureExtractor(EcgFeatureExtractor):
    """12 leads, 10 s at 100 Hz in millivolts, with R peaks and measurements.

    Args:
        kwargs: See :class:`EcgFeatureExtractor`; ``return_measures`` is on.
    """

    wants_r_peaks: ClassVar[bool] = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"sampling_rate": 100, "return_measures": True, **kwargs})
