"""CoRe-ECG: the encoder, its pretraining objective and its classifier.

Paper: "CoRe-ECG: Advancing Self-Supervised Representation Learning for 12-Lead ECG via Contrastive and Reconstructive
Synergy" (Qin et al., arXiv 2604.11359). No official code is public, and the paper's equations are not known to us;
:class:`CoreEcgConfig` states what is from the paper and what is inferred.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.utils.output_capturing import capture_outputs

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.core_ecg.configuration_core_ecg import CoreEcgConfig
from ecg_hf.models.core_ecg.encoder_core_ecg import CoreEcgDecoder, CoreEcgEncoder, LeadTimeEmbedding
from ecg_hf.models.modeling import (
    EcgEncoder,
    EcgForClassification,
    EcgForPreTraining,
    EcgPreTrainedModel,
    masked_token_weights,
    patch_token_mask,
)
from ecg_hf.models.outputs import EcgPreTrainingOutput
from ecg_hf.nn.collapse import embedding_spread
from ecg_hf.nn.heads import masked_mean
from ecg_hf.nn.losses import normalize_patches, nt_xent_loss, reconstruction_loss
from ecg_hf.nn.masks.dual import draw_dual_counts, dual_mask, present_leads_first, random_order
from ecg_hf.nn.masks.patches import PatchMask, mask_patches
from ecg_hf.nn.positions import sincos_positions
from ecg_hf.nn.precision import full_precision
from ecg_hf.nn.tokenizers import gather_tokens, patchify
from ecg_hf.nn.views.frequency import frequency_noise_size, frequency_views

__all__ = ["CoreEcgForEcgClassification", "CoreEcgForPreTraining", "CoreEcgModel", "CoreEcgPreTrainedModel"]

VIEWS = 2


class CoreEcgPreTrainedModel(EcgPreTrainedModel):
    """Initialisation shared by the CoRe-ECG models."""

    config: CoreEcgConfig
    config_class = CoreEcgConfig
    base_model_prefix = "core_ecg"
    _no_split_modules = ["EcgTransformerBlock"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = float(self.config.initializer_range)
        if isinstance(module, LeadTimeEmbedding):
            init.normal_(module.lead, std=float(self.config.lead_embedding_std))
            init.copy_(module.time, sincos_positions(*module.time.shape))
        elif isinstance(module, CoreEcgEncoder):
            init.normal_(module.cls_token, std=std)
        elif isinstance(module, CoreEcgDecoder):
            init.normal_(module.mask_token, std=std)

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Which tokens hold signal: [CLS], then the patches of each lead in turn; None if all do."""
        mask = patch_token_mask(input_values, self.config.patch_size, lead_mask, sample_mask)
        return None if mask is None else F.pad(mask, (1, 0), value=True)


