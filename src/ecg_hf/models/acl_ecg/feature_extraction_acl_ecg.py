"""Feature extraction of ACL-ECG: one standardisation per record, and where the beats are."""

from __future__ import annotations

from typing import Any, ClassVar

from ecg_hf.models.acl_ecg.regions_acl_ecg import default_leads
from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

__all__ = ["AclEcgFeatureExtractor"]


class AclEcgFeatureExtractor(EcgFeatureExtractor):
    """8 leads (II, III, V1 to V6), 10 s at 204.8 Hz, z-score over all leads and samples, with R peaks.

    From the paper, through third parties: the leads, and one z-score for the whole record instead of one per lead.
    Inferred from the same author's earlier code: the rate and the resampling by FFT. Inferred: R peaks from lead II
    with fallback to others (``r_peaks``, int64, -1 where there are no more); only the views of pretraining use them.
    """

    wants_r_peaks: ClassVar[bool] = True

    def __init__(self, **kwargs: Any) -> None:
        defaults = {
            "sampling_rate": 204.8,
            "lead_names": default_leads("anatomical"),
            "normalization": "zscore_record",
            "resampling": "fft",
        }
        super().__init__(**{**defaults, **kwargs})
