"""Feature extraction of KED: 12 leads at 100 Hz on the scale of a data set."""

from __future__ import annotations

from typing import Any

from ecg_hf.processing.lead_statistics import LeadStatisticsFeatureExtractor

__all__ = ["KedFeatureExtractor"]


class KedFeatureExtractor(LeadStatisticsFeatureExtractor):
    """12 leads, 10 s at 100 Hz, standardised; no filter.

    The authors standardise by one mean and one deviation of their whole training set, which they did not publish.
    Give those of your data as ``mean`` and ``std``, the same number for each lead to do as they did, or measure each
    lead's with :func:`ecg_hf.processing.lead_statistics.lead_statistics`.

    Differs from official code (``StandardScaler`` in control-spiderman/ECGFM-KED): without ``mean`` and ``std`` each
    lead of each record has mean 0 and deviation 1.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"sampling_rate": 100, **kwargs})
