"""Registers all methods with ``transformers``, each kind of class as soon as both it and its Auto class are imported.

An Auto class that is imported loads our classes; a module of ours that is imported registers its classes when its
import is finished. Either may be what imports the other, so neither ever looks into a half-imported module: a module
of ours that is being imported when its Auto class arrives is left to its own hook.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from types import ModuleType

import wrapt

from ecg_hf.models.registry import AUTO_CLASSES, METHODS, ClassRole, MethodSpec

__all__ = ["install_import_hooks"]

_AUTO = "transformers.models.auto."
_AUTO_MODULES: dict[ClassRole, str] = {
    "config": _AUTO + "configuration_auto",
    "model": _AUTO + "modeling_auto",
    "feature_extractor": _AUTO + "feature_extraction_auto",
}


def _register(role: ClassRole, spec: MethodSpec, _: ModuleType) -> None:
    """A module of ours is complete: register its classes."""
    auto = import_module(_AUTO_MODULES[role])
    config = spec.load("config")
    if role == "config":
        auto.AutoConfig.register(spec.name, config, exist_ok=True)
    elif role == "feature_extractor":
        auto.AutoFeatureExtractor.register(config, spec.load(role), exist_ok=True)
    else:
        heads: tuple[ClassRole, ...] = ("model", "pretraining", "classification")
        for head in heads:
            getattr(auto, AUTO_CLASSES[head]).register(config, spec.load(head), exist_ok=True)


def _load(role: ClassRole, _: ModuleType) -> None:
    """An Auto class is there: load our modules of its kind, except those whose import is what asked for it."""
    for spec in METHODS.values():
        if spec.module_name(role) not in sys.modules:
            import_module(spec.module_name(role))


def _register_base_feature_extractor(auto: ModuleType) -> None:
    from ecg_hf.models.configuration import EcgConfig
    from ecg_hf.processing.feature_extraction import EcgFeatureExtractor

    auto.AutoFeatureExtractor.register(EcgConfig, EcgFeatureExtractor, exist_ok=True)


def _register_processors(auto: ModuleType) -> None:
    from ecg_hf.processing.processor import EcgProcessor

    for spec in METHODS.values():
        if spec.multimodal:
            auto.AutoProcessor.register(spec.load("config"), EcgProcessor, exist_ok=True)


def _register_pipelines(pipelines: ModuleType) -> None:
    from ecg_hf.pipelines.registration import register_pipelines

    register_pipelines()


def _register_ecg_column(datasets: ModuleType) -> None:
    import ecg_hf.data.feature  # noqa: F401  (registers itself)


def install_import_hooks() -> None:
    """Register with what is imported already, and with the rest as soon as it is."""
    for role, auto_module in _AUTO_MODULES.items():
        for spec in METHODS.values():
            wrapt.register_post_import_hook(partial(_register, role, spec), spec.module_name(role))
        wrapt.register_post_import_hook(partial(_load, role), auto_module)
    for module_name, hook in {
        _AUTO + "feature_extraction_auto": _register_base_feature_extractor,
        _AUTO + "processing_auto": _register_processors,
        "transformers.pipelines": _register_pipelines,
        "datasets": _register_ecg_column,
    }.items():
        wrapt.register_post_import_hook(hook, module_name)
