"""The Hub side: model cards."""

from ecg_hf.hub.card import CardContext, write_model_card

__all__ = ["CardContext", "write_model_card"]
