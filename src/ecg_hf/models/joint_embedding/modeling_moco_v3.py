"""MoCo v3: a query finds the key that a slow teacher makes of the other view (arXiv 2104.02057)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ecg_hf.models.joint_embedding.configuration_moco_v3 import MoCoV3Config
from ecg_hf.models.joint_embedding.modeling import (
    JointEmbeddingForEcgClassification,
    JointEmbeddingForPreTraining,
    JointEmbeddingModel,
)
from ecg_hf.nn.losses.agreement import query_key_loss

__all__ = ["MoCoV3ForEcgClassification", "MoCoV3ForPreTraining", "MoCoV3Model"]


class MoCoV3Model(JointEmbeddingModel):
    """The backbone."""

    config_class = MoCoV3Config


class MoCoV3ForPreTraining(JointEmbeddingForPreTraining):
    """Two views, backbone, projector, predictor and a teacher that makes the keys."""

    config: MoCoV3Config
    config_class = MoCoV3Config
    model_class = MoCoV3Model

    def freeze_fixed_parameters(self) -> None:
        """Freeze the teacher and, where configured, the layer that reads the signal."""
        super().freeze_fixed_parameters()
        if self.config.freeze_patch_embedding:
            self.joint_embedding.get_input_embeddings().requires_grad_(False)

    def terms(
        self,
        views: Sequence[Tensor],
        targets: Sequence[Tensor],
        patients: Tensor | None = None,
        **further: Tensor,
    ) -> dict[str, Tensor]:
        """Cross-entropy of each query over the keys of the other views of all records."""
        temperature = float(self.config.temperature)
        return {"contrastive": query_key_loss(*views, *targets, temperature=temperature)}


class MoCoV3ForEcgClassification(JointEmbeddingForEcgClassification):
    """The backbone with a linear head."""

    config_class = MoCoV3Config
    model_class = MoCoV3Model
