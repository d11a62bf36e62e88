"""Trainer of CLEAR-HUG."""

from __future__ import annotations

from ecg_hf.training.trainer import EcgPreTrainer

__all__ = ["ClearHugTrainer"]


class ClearHugTrainer(EcgPreTrainer):
    """Pretrains :class:`~ecg_hf.models.clear_hug.modeling_clear_hug.ClearHugForPreTraining` (stage 1, CLEAR).

    Weight decay falls on matrices, lead tokens, positions and embeddings included, as in the official code. Stage 2
    (HUG) is fine-tuning of :class:`~ecg_hf.models.clear_hug.modeling_clear_hug.ClearHugForEcgClassification` with
    ``freeze_encoder=True``.
    """
