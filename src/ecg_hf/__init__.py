"""Self-supervised and multimodal ECG models for the Hugging Face ecosystem.

``import ecg_hf`` registers every method with the library's Auto classes and pipelines, without importing torch or
transformers itself: registration happens when the Auto classes are first imported. All public names are loaded on
first use; ``dir(ecg_hf)`` lists them:

* ``read_record`` and ``EcgRecord`` for a recording, ``Ecg`` for a column of a dataset;
* ``EcgFeatureExtractor`` and ``EcgProcessor``, which ``AutoFeatureExtractor`` and ``AutoProcessor`` find by model;
* per method ``<Method>Config``, ``<Method>FeatureExtractor``, ``<Method>Model``, ``<Method>ForPreTraining``,
  ``<Method>ForEcgClassification`` and ``<Method>Trainer``, where ``<Method>`` is ``CgDmer``, ``EcgJepa``, ``EcgCpc``,
  ``ClearHug``, ``CoreEcg`` or ``AclEcg``;
* ``AutoModelForEcgClassification`` and ``AutoModelForZeroShotEcgClassification``;
* ``EcgPreTrainer`` and ``EcgPreTrainingArguments``; ``EcgError``, the base of all errors.

``help(ecg_hf.CgDmerConfig)`` and the like tell more, as do ``ecg_hf.data``, ``ecg_hf.training``,
``ecg_hf.evaluation`` and ``ecg_hf.hub``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ecg_hf.auto_registration import install_import_hooks

if TYPE_CHECKING:
    from ecg_hf.data import Ecg
    from ecg_hf.errors import EcgError
    from ecg_hf.models.acl_ecg.configuration_acl_ecg import AclEcgConfig
    from ecg_hf.models.acl_ecg.feature_extraction_acl_ecg import AclEcgFeatureExtractor
    from ecg_hf.models.acl_ecg.modeling_acl_ecg import (
        AclEcgForEcgClassification,
        AclEcgForPreTraining,
        AclEcgModel,
    )
    from ecg_hf.models.auto import AutoModelForEcgClassification, AutoModelForZeroShotEcgClassification
    from ecg_hf.models.cg_dmer.configuration_cg_dmer import CgDmerConfig
    from ecg_hf.models.cg_dmer.feature_extraction_cg_dmer import CgDmerFeatureExtractor
    from ecg_hf.models.cg_dmer.modeling_cg_dmer import (
        CgDmerForEcgClassification,
        CgDmerForPreTraining,
        CgDmerModel,
    )
    from ecg_hf.models.clear_hug.configuration_clear_hug import ClearHugConfig
    from ecg_hf.models.clear_hug.feature_extraction_clear_hug import ClearHugFeatureExtractor
    from ecg_hf.models.clear_hug.modeling_clear_hug import (
        ClearHugForEcgClassification,
        ClearHugForPreTraining,
        ClearHugModel,
    )
    from ecg_hf.models.core_ecg.configuration_core_ecg import CoreEcgConfig
    from ecg_hf.models.core_ecg.feature_extraction_core_ecg import CoreEcgFeatureExtractor
    from ecg_hf.models.core_ecg.modeling_core_ecg import (
        CoreEcgForEcgClassification,
        CoreEcgForPreTraining,
        CoreEcgModel,
    )
    from ecg_hf.models.ecg_cpc.configuration_ecg_cpc import EcgCpcConfig
    from ecg_hf.models.ecg_cpc.feature_extraction_ecg_cpc import EcgCpcFeatureExtractor
    from ecg_hf.models.ecg_cpc.modeling_ecg_cpc import (
        EcgCpcForEcgClassification,
        EcgCpcForPreTraining,
        EcgCpcModel,
    )
    from ecg_hf.models.ecg_jepa.configuration_ecg_jepa import EcgJepaConfig
    from ecg_hf.models.ecg_jepa.feature_extraction_ecg_jepa import EcgJepaFeatureExtractor
    from ecg_hf.models.ecg_jepa.modeling_ecg_jepa import (
        EcgJepaForEcgClassification,
        EcgJepaForPreTraining,
        EcgJepaModel,
    )
    from ecg_hf.processing import EcgFeatureExtractor, EcgProcessor
    from ecg_hf.signal import EcgRecord, read_record
    from ecg_hf.training import EcgPreTrainer, EcgPreTrainingArguments
    from ecg_hf.training.acl_ecg import AclEcgTrainer
    from ecg_hf.training.cg_dmer import CgDmerTrainer
    from ecg_hf.training.clear_hug import ClearHugTrainer
    from ecg_hf.training.core_ecg import CoreEcgTrainer
    from ecg_hf.training.ecg_cpc import EcgCpcTrainer
    from ecg_hf.training.ecg_jepa import EcgJepaTrainer

    # For type checkers. At run time ``dir`` lists the same: with ``__all__``, help(ecg_hf) would print every
    # method that the classes inherit from their libraries, 52,000 lines.
    __all__ = [
        "AclEcgConfig",
        "AclEcgFeatureExtractor",
        "AclEcgForEcgClassification",
        "AclEcgForPreTraining",
        "AclEcgModel",
        "AclEcgTrainer",
        "AutoModelForEcgClassification",
        "AutoModelForZeroShotEcgClassification",
        "CgDmerConfig",
        "CgDmerFeatureExtractor",
        "CgDmerForEcgClassification",
        "CgDmerForPreTraining",
        "CgDmerModel",
        "CgDmerTrainer",
        "ClearHugConfig",
        "ClearHugFeatureExtractor",
        "ClearHugForEcgClassification",
        "ClearHugForPreTraining",
        "ClearHugModel",
        "ClearHugTrainer",
        "CoreEcgConfig",
        "CoreEcgFeatureExtractor",
        "CoreEcgForEcgClassification",
        "CoreEcgForPreTraining",
        "CoreEcgModel",
        "CoreEcgTrainer",
        "Ecg",
        "EcgCpcConfig",
        "EcgCpcFeatureExtractor",
        "EcgCpcForEcgClassification",
        "EcgCpcForPreTraining",
        "EcgCpcModel",
        "EcgCpcTrainer",
        "EcgError",
        "EcgFeatureExtractor",
        "EcgJepaConfig",
        "EcgJepaFeatureExtractor",
        "EcgJepaForEcgClassification",
        "EcgJepaForPreTraining",
        "EcgJepaModel",
        "EcgJepaTrainer",
        "EcgPreTrainer",
        "EcgPreTrainingArguments",
        "EcgProcessor",
        "EcgRecord",
        "read_record",
    ]

__version__ = "0.1.0"

_EXPORTS = {
    "AutoModelForEcgClassification": "ecg_hf.models.auto",
    "AutoModelForZeroShotEcgClassification": "ecg_hf.models.auto",
    "Ecg": "ecg_hf.data",
    "EcgError": "ecg_hf.errors",
    "EcgFeatureExtractor": "ecg_hf.processing",
    "EcgPreTrainer": "ecg_hf.training",
    "EcgPreTrainingArguments": "ecg_hf.training",
    "EcgProcessor": "ecg_hf.processing",
    "EcgRecord": "ecg_hf.signal",
    "read_record": "ecg_hf.signal",
}


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name]), name) if name in _EXPORTS else _method_class(name)
    globals()[name] = value
    return value


def _method_class(name: str) -> Any:
    """A class of a registered method, such as ``CgDmerModel``: a new registry line exports its classes."""
    from ecg_hf.models.registry import METHODS, ROLES

    for spec in METHODS.values():
        for role in ROLES:
            if spec.class_name(role) == name:
                return spec.load(role)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    from ecg_hf.models.registry import METHODS, ROLES

    of_methods = (spec.class_name(role) for spec in METHODS.values() for role in ROLES)
    return sorted({*globals(), *_EXPORTS, *of_methods})


install_import_hooks()
