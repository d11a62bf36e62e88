"""From recordings and texts to model inputs. The feature extractor works without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ecg_hf.processing.feature_extraction import EcgFeatureExtractor
from ecg_hf.processing.normalization import NORMALIZATIONS
from ecg_hf.processing.report import ProcessingReport

if TYPE_CHECKING:
    from ecg_hf.processing.processor import EcgProcessor

__all__ = ["NORMALIZATIONS", "EcgFeatureExtractor", "EcgProcessor", "ProcessingReport"]


def __getattr__(name: str) -> Any:
    # transformers' processor base class imports torch, which preparing signals alone does not need.
    if name == "EcgProcessor":
        from ecg_hf.processing.processor import EcgProcessor

        return EcgProcessor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
