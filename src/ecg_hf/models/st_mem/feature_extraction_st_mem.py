"""Feature extraction of ST-MEM: the published rate, band and scale."""

from __future__ import annotations

from typing import Any

from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

__all__ = ["StMemFeatureExtractor"]


class StMemFeatureExtractor(EcgFeatureExtractor):
    """12 leads, 9 s at 250 Hz, 0.67 to 40 Hz, one mean and one standard deviation for the whole record.

    Fourier resampling, a high-pass and then a low-pass (Butterworth of order 5, forwards and backwards), z-score.

    Differs from official code (bakqui/ST-MEM): the first 9 s are taken, where that takes random ones to pretrain and
    three overlapping ones to test.
    """

    def __init__(self, **kwargs: Any) -> None:
        defaults = {
            "sampling_rate": 250,
            "duration_s": 9.0,
            "resampling": "fft",
            "highpass_hz": 0.67,
            "lowpass_hz": 40.0,
            "filter_order": 5,
            "normalization": "zscore_record",
        }
        super().__init__(**{**defaults, **kwargs})
