"""Auto classes for the two ECG tasks that ``transformers`` lacks."""

from __future__ import annotations

from collections import OrderedDict

from transformers.models.auto.auto_factory import _BaseAutoModelClass, _LazyAutoMapping
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from ecg_hf.models.registry import METHODS

__all__ = ["AutoModelForEcgClassification", "AutoModelForZeroShotEcgClassification"]


class AutoModelForEcgClassification(_BaseAutoModelClass):
    """Loads the ECG classification model a configuration calls for."""

    _model_mapping = _LazyAutoMapping(CONFIG_MAPPING_NAMES, OrderedDict())


class AutoModelForZeroShotEcgClassification(_BaseAutoModelClass):
    """Loads the dual encoder (``get_ecg_features``, ``get_text_features``) a configuration calls for."""

    _model_mapping = _LazyAutoMapping(CONFIG_MAPPING_NAMES, OrderedDict())


for _spec in METHODS.values():
    AutoModelForEcgClassification.register(_spec.load("config"), _spec.load("classification"))
    if _spec.multimodal:
        AutoModelForZeroShotEcgClassification.register(_spec.load("config"), _spec.load("model"))
