"""Feature extraction of the joint-embedding family: one for all, under the name of each method."""

from __future__ import annotations

from typing import Any

from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

__all__ = [
    "AstclFeatureExtractor",
    "BarlowTwinsFeatureExtractor",
    "ByolFeatureExtractor",
    "ClocsFeatureExtractor",
    "MoCoV3FeatureExtractor",
    "SimClrFeatureExtractor",
    "SimSiamFeatureExtractor",
    "ThreeKgFeatureExtractor",
    "TsTccFeatureExtractor",
]


class JointEmbeddingFeatureExtractor(EcgFeatureExtractor):
    """12 leads, 10 s at 500 Hz, each record with mean 0 and standard deviation 1."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"normalization": "zscore_record", **kwargs})


class SimClrFeatureExtractor(JointEmbeddingFeatureExtractor):
    """That of the family."""


class ByolFeatureExtractor(JointEmbeddingFeatureExtractor):
    """That of the family."""


class BarlowTwinsFeatureExtractor(JointEmbeddingFeatureExtractor):
    """That of the family."""


class MoCoV3FeatureExtractor(JointEmbeddingFeatureExtractor):
    """That of the family."""


class SimSiamFeatureExtractor(JointEmbeddingFeatureExtractor):
    """That of the family."""


class ThreeKgFeatureExtractor(JointEmbeddingFeatureExtractor):
    """That of the family."""


class ClocsFeatureExtractor(JointEmbeddingFeatureExtractor):
    """That of the family."""


class TsTccFeatureExtractor(JointEmbeddingFeatureExtractor):
    """That of the family."""


class AstclFeatureExtractor(JointEmbeddingFeatureExtractor):
    """That of the family."""
