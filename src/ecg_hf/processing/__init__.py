"""From recordings and texts to model inputs."""

from ecg_hf.processing.feature_extraction import EcgFeatureExtractor
from ecg_hf.processing.normalization import NORMALIZATIONS
from ecg_hf.processing.processor import EcgProcessor
from ecg_hf.processing.report import ProcessingReport

__all__ = ["NORMALIZATIONS", "EcgFeatureExtractor", "EcgProcessor", "ProcessingReport"]
