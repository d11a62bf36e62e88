"""Registers the ECG tasks with ``transformers.pipeline``, and ECG models for three tasks of the library itself."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer
from transformers.pipelines import PIPELINE_REGISTRY

from ecg_hf.models.auto import AutoModelForEcgClassification, AutoModelForZeroShotEcgClassification
from ecg_hf.models.modeling import EcgPreTrainedModel
from ecg_hf.models.pretrained import DEFAULT_CLASSIFIER, DEFAULT_MODEL, weights_folder
from ecg_hf.pipelines.base import EcgPipeline
from ecg_hf.pipelines.ecg_classification import EcgClassificationPipeline
from ecg_hf.pipelines.ecg_feature_extraction import EcgFeatureExtractionPipeline
from ecg_hf.pipelines.zero_shot_ecg_classification import ZeroShotEcgClassificationPipeline

__all__ = ["TASKS", "register_pipelines"]

TASKS: dict[str, tuple[type[EcgPipeline], tuple[type[Any], ...]]] = {
    "ecg-classification": (EcgClassificationPipeline, (AutoModelForEcgClassification,)),
    "ecg-feature-extraction": (EcgFeatureExtractionPipeline, (AutoModel, AutoModelForEcgClassification)),
    "zero-shot-ecg-classification": (
        ZeroShotEcgClassificationPipeline,
        (AutoModelForZeroShotEcgClassification,),
    ),
}
"""Pipeline class of each task, and the classes tried in order to load its model."""

_DEFAULTS = {
    "ecg-classification": DEFAULT_CLASSIFIER,
    "ecg-feature-extraction": DEFAULT_MODEL,
    "zero-shot-ecg-classification": DEFAULT_MODEL,
}
"""The model that ships with the package, for a pipeline that is given none."""

_SHARED_TASKS: dict[str, type[EcgPipeline]] = {
    "audio-classification": EcgClassificationPipeline,
    "feature-extraction": EcgFeatureExtractionPipeline,
    "zero-shot-audio-classification": ZeroShotEcgClassificationPipeline,
}
"""Tasks of the library that users and the Hub try on ECG models, and the pipeline those need."""


class _SharedTask:
    """Takes the place of a pipeline class of the library, and builds ours when the model is an ECG model.

    The library's pipeline would pass an ECG to a tokenizer, or require a single channel of audio.

    Args:
        library: The library's class, or the dotted path of it.
        ecg: Class for ECG models.
    """

    # Optional until the kind of model is known; required again below.
    _load_tokenizer = None

    def __init__(self, library: Any, ecg: type[EcgPipeline]) -> None:
        self._library, self._ecg = library, ecg

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library_class(), name)

    def __call__(self, model: Any, **options: Any) -> Any:
        """Build the pipeline for ``model``."""
        source, revision = model.name_or_path, getattr(model.config, "_commit_hash", None)
        if isinstance(model, EcgPreTrainedModel):
            if not self._ecg._load_tokenizer:
                options.pop("tokenizer", None)
            elif "tokenizer" not in options and hasattr(model, "get_text_features"):
                options["tokenizer"] = AutoTokenizer.from_pretrained(source, revision=revision)
            if "feature_extractor" not in options:
                options["feature_extractor"] = AutoFeatureExtractor.from_pretrained(source, revision=revision)
            return self._ecg(model=model, **options)
        library_class = self._library_class()
        if library_class._load_tokenizer and "tokenizer" not in options:
            # It could not be loaded: try again, to raise the library's own error.
            options["tokenizer"] = AutoTokenizer.from_pretrained(source, revision=revision)
        return library_class(model=model, **options)

    def _library_class(self) -> Any:
        if isinstance(self._library, str):
            module, name = self._library.rsplit(".", 1)
            self._library = getattr(import_module(module), name)
        return self._library


def register_pipelines() -> None:
    """Register the tasks; calling it again is harmless."""
    for task, (pipeline_class, model_classes) in TASKS.items():
        if task in PIPELINE_REGISTRY.supported_tasks:
            continue
        PIPELINE_REGISTRY.register_pipeline(
            task,
            pipeline_class=pipeline_class,
            pt_model=model_classes,
            # The library expects a repository and its revision; a folder has none.
            default={"model": (str(weights_folder() / _DEFAULTS[task]), None)},
            type="multimodal",
        )
        # With this attribute, Pipeline.save_pretrained would put a copy of our code beside the model and make
        # every later load ask for trust_remote_code, although the package is what provides the task.
        del pipeline_class._registered_impl
    for task, pipeline_class in _SHARED_TASKS.items():
        known = PIPELINE_REGISTRY.supported_tasks[task]
        if not isinstance(known["impl"], _SharedTask):
            known["impl"] = _SharedTask(known["impl"], pipeline_class)
            known["pt"] = tuple(dict.fromkeys((*known["pt"], AutoModelForEcgClassification)))
