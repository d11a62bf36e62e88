"""Auto classes of this package, and registration of every method with the library's own."""

from __future__ import annotations

from collections import OrderedDict

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel
from transformers.models.auto.auto_factory import _BaseAutoModelClass, _LazyAutoMapping
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import AutoModelForAudioClassification, AutoModelForPreTraining

from ecg_hf.models.registry import METHODS

__all__ = [
    "AutoModelForEcgClassification",
    "AutoModelForZeroShotEcgClassification",
    "register_configs",
    "register_feature_extractors",
    "register_models",
    "register_processors",
]


class AutoModelForEcgClassification(_BaseAutoModelClass):
    """Loads the ECG classification model a configuration calls for."""

    _model_mapping = _LazyAutoMapping(CONFIG_MAPPING_NAMES, OrderedDict())


class AutoModelForZeroShotEcgClassification(_BaseAutoModelClass):
    """Loads the dual encoder (``get_ecg_features``, ``get_text_features``) a configuration calls for."""

    _model_mapping = _LazyAutoMapping(CONFIG_MAPPING_NAMES, OrderedDict())


def register_configs() -> None:
    """Make ``AutoConfig`` know every method."""
    for spec in METHODS.values():
        AutoConfig.register(spec.name, spec.load("config"), exist_ok=True)


def register_models() -> None:
    """Make the model Auto classes, the library's and ours, know every method."""
    for spec in METHODS.values():
        config = spec.load("config")
        AutoModel.register(config, spec.load("model"), exist_ok=True)
        AutoModelForPreTraining.register(config, spec.load("pretraining"), exist_ok=True)
        for auto_class in (AutoModelForAudioClassification, AutoModelForEcgClassification):
            auto_class.register(config, spec.load("classification"), exist_ok=True)
        if spec.multimodal:
            AutoModelForZeroShotEcgClassification.register(config, spec.load("model"), exist_ok=True)


def register_feature_extractors() -> None:
    """Make ``AutoFeatureExtractor`` know every method."""
    for spec in METHODS.values():
        AutoFeatureExtractor.register(spec.load("config"), spec.load("feature_extractor"), exist_ok=True)


def register_processors() -> None:
    """Make ``AutoProcessor`` know the methods that pair an ECG with text."""
    from transformers import AutoProcessor

    from ecg_hf.processing import EcgProcessor

    for spec in METHODS.values():
        if spec.multimodal:
            AutoProcessor.register(spec.load("config"), EcgProcessor, exist_ok=True)