class CoreEcgModel(CoreEcgPreTrainedModel, EcgEncoder):
    """CoRe-ECG's encoder. Nothing is masked or augmented here."""

    _keys_to_ignore_on_load_unexpected = [r"^decoder\.", r"^projector\."]

    def __init__(self, config: CoreEcgConfig) -> None:
        super().__init__(config)
        self.encoder = CoreEcgEncoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The projection of patches."""
        return self.encoder.patch_projection

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The blocks of the encoder."""
        return self.encoder.layers.blocks

    def encode(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Tokens ``(batch, 1 + leads * patches, hidden_size)``, [CLS] first; see :meth:`EcgEncoder.encode`.

        Raises:
            ConfigurationError: if the signal is longer than ``num_samples`` or not whole patches.
        """
        self.check_input_values(input_values)
        size, samples = self.config.patch_size, input_values.shape[-1]
        if samples % size:
            raise ConfigurationError(
                f"{samples} samples are not a multiple of {size} up to {self.config.num_samples}",
                value=samples,
            )
        mask = patch_token_mask(input_values, size, lead_mask, sample_mask)
        tokens = self.encoder(patchify(input_values, size), mask, need_weights=need_weights)
        pooled = tokens[:, 0] if self.config.pooled_feature == "cls" else masked_mean(tokens[:, 1:], mask)
        return tokens, pooled


class CoreEcgForPreTraining(CoreEcgPreTrainedModel, EcgForPreTraining):
    """CoRe-ECG with its decoder and projector: ``reconstruction + contrastive_weight * contrastive``.

    Two views of each record are masked and encoded once. [CLS] and the visible tokens of that forward feed the
    decoder, which predicts the masked patches of the clean record; the same [CLS] is contrasted with the other
    view's.

    A loss whose weight is 0 is neither computed nor given parameters, see ``CoreEcgConfig.preset``'s variants. The
    projector has a batch norm over the whole pool of embeddings (all processes and accumulated micro-batches; in
    evaluation too), so losses and gradients do not depend on how a batch is distributed.
    """

    def __init__(self, config: CoreEcgConfig) -> None:
        super().__init__(config)
        self.core_ecg = CoreEcgModel(config)
        if config.reconstruction_weight > 0.0:
            self.decoder = CoreEcgDecoder(config)
        if config.contrastive_weight > 0.0:
            # Running statistics would depend on how a step is split into micro-batches, and nothing uses them.
            self.projector = nn.Sequential(
                nn.Linear(config.hidden_size, config.projection_hidden_size, bias=False),
                nn.BatchNorm1d(config.projection_hidden_size, track_running_stats=False),
                nn.ReLU(),
                nn.Linear(config.projection_hidden_size, config.projection_dim),
            )
        self.post_init()

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Random numbers of both views of each record: masks and, with FDA, filters.

        How many leads and columns stay visible is drawn once for all rows, on the host, and determines the shapes.
        """
        config, values = self.config, batch["input_values"]
        rows = len(values) if rows is None else rows
        device, leads, times = values.device, config.num_leads, config.num_patches
        noise: dict[str, Tensor] = {}
        if config.mask_strategy == "random":
            noise["patch_noise"] = torch.rand(rows, VIEWS, leads, times, generator=generator, device=device)
        else:
            kept = draw_dual_counts(
                # Not the generator's seed itself, which also draws the masks of the first record.
                (generator.initial_seed() + 0x5DEECE66D) % 2**63,
                leads,
                times,
                time_ratio=float(config.time_mask_ratio),
                lead_probability=float(config.lead_drop_probability),
                min_leads=config.min_leads_kept,
                mode=config.stdm_mode,
            )
            order = random_order(rows, VIEWS, leads, generator=generator, device=device)
            noise["kept_leads"], noise["dropped_leads"] = order[..., : kept.leads], order[..., kept.leads :]
            order = random_order(rows, VIEWS, times, generator=generator, device=device)
            noise["kept_times"] = order[..., : kept.times]
        if config.frequency_views:
            size = frequency_noise_size(
                config.num_samples, float(config.sampling_rate), float(config.fda_correlation_hz)
            )
            for name in ("gain_noise", "phase_noise"):
                noise[name] = torch.randn(rows, VIEWS, size, generator=generator, device=device)
        return noise

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        patient_ids: Tensor | None = None,
        kept_leads: Tensor | None = None,
        dropped_leads: Tensor | None = None,
        kept_times: Tensor | None = None,
        patch_noise: Tensor | None = None,
        gain_noise: Tensor | None = None,
        phase_noise: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> EcgPreTrainingOutput:
        """One masked forward pass of both views that feeds both losses.

        Args:
            input_values: float32 ``(batch, leads, num_samples)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads; they are dropped before others.
            sample_mask: ``(batch, samples)``, 0 for padding.
            patient_ids: int64 ``(batch,)``: records with the same number are of one patient and not negatives of each
                other; each negative number is a different patient. Without it all other records are negatives.
            kept_leads: int64 ``(batch, 2, leads kept)``; this and all below from :meth:`draw_noise`, drawn here if
                missing.
            dropped_leads: int64 ``(batch, 2, leads dropped)``.
            kept_times: int64 ``(batch, 2, columns kept)``.
            patch_noise: float ``(batch, 2, leads, patches)``, only for ``mask_strategy="random"``.
            gain_noise: float ``(batch, 2, size)``, only with FDA.
            phase_noise: float ``(batch, 2, size)``, only with FDA.
            return_loss: Ignored; the loss is always computed.
            kwargs: ``output_hidden_states``, ``output_attentions``, ``return_dict``.

        Raises:
            ConfigurationError: if the signal does not have ``num_samples`` samples.
        """
        config = self.config
        self.check_full_length(input_values)
        noise: dict[str, Tensor | None] = {
            "kept_leads": kept_leads,
            "dropped_leads": dropped_leads,
            "kept_times": kept_times,
            "patch_noise": patch_noise,
            "gain_noise": gain_noise,
            "phase_noise": phase_noise,
        }
        if all(value is None for value in noise.values()):
            noise = self.complete_noise(input_values, **noise)
        given = {name: value for name, value in noise.items() if value is not None}

        token_mask = patch_token_mask(input_values, config.patch_size, lead_mask, sample_mask)
        if token_mask is not None:
            token_mask = token_mask.repeat_interleave(VIEWS, dim=0)
        views = self._views(input_values, lead_mask, sample_mask, given).flatten(0, 1)
        mask = self._mask(given, lead_mask)
        patches, need_weights = patchify(views, config.patch_size), self.wants_attentions(kwargs)
        tokens = self.core_ecg.encoder(patches, token_mask, mask.visible, need_weights=need_weights)
        cls = tokens[:, 0].unflatten(0, (-1, VIEWS))

        terms: dict[str, Tensor] = {}
        metrics = {"embedding_spread": embedding_spread(cls[:, 0])}
        reconstruction = None
        if config.reconstruction_weight > 0.0:
            reconstruction = self.decoder(tokens, mask, token_mask)
            target, weights = self._target(input_values, views, mask, token_mask)
            terms["reconstruction"] = reconstruction_loss(reconstruction, target, weights)
            zero_error = reconstruction_loss(torch.zeros_like(target), target, weights)
            metrics["masked_error_vs_zero"] = terms["reconstruction"].detach() / zero_error.clamp(min=1e-12)
        if config.contrastive_weight > 0.0:
            terms["contrastive"], contrast_metrics = self._contrast(cls, patient_ids)
            metrics.update(contrast_metrics)
        return EcgPreTrainingOutput(
            loss=self.weighted_sum(terms),
            loss_terms={name: term.detach() for name, term in terms.items()},
            metrics=metrics,
            ecg_embeds=cls[:, 0],
            reconstruction=reconstruction,
            masked_index=mask.masked,
        )

    def _views(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None,
        sample_mask: Tensor | None,
        noise: Mapping[str, Tensor],
    ) -> Tensor:
        """Both views, ``(batch, 2, leads, samples)``."""
        config = self.config
        if not config.frequency_views:
            return input_values[:, None].expand(-1, VIEWS, -1, -1)
        signal = input_values
        if lead_mask is not None:
            signal = signal * lead_mask[:, :, None].to(signal.dtype)
        if sample_mask is not None:
            signal = signal * sample_mask[:, None, :].to(signal.dtype)
        return frequency_views(
            signal,
            noise["gain_noise"],
            noise["phase_noise"],
            sampling_rate=float(config.sampling_rate),
            gain_strength=float(config.fda_gain_strength),
            phase_strength=float(config.fda_phase_strength),
            correlation_hz=float(config.fda_correlation_hz),
        ).to(input_values.dtype)

    def _mask(self, noise: Mapping[str, Tensor], lead_mask: Tensor | None) -> PatchMask:
        """Masks of both views, ``(batch * 2, ...)``."""
        config = self.config
        if config.mask_strategy == "random":
            return mask_patches(noise["patch_noise"].flatten(0, 1), float(config.random_mask_ratio), "joint")
        leads = noise["kept_leads"]
        if lead_mask is not None:
            leads = present_leads_first(leads, noise["dropped_leads"], lead_mask)
        return dual_mask(
            leads.flatten(0, 1), noise["kept_times"].flatten(0, 1), config.num_leads, config.num_patches
        )

    def _target(
        self, input_values: Tensor, views: Tensor, mask: PatchMask, token_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the decoder is to predict, ``(batch * 2, masked, patch_size)``, and which patches count."""
        config = self.config
        source = views if config.reconstruction_source == "view" else input_values
        patches = normalize_patches(
            patchify(full_precision(source), config.patch_size), config.reconstruction_target
        ).flatten(1, 2)
        if config.reconstruction_source == "clean":
            patches = patches.repeat_interleave(VIEWS, dim=0)
        return gather_tokens(patches, mask.masked), masked_token_weights(mask.masked, token_mask)

    def _contrast(self, cls: Tensor, patient_ids: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """NT-Xent over the pool of [CLS] tokens ``(batch, 2, hidden_size)``, and signs of collapse."""
        embeddings = {"cls": cls.flatten(1)}
        if patient_ids is not None:
            embeddings["patients"] = patient_ids[:, None]
        pool = self.pool_embeddings(embeddings)
        # Projected after pooling, so that the batch norm has the statistics of the whole pool on every process.
        pooled = pool["cls"].unflatten(1, (VIEWS, -1))
        first, second = self.projector(pooled.flatten(0, 1)).unflatten(0, (-1, VIEWS)).unbind(1)
        patients = pool["patients"][:, 0] if patient_ids is not None else None
        loss = nt_xent_loss(first, second, temperature=float(self.config.temperature), groups=patients)
        with torch.no_grad():
            cosine = F.cosine_similarity(first.float(), second.float(), dim=-1).mean()
        return loss, {"projection_spread": embedding_spread(first), "positive_cosine": cosine}


class CoreEcgForEcgClassification(CoreEcgPreTrainedModel, EcgForClassification):
    """CoRe-ECG's encoder with a linear head on [CLS], the mean of the patches (``pooled_feature``) or a query."""

    _keys_to_ignore_on_load_unexpected = [r"^decoder\.", r"^projector\."]

    model_class = CoreEcgModel
