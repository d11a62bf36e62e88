"""Feature extraction of D-BETA: millivolts as they are."""

from __future__ import annotations

from typing import Any

from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

__all__ = ["DBetaFeatureExtractor"]


class DBetaFeatureExtractor(EcgFeatureExtractor):
    """12 leads, 10 s at 500 Hz, in mV; no filter, no scaling (``filter`` and ``normalize`` are off as published)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"normalization": "none", **kwargs})
