"""SimCLR: each view of a record finds the other among all views of the batch (arXiv 2002.05709)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ecg_hf.models.joint_embedding.configuration_simclr import SimClrConfig
from ecg_hf.models.joint_embedding.modeling import (
    JointEmbeddingForEcgClassification,
    JointEmbeddingForPreTraining,
    JointEmbeddingModel,
)
from ecg_hf.nn.losses import nt_xent_loss

__all__ = ["SimClrForEcgClassification", "SimClrForPreTraining", "SimClrModel"]


class SimClrModel(JointEmbeddingModel):
    """The backbone."""

    config_class = SimClrConfig


class SimClrForPreTraining(JointEmbeddingForPreTraining):
    """Two views, backbone, projector and NT-Xent over all views of the pool."""

    config: SimClrConfig
    config_class = SimClrConfig
    model_class = SimClrModel

    def terms(
        self,
        views: Sequence[Tensor],
        targets: Sequence[Tensor],
        patients: Tensor | None = None,
        **further: Tensor,
    ) -> dict[str, Tensor]:
        """NT-Xent; other records of a patient are no negatives, where patients are known."""
        temperature = float(self.config.temperature)
        return {"contrastive": nt_xent_loss(*views, temperature=temperature, groups=patients)}


class SimClrForEcgClassification(JointEmbeddingForEcgClassification):
    """The backbone with a linear head."""

    config_class = SimClrConfig
    model_class = SimClrModel
