"""ASTCL: noisy and denoised views of a patient agree, and no discriminator tells them apart. Re-derived."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg_hf.models.joint_embedding.configuration_astcl import AstclConfig
from ecg_hf.models.joint_embedding.modeling import (
    JointEmbeddingForEcgClassification,
    JointEmbeddingModel,
    patient_numbers,
)
from ecg_hf.models.joint_embedding.temporal import TemporalForPreTraining
from ecg_hf.nn.losses.agreement import patient_cosine
from ecg_hf.nn.precision import full_precision, match_weights
from ecg_hf.nn.views.augmentations import Signals

__all__ = ["AstclForEcgClassification", "AstclForPreTraining", "AstclModel"]


class AstclModel(JointEmbeddingModel):
    """The backbone."""

    config_class = AstclConfig


class AstclForPreTraining(TemporalForPreTraining):
    """Noisy and denoised view, backbone, heads, network of the contexts and discriminator."""

    config: AstclConfig
    config_class = AstclConfig
    model_class = AstclModel

    def add_parts(self) -> None:
        """Network of the contexts and discriminator."""
        super().add_parts()
        size = self.config.discriminator_size
        self.discriminator = nn.Sequential(
            nn.Linear(self.config.hidden_size, size), nn.ReLU(), nn.Linear(size, 1)
        )

    def represent(
        self, views: Sequence[Signals], view_noise: Tensor, need_weights: bool = False
    ) -> tuple[Sequence[Tensor], dict[str, Tensor]]:
        """Embeddings of both views; how far predictions miss the other's steps; the discriminator's logits."""
        found, embeds = self.predict(views, view_noise, need_weights)
        misses = 1.0 - F.cosine_similarity(found.predictions, found.targets.detach(), dim=-1)
        # The value is the embedding, its gradient the reverse: what helps the discriminator harms the encoder.
        reversed_embeds = [2.0 * embed.detach() - embed for embed in embeds]
        logits = [self.discriminator(match_weights(rows, self.discriminator)) for rows in reversed_embeds]
        further = {"misses": misses.flatten(1), "valid": found.valid.flatten(1)}
        return embeds, {**further, "logits": full_precision(torch.cat(logits, dim=1))}

    def terms(
        self,
        views: Sequence[Tensor],
        targets: Sequence[Tensor],
        patients: Tensor | None = None,
        **further: Tensor,
    ) -> dict[str, Tensor]:
        """Agreement of each patient's views, prediction in time, and whether a view shows that it is noisy."""
        (first, second), (first_target, second_target) = views, targets
        owners = patient_numbers(patients, first)
        valid = further["valid"].to(further["misses"].dtype)
        logits = further["logits"]
        noisy = torch.tensor([1.0, 0.0], device=logits.device).expand_as(logits)
        return {
            "patient": -patient_cosine(first, second, first_target, second_target, owners),
            "temporal": (further["misses"] * valid).sum() / valid.sum().clamp(min=1.0),
            "adversarial": F.binary_cross_entropy_with_logits(logits, noisy),
        }


class AstclForEcgClassification(JointEmbeddingForEcgClassification):
    """The backbone with a linear head."""

    config_class = AstclConfig
    model_class = AstclModel
