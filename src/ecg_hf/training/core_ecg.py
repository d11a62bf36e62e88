"""Trainer of CoRe-ECG."""

from __future__ import annotations

from ecg_hf.training.trainer import EcgPreTrainer

__all__ = ["CoreEcgTrainer"]


class CoreEcgTrainer(EcgPreTrainer):
    """Pretrains :class:`~ecg_hf.models.core_ecg.modeling_core_ecg.CoreEcgForPreTraining`.

    The method needs nothing beyond :class:`EcgPreTrainer`: views and masks are drawn by the model, the embeddings of
    other processes and micro-batches reach its contrast, batch norm included, through ``pool_embeddings``. Where the
    collator delivers ``patient_ids``, records of one patient are no negatives of each other.
    """
