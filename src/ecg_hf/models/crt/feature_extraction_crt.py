"""Feature extraction of CRT."""

from __future__ import annotations

from typing import Any

from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

__all__ = ["CrtFeatureExtractor"]


class CrtFeatureExtractor(EcgFeatureExtractor):
    """12 leads, 10 s at 500 Hz, one mean and one standard deviation for the whole record (inferred).

    Magnitudes and phases are computed by the model.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"normalization": "zscore_record", **kwargs})
