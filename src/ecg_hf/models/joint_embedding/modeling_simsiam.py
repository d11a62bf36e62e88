"""SimSiam: a prediction of one view meets the other, which gets no gradient (arXiv 2011.10566)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ecg_hf.models.joint_embedding.configuration_simsiam import SimSiamConfig
from ecg_hf.models.joint_embedding.modeling import (
    JointEmbeddingForEcgClassification,
    JointEmbeddingForPreTraining,
    JointEmbeddingModel,
)
from ecg_hf.nn.losses.agreement import symmetric_cosine

__all__ = ["SimSiamForEcgClassification", "SimSiamForPreTraining", "SimSiamModel"]


class SimSiamModel(JointEmbeddingModel):
    """The backbone."""

    config_class = SimSiamConfig


class SimSiamForPreTraining(JointEmbeddingForPreTraining):
    """Two views, backbone, projector and predictor."""

    config: SimSiamConfig
    config_class = SimSiamConfig
    model_class = SimSiamModel

    def terms(
        self,
        views: Sequence[Tensor],
        targets: Sequence[Tensor],
        patients: Tensor | None = None,
        **further: Tensor,
    ) -> dict[str, Tensor]:
        """Negative cosine of each prediction with the other view's projection, mean over both directions."""
        return {"negative_cosine": -symmetric_cosine(*views, *targets)}


class SimSiamForEcgClassification(JointEmbeddingForEcgClassification):
    """The backbone with a linear head."""

    config_class = SimSiamConfig
    model_class = SimSiamModel
