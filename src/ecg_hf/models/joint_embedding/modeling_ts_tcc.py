"""TS-TCC: the past of one view predicts the future of the other, and contexts are contrasted (arXiv 2106.14112)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ecg_hf.models.joint_embedding.configuration_ts_tcc import TsTccConfig
from ecg_hf.models.joint_embedding.modeling import JointEmbeddingForEcgClassification, JointEmbeddingModel
from ecg_hf.models.joint_embedding.temporal import TemporalForPreTraining
from ecg_hf.nn.heads import MlpHead
from ecg_hf.nn.losses import nt_xent_loss
from ecg_hf.nn.losses.predictive import temporal_prediction_loss
from ecg_hf.nn.views.augmentations import Signals

__all__ = ["TsTccForEcgClassification", "TsTccForPreTraining", "TsTccModel"]


class TsTccModel(JointEmbeddingModel):
    """The backbone."""

    config_class = TsTccConfig


class TsTccForPreTraining(TemporalForPreTraining):
    """A weak and a strong view, backbone, network of the contexts and projector."""

    config: TsTccConfig
    config_class = TsTccConfig
    model_class = TsTccModel

    def _make_projector(self) -> nn.Module:
        return MlpHead([self.config.context_size, *self.config.projector_sizes])

    def represent(
        self, views: Sequence[Signals], view_noise: Tensor, need_weights: bool = False
    ) -> tuple[Sequence[Tensor], dict[str, Tensor]]:
        """Contexts of both views; predictions of each other's steps, those steps, and which of them count."""
        found, _ = self.predict(views, view_noise, need_weights)
        further = {"predictions": found.predictions, "steps": found.targets, "valid": found.valid}
        return found.contexts, further

    def terms(
        self,
        views: Sequence[Tensor],
        targets: Sequence[Tensor],
        patients: Tensor | None = None,
        **further: Tensor,
    ) -> dict[str, Tensor]:
        """Prediction across views in both directions, and NT-Xent of the projected contexts."""
        predictions, steps, valid = (further[name].unbind(1) for name in ("predictions", "steps", "valid"))
        one, two = map(temporal_prediction_loss, predictions, steps, valid)
        contrast = nt_xent_loss(*views, temperature=float(self.config.temperature), groups=patients)
        return {"temporal": one + two, "contextual": contrast}


class TsTccForEcgClassification(JointEmbeddingForEcgClassification):
    """The backbone with a linear head."""

    config_class = TsTccConfig
    model_class = TsTccModel
