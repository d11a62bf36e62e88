"""Barlow Twins: the cross-correlation of two views becomes the identity (arXiv 2103.03230)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ecg_hf.models.joint_embedding.configuration_barlow_twins import BarlowTwinsConfig
from ecg_hf.models.joint_embedding.modeling import (
    JointEmbeddingForEcgClassification,
    JointEmbeddingForPreTraining,
    JointEmbeddingModel,
)
from ecg_hf.nn.losses.agreement import cross_correlation_terms

__all__ = ["BarlowTwinsForEcgClassification", "BarlowTwinsForPreTraining", "BarlowTwinsModel"]


class BarlowTwinsModel(JointEmbeddingModel):
    """The backbone."""

    config_class = BarlowTwinsConfig


class BarlowTwinsForPreTraining(JointEmbeddingForPreTraining):
    """Two views, backbone and projector; the matrix is that of the pool of all processes."""

    config: BarlowTwinsConfig
    config_class = BarlowTwinsConfig
    model_class = BarlowTwinsModel

    def terms(
        self,
        views: Sequence[Tensor],
        targets: Sequence[Tensor],
        patients: Tensor | None = None,
        **further: Tensor,
    ) -> dict[str, Tensor]:
        """Both parts of the matrix' distance from the identity."""
        invariance, redundancy = cross_correlation_terms(*views)
        return {"invariance": invariance, "redundancy": redundancy}


class BarlowTwinsForEcgClassification(JointEmbeddingForEcgClassification):
    """The backbone with a linear head."""

    config_class = BarlowTwinsConfig
    model_class = BarlowTwinsModel
