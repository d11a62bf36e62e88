"""Feature extraction of ECG-CPC: millivolts without normalisation."""

from __future__ import annotations

from typing import Any

from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

__all__ = ["EcgCpcFeatureExtractor"]


class EcgCpcFeatureExtractor(EcgFeatureExtractor):
    """12 leads by name, 10 s at 240 Hz, millivolts without any normalisation or filter; gaps interpolated.

    Args:
        clip_mv: Clip the output to plus or minus this many millivolts; the base class' ``clip``. Off by default,
            because the authors clip only pretraining data, for which see ``EcgCpcConfig.clip_mv``.
        kwargs: Of :class:`~ecg_hf.processing.EcgFeatureExtractor`.

    Differs from official code: polyphase resampling instead of ``resampy``'s ``kaiser_best``.
    """

    def __init__(self, clip_mv: float | None = None, **kwargs: Any) -> None:
        if clip_mv is not None:
            kwargs["clip"] = clip_mv
        super().__init__(**{"sampling_rate": 240, **kwargs})
