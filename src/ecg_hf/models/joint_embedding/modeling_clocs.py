"""CLOCS: segments and leads of a patient find each other among those of all others (arXiv 2005.13249)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ecg_hf.models.joint_embedding.backbones import holds_signal
from ecg_hf.models.joint_embedding.configuration_clocs import ClocsConfig
from ecg_hf.models.joint_embedding.modeling import (
    JointEmbeddingForEcgClassification,
    JointEmbeddingForPreTraining,
    JointEmbeddingModel,
    patient_numbers,
)
from ecg_hf.nn.heads import masked_mean
from ecg_hf.nn.losses.nt_xent import view_pairs_loss
from ecg_hf.nn.precision import full_precision, match_weights
from ecg_hf.nn.views.augmentations import Signals

__all__ = ["ClocsForEcgClassification", "ClocsForPreTraining", "ClocsModel"]


class ClocsModel(JointEmbeddingModel):
    """The backbone."""

    config_class = ClocsConfig


class ClocsForPreTraining(JointEmbeddingForPreTraining):
    """Segments or leads as views, backbone, projector and the contrast of all pairs of views."""

    config: ClocsConfig
    config_class = ClocsConfig
    model_class = ClocsModel

    def represent(
        self, views: Sequence[Signals], view_noise: Tensor, need_weights: bool = False
    ) -> tuple[Sequence[Tensor], dict[str, Tensor]]:
        """Embeddings of both segments, or of each lead of one or both; then also which leads hold signal."""
        if self.config.contrast == "segments":
            return super().represent(views, view_noise, need_weights)
        backbone = self.joint_embedding.encoder
        embeds, present = [], []
        for view in views[: 1 if self.config.contrast == "leads" else 2]:
            tokens = full_precision(backbone.lead_tokens(match_weights(view.values, backbone)))
            steps = None if view.mask is None else backbone.output_mask(view.mask)
            embeds += [masked_mean(lead, steps) for lead in tokens.unbind(1)]
            present.append(holds_signal(view.values))
        return embeds, {"present": torch.cat(present, dim=1).to(torch.uint8)}

    def terms(
        self,
        views: Sequence[Tensor],
        targets: Sequence[Tensor],
        patients: Tensor | None = None,
        **further: Tensor,
    ) -> dict[str, Tensor]:
        """Contrast of pairs of views; without knowledge of patients each record is a patient of its own."""
        present = further.get("present")
        loss = view_pairs_loss(
            torch.stack(list(views)),
            patient_numbers(patients, views[0]),
            temperature=float(self.config.temperature),
            present=None if present is None else present.bool().T,
        )
        return {"contrastive": loss}


class ClocsForEcgClassification(JointEmbeddingForEcgClassification):
    """The backbone with a linear head."""

    config_class = ClocsConfig
    model_class = ClocsModel
