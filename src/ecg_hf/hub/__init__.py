"""Model cards, pushing models and datasets to the Hub, and converting official checkpoints.

Names are loaded on first use: to answer about one recording takes the folder of a model, neither cards nor datasets.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ecg_hf.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".card_context": (
            "CardContext",
            "card_context_of",
        ),
        ".converting": (
            "ConversionReport",
            "convert_checkpoint",
        ),
        ".card_callback": ("ModelCardCallback",),
        ".model_folder": (
            "ModelFolder",
            "open_model_folder",
        ),
        ".push": (
            "PushReport",
            "push_model",
        ),
        ".classifier": ("document_classifier",),
        ".dataset_push": ("push_dataset",),
        ".card": ("write_model_card",),
    },
)
