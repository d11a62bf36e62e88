"""Model cards, pushing models and datasets to the Hub, and converting official checkpoints.

Names are loaded on first use: to answer about one recording takes the folder of a model, neither cards nor datasets.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecg_hf.hub.card import write_model_card
    from ecg_hf.hub.card_callback import ModelCardCallback
    from ecg_hf.hub.card_context import CardContext, card_context_of
    from ecg_hf.hub.classifier import document_classifier
    from ecg_hf.hub.converting import ConversionReport, convert_checkpoint
    from ecg_hf.hub.dataset_push import push_dataset
    from ecg_hf.hub.model_folder import ModelFolder, open_model_folder
    from ecg_hf.hub.push import PushReport, push_model

__all__ = [
    "MACRO_AUROC",
    "CardContext",
    "ConversionReport",
    "ModelCardCallback",
    "ModelFolder",
    "PushReport",
    "card_context_of",
    "convert_checkpoint",
    "document_classifier",
    "open_model_folder",
    "push_dataset",
    "push_model",
    "write_model_card",
]

MACRO_AUROC = str(Path(__file__).with_name("macro_auroc"))
"""Folder of a metric for ``evaluate.load``: :class:`ecg_hf.hub.macro_auroc.macro_auroc.MacroAuroc`."""

_MODULES = {
    "CardContext": "card_context",
    "ConversionReport": "converting",
    "ModelCardCallback": "card_callback",
    "ModelFolder": "model_folder",
    "PushReport": "push",
    "card_context_of": "card_context",
    "convert_checkpoint": "converting",
    "document_classifier": "classifier",
    "open_model_folder": "model_folder",
    "push_dataset": "dataset_push",
    "push_model": "push",
    "write_model_card": "card",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
