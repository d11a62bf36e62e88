"""Feature extraction of HeartLang."""

from __future__ import annotations

from ecg_hf.processing.beat_features import BeatFeatureExtractor

__all__ = ["HeartLangFeatureExtractor"]


class HeartLangFeatureExtractor(BeatFeatureExtractor):
    """12 leads, 10 s at 100 Hz in millivolts, band-passed 0.67 to 40 Hz, with R peaks.

    Official code: ``datasets/dataset_preprocess`` (MIMIC-IV-ECG).

    Differs from official code: R peaks are looked for in all leads, not by XQRS in the first one; the band-pass is a
    high-pass and a low-pass of order 5 in sequence; PTB-XL gets it too and stays in millivolts (officially unfiltered
    and divided by one standard deviation), as do recordings that the authors scale to [-3, 3].
    """
