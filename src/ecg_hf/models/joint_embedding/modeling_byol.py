"""BYOL: a student predicts what its slow teacher makes of the other view (arXiv 2006.07733)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ecg_hf.models.joint_embedding.configuration_byol import ByolConfig
from ecg_hf.models.joint_embedding.modeling import (
    JointEmbeddingForEcgClassification,
    JointEmbeddingForPreTraining,
    JointEmbeddingModel,
)
from ecg_hf.nn.losses.agreement import symmetric_cosine

__all__ = ["ByolForEcgClassification", "ByolForPreTraining", "ByolModel"]


class ByolModel(JointEmbeddingModel):
    """The backbone."""

    config_class = ByolConfig


class ByolForPreTraining(JointEmbeddingForPreTraining):
    """Two views, backbone, projector, predictor and a teacher."""

    config: ByolConfig
    config_class = ByolConfig
    model_class = ByolModel

    def terms(
        self,
        views: Sequence[Tensor],
        targets: Sequence[Tensor],
        patients: Tensor | None = None,
        **further: Tensor,
    ) -> dict[str, Tensor]:
        """Squared distance of the normalised predictions from the teacher's projections, both directions added."""
        return {"prediction": 4.0 - 4.0 * symmetric_cosine(*views, *targets)}


class ByolForEcgClassification(JointEmbeddingForEcgClassification):
    """The backbone with a linear head."""

    config_class = ByolConfig
    model_class = ByolModel
