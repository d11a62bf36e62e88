"""Trainer of ACL-ECG."""

from __future__ import annotations

from ecg_hf.training.trainer import EcgPreTrainer

__all__ = ["AclEcgTrainer"]


class AclEcgTrainer(EcgPreTrainer):
    """Pretrains :class:`~ecg_hf.models.acl_ecg.modeling_acl_ecg.AclEcgForPreTraining`.

    The method needs nothing beyond :class:`EcgPreTrainer`: views are made by the model from the noise of the step,
    negatives of other processes and micro-batches reach its losses through ``pool_embeddings``. Batch norm has the
    statistics of all processes, but of one micro-batch at a time.
    """
