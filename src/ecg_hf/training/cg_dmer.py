"""Trainer of CG-DMER."""

from __future__ import annotations

from ecg_hf.training.trainer import EcgPreTrainer

__all__ = ["CgDmerTrainer"]


class CgDmerTrainer(EcgPreTrainer):
    """Pretrains :class:`~ecg_hf.models.cg_dmer.modeling_cg_dmer.CgDmerForPreTraining`.

    The method needs nothing beyond :class:`EcgPreTrainer`: masks are drawn by the model, negatives of other
    processes and micro-batches reach its losses through ``pool_embeddings``.
    """
