"""Feature extraction of methods whose tokens are beats: band-passed millivolts and the R peaks to cut them at."""

from __future__ import annotations

from typing import Any, ClassVar

from ecg_hf.processing.feature_extraction import EcgFeatureExtractor
from ecg_hf.processing.options import Choice
from ecg_hf.signal.beats.heartbeats import DETECTORS, Detector

__all__ = ["BeatFeatureExtractor"]


class BeatFeatureExtractor(EcgFeatureExtractor):
    """12 leads, 10 s at 100 Hz in millivolts, band-passed 0.67 to 40 Hz, with R peaks.

    The output has ``r_peaks`` int64 ``(batch, 40)``, padded with -1: those given, or detected on all leads of the
    recording (see :func:`ecg_hf.processing.r_peaks.r_peak_table`). The model cuts beats out of ``input_values``
    itself, in one gather on its device.

    Args:
        r_peak_detector: ``"all_leads"``, or ``"xqrs"``.
        kwargs: See :class:`~ecg_hf.processing.feature_extraction.EcgFeatureExtractor`.
    """

    model_input_names: ClassVar[list[str]] = ["input_values", "lead_mask", "r_peaks"]
    wants_r_peaks: ClassVar[bool] = True
    option_rules = {**EcgFeatureExtractor.option_rules, "r_peak_detector": Choice(DETECTORS)}

    def __init__(self, r_peak_detector: Detector = "all_leads", **kwargs: Any) -> None:
        self.r_peak_detector = r_peak_detector
        defaults: dict[str, Any] = {
            "sampling_rate": 100,
            "normalization": "none",
            "resampling": "fft",
            "highpass_hz": 0.67,
            "lowpass_hz": 40.0,
            "filter_order": 5,
        }
        super().__init__(**{**defaults, **kwargs})
