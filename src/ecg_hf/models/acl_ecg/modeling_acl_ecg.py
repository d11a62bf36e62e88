"""ACL-ECG: per-lead encoders, the contrast of anatomical regions, and a classifier.

Paper: Liu, Wu and Yuan, "ACL-ECG: Anatomy-Aware Contrastive Learning for Multi-Lead Electrocardiograms", Sensors
2026, 26(3), 1080 (doi 10.3390/s26031080). No official code is known; everything unknown about the method is a field
of :class:`AclEcgConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.acl_ecg.configuration_acl_ecg import AclEcgConfig
from ecg_hf.models.acl_ecg.encoder_acl_ecg import LeadEncoders, RegionProjectors
from ecg_hf.models.modeling import (
    EcgEncoder,
    EcgForClassification,
    EcgForPreTraining,
    EcgPreTrainedModel,
    WithoutAttention,
)
from ecg_hf.models.outputs import EcgPreTrainingOutput
from ecg_hf.nn.backbones.vgg1d import VggStage
from ecg_hf.nn.grouped import GroupedLinear
from ecg_hf.nn.heads import masked_mean
from ecg_hf.nn.losses.regions import region_contrast_loss
from ecg_hf.nn.precision import full_precision
from ecg_hf.nn.r_peaks import estimate_r_peaks
from ecg_hf.nn.views.cardiac import CardiacView, mask_cycles, render, render_mask, scale_crop, shift

__all__ = ["AclEcgForEcgClassification", "AclEcgForPreTraining", "AclEcgModel", "AclEcgPreTrainedModel"]

# Numbers drawn per view beside the places of its masks: crop length, crop place, masked share, shift.
_VIEW_DRAWS = 4


class AclEcgPreTrainedModel(WithoutAttention, EcgPreTrainedModel):
    """Initialisation shared by the ACL-ECG models."""

    config: AclEcgConfig
    config_class = AclEcgConfig
    base_model_prefix = "acl_ecg"
    _no_split_modules = ["EcgVggStage"]
    # What goes into the first stage is the signal, which is nobody's hidden state.
    _can_record_outputs = {"hidden_states": OutputRecorder(VggStage, capture_initial_hidden_state=False)}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # Keeps the scale through every ReLU; with the fixed 0.02 of transformers the signal would vanish after 13
        # layers.
        if isinstance(module, nn.Conv2d):
            init.normal_(module.weight, std=(2.0 / module.weight[0].numel()) ** 0.5)
        elif isinstance(module, GroupedLinear):
            init.normal_(module.weight, std=(2.0 / module.weight.shape[-1]) ** 0.5)


class AclEcgModel(AclEcgPreTrainedModel, EcgEncoder):
    """The encoders of all leads.

    A token is one step in time; it holds the concatenated features of all leads, in the order of the leads. The
    pooled output is their mean over time: the leads' embeddings, concatenated, 8 x 64 in the published size.
    """

    _keys_to_ignore_on_load_unexpected = [r"^projectors\."]

    def __init__(self, config: AclEcgConfig) -> None:
        super().__init__(config)
        self.lead_encoders = LeadEncoders(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The first stage of the encoders."""
        stage: nn.Module = self.lead_encoders.vgg.stages[0]
        return stage

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The stages of the leads' encoders."""
        return self.lead_encoders.vgg.stages

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Which time steps hold signal: bool ``(batch, steps)``, or None if all do.

        A missing lead does not remove tokens: its part of each is zero.
        """
        return None if sample_mask is None else self.lead_encoders.vgg.output_mask(sample_mask.bool())

    def check_input_values(self, input_values: Tensor, *, any_length: bool = False) -> None:
        """Like the base class; also refuses signals too short for a single step."""
        super().check_input_values(input_values, any_length=any_length)
        if input_values.shape[-1] < self.config.samples_per_step:
            raise ConfigurationError(
                f"input_values has {input_values.shape[-1]} samples; one step of this model takes "
                f"{self.config.samples_per_step}",
                value=tuple(input_values.shape),
            )

    def encode(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Tokens and their mean over time, see :meth:`EcgEncoder.encode`. ``r_peaks`` are not needed."""
        self.check_input_values(input_values)
        features, mask = self.lead_encoders(input_values, lead_mask, sample_mask)
        tokens = features.flatten(1, 2).transpose(1, 2)
        return tokens, masked_mean(full_precision(tokens), mask)


