"""3KG: views of a rotated dipole find those of their own patient (arXiv 2106.04452)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ecg_hf.models.joint_embedding.configuration_three_kg import ThreeKgConfig
from ecg_hf.models.joint_embedding.modeling import (
    JointEmbeddingForEcgClassification,
    JointEmbeddingForPreTraining,
    JointEmbeddingModel,
    patient_numbers,
)
from ecg_hf.nn.losses.nt_xent import patient_contrast_loss

__all__ = ["ThreeKgForEcgClassification", "ThreeKgForPreTraining", "ThreeKgModel"]


class ThreeKgModel(JointEmbeddingModel):
    """The backbone."""

    config_class = ThreeKgConfig


class ThreeKgForPreTraining(JointEmbeddingForPreTraining):
    """Two views, backbone, projector and the contrast of patients."""

    config: ThreeKgConfig
    config_class = ThreeKgConfig
    model_class = ThreeKgModel

    def terms(
        self,
        views: Sequence[Tensor],
        targets: Sequence[Tensor],
        patients: Tensor | None = None,
        **further: Tensor,
    ) -> dict[str, Tensor]:
        """Contrast of patients; without knowledge of them each record is a patient of its own."""
        owners = patient_numbers(patients, views[0])
        loss = patient_contrast_loss(
            torch.cat(list(views)), owners.repeat(2), temperature=float(self.config.temperature)
        )
        return {"contrastive": loss}


class ThreeKgForEcgClassification(JointEmbeddingForEcgClassification):
    """The backbone with a linear head."""

    config_class = ThreeKgConfig
    model_class = ThreeKgModel
