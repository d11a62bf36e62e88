"""The Hub side: model cards, and official checkpoints turned into model folders."""

from ecg_hf.hub.card import CardContext, write_model_card
from ecg_hf.hub.converting import ConversionReport, convert_checkpoint

__all__ = ["CardContext", "ConversionReport", "convert_checkpoint", "write_model_card"]
