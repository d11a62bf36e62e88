"""Makes ``transformers.pipeline`` know the ECG tasks."""

from __future__ import annotations

from transformers.pipelines import PIPELINE_REGISTRY

from ecg_hf.models.auto import AutoModelForEcgClassification, AutoModelForZeroShotEcgClassification
from ecg_hf.pipelines.ecg_classification import EcgClassificationPipeline
from ecg_hf.pipelines.zero_shot_ecg_classification import ZeroShotEcgClassificationPipeline

__all__ = ["TASKS", "register_pipelines"]

TASKS = {
    "ecg-classification": (EcgClassificationPipeline, AutoModelForEcgClassification),
    "zero-shot-ecg-classification": (
        ZeroShotEcgClassificationPipeline,
        AutoModelForZeroShotEcgClassification,
    ),
}
"""Pipeline and model class of each task."""


def register_pipelines() -> None:
    """Register the tasks; again is harmless."""
    for task, (pipeline_class, model_class) in TASKS.items():
        if task in PIPELINE_REGISTRY.supported_tasks:
            continue
        PIPELINE_REGISTRY.register_pipeline(
            task, pipeline_class=pipeline_class, pt_model=model_class, type="multimodal"
        )
        # With this attribute, Pipeline.save_pretrained would put a copy of our code beside the model and make
        # every later load ask for trust_remote_code, although the package is what provides the task.
        del pipeline_class._registered_impl
