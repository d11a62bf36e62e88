"""Feature extraction of ECG-JEPA (Weimann): 12 leads at 500 Hz on the scale of a data set."""

from __future__ import annotations

from typing import Any

from ecg_hf.processing.lead_statistics import LeadStatisticsFeatureExtractor

__all__ = ["WeimannJepaFeatureExtractor"]


class WeimannJepaFeatureExtractor(LeadStatisticsFeatureExtractor):
    """12 leads, 10 s at 500 Hz, each lead standardised, limited to plus and minus 5; no filter.

    The authors standardise each lead by the mean and deviation of its data set: give them as ``mean`` and ``std``, or
    measure them with :func:`ecg_hf.processing.lead_statistics.lead_statistics`. Those of their data sets are not
    published with weights.

    Official code: ``pretrain.py`` and ``finetune.py`` of kweimann/ECG-JEPA.

    Differs from official code: without ``mean`` and ``std`` each lead of each record has mean 0 and deviation 1. A
    record longer than 10 s is cut at its start, not at random; a shorter one is padded, with a ``sample_mask``, where
    the authors drop it. The resampler is inferred.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"clip": 5.0, **kwargs})
