"""Feature extraction of ECG-JEPA: eight leads at 250 Hz in millivolts, without normalisation."""

from __future__ import annotations

from typing import Any

from ecg_hf.models.ecg_jepa.configuration_ecg_jepa import JEPA_LEADS
from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

__all__ = ["EcgJepaFeatureExtractor"]


class EcgJepaFeatureExtractor(EcgFeatureExtractor):
    """I, II and V1 to V6, 10 s, resampled to 250 Hz by the FFT method; no filter and no normalisation.

    Official code: ``ecg_data.py``, ``pretrain_ECG_JEPA.py``. The authors filter (0.67 to 40 Hz, zero phase) for
    fine-tuning only: ``highpass_hz=0.67, lowpass_hz=40, filter_order=5``.

    Differs from official code: a longer record is cut to length after resampling, not before; a shorter one is
    padded, with a ``sample_mask``, where the authors drop it; the 10.24 s of CODE-15 are cut to 10 s instead of being
    squeezed by 2.4 %; leads are picked by name.
    """

    def __init__(self, **kwargs: Any) -> None:
        defaults = {"sampling_rate": 250, "lead_names": JEPA_LEADS, "resampling": "fft"}
        super().__init__(**{**defaults, **kwargs})
