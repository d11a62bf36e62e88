"""Feature extraction of the ECG-and-text family: MERL's preprocessing, under the name of each method."""

from __future__ import annotations

from typing import Any

from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

__all__ = ["EtpFeatureExtractor", "MerlFeatureExtractor"]


class MerlFeatureExtractor(EcgFeatureExtractor):
    """12 leads, 10 s at 500 Hz, min-max over the whole record to [0, 1], no filter.

    Differs from official code: it rounds pretraining signals to a thousandth and swaps rows 4 and 5 of downstream
    sets by position; here nothing is rounded and leads are picked by name. The authors' weights expect aVF before
    aVL, which the configuration of converted weights says.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"normalization": "minmax_record", **kwargs})


class EtpFeatureExtractor(EcgFeatureExtractor):
    """12 leads, 10 s at 500 Hz, each record with mean 0 and standard deviation 1 [inferred]."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"normalization": "zscore_record", **kwargs})
