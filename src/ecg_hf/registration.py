"""Registers all methods with ``transformers``, each kind of class at the moment its Auto class is first imported,
and the ``Ecg`` column with ``datasets``.

Hooks import our submodules, never names from our packages: a package that is being imported may be what asked for
the Auto class. For the same reason ``models``, ``processing`` and ``pipelines`` import the library's module first.
"""

from __future__ import annotations

from types import ModuleType

import wrapt

__all__ = ["install_import_hooks"]


def _register_configs(auto: ModuleType) -> None:
    from ecg_hf.models.registry import METHODS

    for spec in METHODS.values():
        auto.AutoConfig.register(spec.name, spec.load("config"), exist_ok=True)


def _register_models(auto: ModuleType) -> None:
    from ecg_hf.models.registry import METHODS

    for spec in METHODS.values():
        config = spec.load("config")
        auto.AutoModel.register(config, spec.load("model"), exist_ok=True)
        auto.AutoModelForPreTraining.register(config, spec.load("pretraining"), exist_ok=True)
        auto.AutoModelForAudioClassification.register(config, spec.load("classification"), exist_ok=True)


def _register_feature_extractors(auto: ModuleType) -> None:
    from ecg_hf.models.registry import METHODS

    for spec in METHODS.values():
        auto.AutoFeatureExtractor.register(spec.load("config"), spec.load("feature_extractor"), exist_ok=True)


def _register_processors(auto: ModuleType) -> None:
    from ecg_hf.models.registry import METHODS
    from ecg_hf.processing.processor import EcgProcessor

    for spec in METHODS.values():
        if spec.multimodal:
            auto.AutoProcessor.register(spec.load("config"), EcgProcessor, exist_ok=True)


def _register_pipelines(pipelines: ModuleType) -> None:
    from ecg_hf.pipelines.registration import register_pipelines

    register_pipelines()


def _register_ecg_column(datasets: ModuleType) -> None:
    import ecg_hf.data.feature  # noqa: F401  (registers itself)


_HOOKS = {
    "datasets": _register_ecg_column,
    "transformers.models.auto.configuration_auto": _register_configs,
    "transformers.models.auto.modeling_auto": _register_models,
    "transformers.models.auto.feature_extraction_auto": _register_feature_extractors,
    "transformers.models.auto.processing_auto": _register_processors,
    "transformers.pipelines": _register_pipelines,
}


def install_import_hooks() -> None:
    """Register with what is imported already, and with the rest as soon as it is."""
    for module_name, hook in _HOOKS.items():
        wrapt.register_post_import_hook(hook, module_name)
