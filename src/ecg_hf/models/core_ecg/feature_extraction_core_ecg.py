"""Feature extraction of CoRe-ECG."""

from __future__ import annotations

from typing import Any

from ecg_hf.models.core_ecg.configuration_core_ecg import INDEPENDENT_LEADS
from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

__all__ = ["CoreEcgFeatureExtractor"]


class CoreEcgFeatureExtractor(EcgFeatureExtractor):
    """The 8 independent leads, 10 s at 250 Hz, one mean and one standard deviation for the whole record.

    All inferred. One scale for all leads keeps amplitude ratios (axis, R progression); the common mean shifts the
    limb-lead equations by a constant, which a high-pass (``highpass_hz``) removes.
    """

    def __init__(self, **kwargs: Any) -> None:
        defaults = {
            "sampling_rate": 250,
            "lead_names": INDEPENDENT_LEADS,
            "normalization": "zscore_record",
        }
        super().__init__(**{**defaults, **kwargs})