class AclEcgForPreTraining(AclEcgPreTrainedModel, EcgForPreTraining):
    """Two views of each record, and the contrast of their regions (Eqs. 10 to 12)."""

    def __init__(self, config: AclEcgConfig) -> None:
        super().__init__(config)
        self.acl_ecg = AclEcgModel(config)
        self.projectors = RegionProjectors(config)
        self.post_init()

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Noise of both views; its size depends only on the configuration."""
        values = batch["input_values"]
        rows = len(values) if rows is None else rows
        places = self.config.max_r_peaks - 1 + self.config.fallback_windows

        def uniform(*shape: int) -> Tensor:
            return torch.rand(rows, *shape, generator=generator, device=values.device)

        return {"view_noise": uniform(2, _VIEW_DRAWS), "mask_noise": uniform(2, places)}

    @torch.no_grad()
    def make_view(
        self, view_noise: Tensor, mask_noise: Tensor, r_peaks: Tensor
    ) -> tuple[CardiacView, Tensor]:
        """One view per record: scale crop, then cardiac-cycle mask, then shift.

        Args:
            view_noise: float ``(batch, 4)`` uniform: crop length, crop place, masked share, shift.
            mask_noise: float ``(batch, max_r_peaks - 1 + fallback_windows)`` uniform.
            r_peaks: int64 ``(batch, peaks)``, then -1.

        Returns:
            The views, and bool ``(batch,)``: which had too few beats to mask cycle by cycle.
        """
        config = self.config
        rate = float(config.sampling_rate)
        length, place, share, offset = view_noise.float().unbind(-1)
        view = scale_crop(_in_range(length, config.crop_ratio), place, config.num_samples, r_peaks)
        view, blind = mask_cycles(
            view,
            _in_range(share, config.mask_ratio),
            mask_noise,
            mode=config.mask_mode,
            cycle_probability=float(config.cycle_probability),
            min_cycle=config.min_cycle_s * rate,
            guard=round(config.r_peak_guard_s * rate),
            min_coverage=float(config.min_cycle_coverage),
            fallback_windows=config.fallback_windows,
        )
        return shift(view, ((2.0 * offset - 1.0) * config.max_shift_s * rate).round().long()), blind

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        r_peaks: Tensor | None = None,
        view_noise: Tensor | None = None,
        mask_noise: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> EcgPreTrainingOutput:
        """Make two views, encode both, contrast their regions.

        Args:
            input_values: float32 ``(batch, leads, samples)``; exactly the configured number of samples.
            lead_mask: ``(batch, leads)``, 0 for missing leads; a region without any lead takes no part.
            sample_mask: ``(batch, samples)``, 0 for padding.
            r_peaks: int64 ``(batch, peaks)``, sample indices in ascending order, then -1. If not given they are
                estimated from the signal (metric ``estimated_r_peaks``). In views with too few of them masks are
                placed blindly; the metric ``blind_masks`` is their share.
            view_noise: float ``(batch, 2, 4)`` uniform; drawn here if not given.
            mask_noise: float ``(batch, 2, max_r_peaks - 1 + fallback_windows)`` uniform; likewise.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states`` (rows of both views, or with ``views_together=False`` those of each view
                in turn), ``return_dict``.

        Raises:
            ConfigurationError: if shapes do not fit the configuration.
        """
        config = self.config
        self.check_full_length(input_values)
        estimated = r_peaks is None
        if r_peaks is None:
            present_leads = input_values if lead_mask is None else input_values * lead_mask.unsqueeze(-1)
            rate = float(config.sampling_rate)
            r_peaks = estimate_r_peaks(present_leads.detach(), rate, config.max_r_peaks)
        elif r_peaks.shape[1] > config.max_r_peaks:
            raise ConfigurationError(
                f"r_peaks has {r_peaks.shape[1]} columns, more than {config.max_r_peaks} beats fit the record",
                value=tuple(r_peaks.shape),
            )
        noise = self.complete_noise(input_values, view_noise=view_noise, mask_noise=mask_noise)
        view_noise, mask_noise = noise["view_noise"], noise["mask_noise"]
        assert view_noise is not None
        assert mask_noise is not None

        with torch.no_grad():
            views, blind = zip(
                *(self.make_view(view_noise[:, v], mask_noise[:, v], r_peaks) for v in range(2)), strict=True
            )
            signals = [render(input_values, view) for view in views]
            masks = None if sample_mask is None else [render_mask(sample_mask, view) for view in views]
        first, second = self._embed_regions(signals, lead_mask, masks)
        present = (
            first.new_ones(first.shape[:2], dtype=torch.float32)
            if lead_mask is None
            else self.projectors.present(lead_mask)
        )
        # Pooled together with the embeddings even if no lead is missing here, because all processes must agree.
        embeddings = {"first": first.flatten(1), "second": second.flatten(1), "present": present}
        pool = self.pool_embeddings(embeddings) if config.gather_negatives else embeddings
        regions = len(config.regions)
        terms = region_contrast_loss(
            pool["first"].unflatten(1, (regions, -1)),
            pool["second"].unflatten(1, (regions, -1)),
            temperature=float(config.temperature),
            present=pool["present"],
            reduction=config.region_reduction,
        )
        loss = config.intra_region_weight * terms.intra + config.inter_region_weight * terms.inter
        with torch.no_grad():
            metrics = _embedding_metrics(first, second)
            metrics["masked_share"] = torch.stack([1.0 - view.gain.mean() for view in views]).mean()
            metrics["blind_masks"] = torch.stack(blind).float().mean()
            metrics["estimated_r_peaks"] = torch.full_like(metrics["blind_masks"], float(estimated))
        return EcgPreTrainingOutput(
            loss=loss,
            loss_terms={"intra_region": terms.intra.detach(), "inter_region": terms.inter.detach()},
            metrics=metrics,
        )

    def _embed_regions(
        self, signals: list[Tensor], lead_mask: Tensor | None, masks: list[Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Projected regions of both views, each ``(batch, regions, dim)``."""
        if not self.config.views_together:
            first, second = (
                self._project(signal, lead_mask, None if masks is None else masks[v])
                for v, signal in enumerate(signals)
            )
            return first, second
        both = self._project(
            torch.cat(signals),
            None if lead_mask is None else lead_mask.repeat(2, 1),
            None if masks is None else torch.cat(masks),
        )
        first, second = both.chunk(2)
        return first, second

    def _project(self, signal: Tensor, lead_mask: Tensor | None, sample_mask: Tensor | None) -> Tensor:
        pooled = self.acl_ecg.encode(signal, lead_mask, sample_mask)[1]
        projected: Tensor = self.projectors(pooled.unflatten(1, (self.config.num_leads, -1)))
        return projected


