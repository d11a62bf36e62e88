"""Feature extraction of ACL-ECG: one standardisation per record, and R peaks."""

from __future__ import annotations

from typing import Any

from ecg_hf.models.acl_ecg.regions_acl_ecg import default_leads
from ecg_hf.processing.feature_extraction import EcgFeatureExtractor
from ecg_hf.processing.options import Flag

__all__ = ["AclEcgFeatureExtractor"]


class AclEcgFeatureExtractor(EcgFeatureExtractor):
    """8 leads (II, III, V1 to V6), 10 s at 204.8 Hz, z-score over all leads and samples, with R peaks.

    From the paper, through third parties: the leads, and one z-score for the whole record instead of one per lead.
    Inferred from the same author's earlier code: the rate and the resampling by FFT. Inferred: R peaks from
    all leads of the recording (``r_peaks``, int64, padded with -1).

    Args:
        detect_r_peaks: Return ``r_peaks``: known ones, else detected, about 1 ms per record. Only the views of
            pretraining use them, and estimate missing ones; embeddings don't depend on them, so switch this off to
            embed faster.
        kwargs: See :class:`EcgFeatureExtractor`.
    """

    option_rules = {**EcgFeatureExtractor.option_rules, "detect_r_peaks": Flag()}

    def __init__(self, detect_r_peaks: bool = True, **kwargs: Any) -> None:
        self.detect_r_peaks = detect_r_peaks
        defaults = {
            "sampling_rate": 204.8,
            "lead_names": default_leads("anatomical"),
            "normalization": "zscore_record",
            "resampling": "fft",
        }
        super().__init__(**{**defaults, **kwargs})

    @property
    def wants_r_peaks(self) -> bool:  # type: ignore[override]
        """Whether the output has ``r_peaks``."""
        return self.detect_r_peaks
