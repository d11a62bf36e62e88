"""MERL: records find their reports, and two views of a record find each other (arXiv 2403.06659).

Official code: github.com/cheliu-computation/MERL-ICML2024, MIT.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.utils.output_capturing import capture_outputs

from ecg_hf.models.ecg_text.configuration_merl import MerlConfig
from ecg_hf.models.ecg_text.modeling import (
    EcgTextForEcgClassification,
    EcgTextForPreTraining,
    EcgTextModel,
    TwoViews,
)
from ecg_hf.models.outputs import EcgPreTrainingOutput
from ecg_hf.nn.losses import info_nce_loss

__all__ = ["MerlForEcgClassification", "MerlForPreTraining", "MerlModel"]


class MerlModel(EcgTextModel):
    """Backbone with its attention pool (ResNet) or projector (ViT), text tower and its projector."""

    config: MerlConfig
    config_class = MerlConfig


class MerlForPreTraining(EcgTextForPreTraining):
    """Cross-modal (CMA) and uni-modal alignment (UMA), each the sum of both directions.

    Differs from official code: views have their dropout in evaluation too, as without it their contrast says nothing;
    with several processes gradients reach all rows of the pool, not those of the own process alone.
    """

    config: MerlConfig
    config_class = MerlConfig
    model_class = MerlModel

    def add_parts(self) -> None:
        """The two maps that make views."""
        config, head = self.config, self.ecg_text.signal_projection
        self.views: TwoViews | None = None
        if config.unimodal_weight > 0.0:
            assert head is not None
            self.views = TwoViews(head.view_size, config.projection_dim, float(config.view_dropout))

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Uniform numbers that decide what each view drops."""
        if self.views is None:
            return {}
        values = batch["input_values"]
        shape = (len(values) if rows is None else rows, 2, self.config.projection_dim)
        return {"view_noise": torch.rand(shape, generator=generator, device=values.device)}

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        text_pooled: Tensor | None = None,
        view_noise: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> EcgPreTrainingOutput:
        """Embed records, their views and their reports, compare all of the pool.

        Args:
            input_values: float32 ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            input_ids: int64 ``(batch, length)``, the reports.
            attention_mask: ``(batch, length)``.
            text_pooled: float ``(batch, text_width)`` instead of ``input_ids``, see the base class.
            view_noise: float ``(batch, 2, projection_dim)`` uniform; drawn here if not given.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states`` and ``output_attentions`` (of the ECG encoder), ``return_dict``.

        Raises:
            ConfigurationError: if the reports are missing.
        """
        if self.views is not None:
            view_noise = self.complete_noise(input_values, view_noise=view_noise)["view_noise"]
        return self.align(
            input_values, lead_mask, sample_mask, input_ids, attention_mask, text_pooled, view_noise, kwargs
        )

    def make_views(self, features: Tensor, view_noise: Tensor) -> dict[str, Tensor]:
        """Two views of each record."""
        assert self.views is not None
        first, second = self.views(features, view_noise)
        return {"first_view": first, "second_view": second}

    def terms(self, pool: dict[str, Tensor]) -> dict[str, Tensor]:
        """CMA and, unless switched off, UMA."""
        options: dict[str, Any] = {"temperature": float(self.config.temperature), "reduction": "sum"}
        terms = {"contrastive": info_nce_loss(pool["ecg"], pool["text"], **options)}
        if self.views is not None:
            terms["unimodal"] = info_nce_loss(pool["first_view"], pool["second_view"], **options)
        return terms


class MerlForEcgClassification(EcgTextForEcgClassification):
    """The backbone with a linear head."""

    config_class = MerlConfig
    model_class = MerlModel
