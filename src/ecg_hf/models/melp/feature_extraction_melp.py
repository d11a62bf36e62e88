"""Feature extraction of MELP: the range of each record becomes [0, 1]."""

from __future__ import annotations

from typing import Any

from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

__all__ = ["MelpFeatureExtractor"]


class MelpFeatureExtractor(EcgFeatureExtractor):
    """12 leads, 10 s at 500 Hz, min-max over the whole record to [0, 1], no filter: what MERL does.

    Differs from official code: rows 4 and 5 of downstream data sets are not swapped by position, leads are picked by
    name. The authors' weights expect aVF before aVL, which the configuration of converted weights says.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"normalization": "minmax_record", **kwargs})
