"""Feature extraction of ECG-Distil: the raw signal."""

from __future__ import annotations

from typing import Any

from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

__all__ = ["EcgDistilFeatureExtractor"]


class EcgDistilFeatureExtractor(EcgFeatureExtractor):
    """12 leads, 10 s at 100 Hz in millivolts, unfiltered.

    Args:
        detect_r_peaks: Deliver ``r_peaks``; only the targets of pretraining use them.
        kwargs: See :class:`EcgFeatureExtractor`. ``return_measures`` delivers the measurements that pretraining
            predicts.
    """

    def __init__(self, detect_r_peaks: bool = False, **kwargs: Any) -> None:
        self.detect_r_peaks = detect_r_peaks
        super().__init__(**{"sampling_rate": 100, **kwargs})

    @property
    def wants_r_peaks(self) -> bool:  # type: ignore[override]
        """Whether the output has ``r_peaks``."""
        return self.detect_r_peaks
