"""Feature extraction of CG-DMER: MERL's preprocessing."""

from __future__ import annotations

from typing import Any

from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

__all__ = ["CgDmerFeatureExtractor"]


class CgDmerFeatureExtractor(EcgFeatureExtractor):
    """12 leads, 10 s at 500 Hz, min-max over the whole record to [0, 1].

    Paper: CG-DMER section 3.1 follows MERL's preprocessing: no filter, no z-score.

    Differs from official code: MERL swaps rows 4 and 5 of every downstream set by position to match the lead order
    of its pretraining data; here leads are picked by name, so no order has to match.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"normalization": "minmax_record", **kwargs})
