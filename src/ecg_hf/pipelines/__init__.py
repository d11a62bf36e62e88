"""Pipelines: from a recording to labelled scores in one call."""

from ecg_hf.pipelines.ecg_classification import EcgClassificationPipeline
from ecg_hf.pipelines.registration import TASKS, register_pipelines
from ecg_hf.pipelines.zero_shot_ecg_classification import ZeroShotEcgClassificationPipeline

__all__ = ["TASKS", "EcgClassificationPipeline", "ZeroShotEcgClassificationPipeline", "register_pipelines"]
