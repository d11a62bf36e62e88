"""Self-supervised and multimodal ECG models for the Hugging Face ecosystem.

``import ecg_hf`` registers every method with the library's Auto classes and pipelines, without importing torch or
transformers itself: registration happens when the Auto classes are first imported. All public names are loaded on
first use; ``dir(ecg_hf)`` lists them:

* ``read_record`` and ``EcgRecord`` for a recording, ``read_records`` for many, ``plot_ecg`` for a picture, ``Ecg``
  for a column of a dataset;
* ``embed`` for embeddings of recordings, ``pretrained`` for the folder of a model that ships with the package
  and ``sample_record`` for a recording that does;
* ``record_to_fhir`` and ``scores_to_fhir`` for FHIR resources of a recording and of what a model says of it;
* ``EcgFeatureExtractor`` and ``EcgProcessor``, which ``AutoFeatureExtractor`` and ``AutoProcessor`` find by model;
* per method ``<Method>Config``, ``<Method>FeatureExtractor``, ``<Method>Model``, ``<Method>ForPreTraining``,
  ``<Method>ForEcgClassification`` and ``<Method>Trainer``, such as ``CgDmerModel``; ``ecg-hf list models`` shows the
  methods;
* ``AutoModelForEcgClassification`` and ``AutoModelForZeroShotEcgClassification``;
* ``EcgPreTrainer`` and ``EcgPreTrainingArguments``; ``EcgError``, the base of all errors.

``help(ecg_hf.CgDmerConfig)`` and the like tell more, as do ``ecg_hf.data``, ``ecg_hf.training``,
``ecg_hf.evaluation`` and ``ecg_hf.hub``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from ecg_hf.auto_registration import install_import_hooks
from ecg_hf.models.registry import METHODS

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
    "iter_windows": "ecg_hf.signal",
    "embed": "ecg_hf.pipelines.embedding",
    "plot_ecg": "ecg_hf.plotting",
    "pretrained": "ecg_hf.hub.fetching",
    "read_record": "ecg_hf.signal",
    "read_records": "ecg_hf.signal",
    "record_to_fhir": "ecg_hf.fhir",
    "sample_record": "ecg_hf.models.pretrained",
    "scores_to_fhir": "ecg_hf.fhir",
}


def _public_names() -> list[str]:
    """All public names, those of every method of the registry included; ``__init__.pyi`` tells type checkers."""
    of_methods = (spec.class_name(role) for spec in METHODS.values() for role in spec.roles)
    return sorted({*_EXPORTS, *of_methods})


def __getattr__(name: str) -> Any:
    # With a list, help(ecg_hf) would print every method that the classes inherit from their libraries: 52,000 lines.
    if name == "__all__" and sys._getframe(1).f_globals.get("__name__") != "pydoc":
        return _public_names()
    value = getattr(import_module(_EXPORTS[name]), name) if name in _EXPORTS else _method_class(name)
    globals()[name] = value
    return value


def _method_class(name: str) -> Any:
    """A class of a registered method, such as ``CgDmerModel``."""
    for spec in METHODS.values():
        for role in spec.roles:
            if spec.class_name(role) == name:
                return spec.load(role)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_public_names()})


install_import_hooks()
