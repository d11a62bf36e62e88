"""Pipelines: from a recording to labelled scores in one call."""

# The library's modules come first: importing them makes ``ecg_hf.auto_registration`` import ours, which must not be
# half-imported by then.
import transformers.models.auto.modeling_auto
import transformers.pipelines  # noqa: F401

from ecg_hf.pipelines.ecg_classification import EcgClassificationPipeline
from ecg_hf.pipelines.ecg_feature_extraction import EcgFeatureExtractionPipeline
from ecg_hf.pipelines.registration import TASKS, register_pipelines
from ecg_hf.pipelines.zero_shot_ecg_classification import ZeroShotEcgClassificationPipeline

__all__ = [
    "TASKS",
    "EcgClassificationPipeline",
    "EcgFeatureExtractionPipeline",
    "ZeroShotEcgClassificationPipeline",
    "register_pipelines",
]