class AclEcgForEcgClassification(AclEcgPreTrainedModel, EcgForClassification):
    """ACL-ECG's encoders with a linear head on the concatenated lead embeddings, as the authors probe them."""

    _keys_to_ignore_on_load_unexpected = [r"^projectors\."]

    model_class = AclEcgModel

    def build_head(self) -> None:
        """The classifier; an attention query has one head per lead."""
        self.build_classifier(self.config.hidden_size, self.config.num_leads)


def _in_range(uniform: Tensor, bounds: list[Any] | tuple[Any, ...]) -> Tensor:
    low, high = map(float, bounds)
    return low + (high - low) * uniform


def _embedding_metrics(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Collapse monitors of ``(batch, regions, dim)``: spread 1 is healthy and 0 collapsed; mean cosines."""
    one = F.normalize(full_precision(first), dim=-1)
    two = F.normalize(full_precision(second), dim=-1)
    # For unit vectors in all directions, each coordinate has the standard deviation 1 / sqrt(dim).
    spread = torch.stack([one, two]).std(dim=1, correction=0).mean() * one.shape[-1] ** 0.5
    cosines = (one.unsqueeze(2) * two.unsqueeze(1)).sum(-1).mean(0)
    same = cosines.diagonal().mean()
    regions = len(cosines)
    other = (cosines.sum() - regions * same) / (regions * (regions - 1))
    return {"embedding_spread": spread, "region_cosine": same, "other_region_cosine": other}
