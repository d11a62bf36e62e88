"""CLEAR-HUG: the encoder, its pretraining objective (CLEAR) and its classifier (HUG).

Paper: "Tracing the Heart's Pathways: ECG Representation Learning from a Cardiac Conduction Perspective", AAAI 2026,
arXiv 2512.24002. Official code: github.com/Ashespt/CLEAR-HUG at 3f19967; rewritten from its behaviour (the
repository has no licence). Where code and paper differ, :class:`ClearHugConfig` documents the choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ecg_hf.models.beat_input import cut_beats
from ecg_hf.models.clear_hug.configuration_clear_hug import ClearHugConfig
from ecg_hf.models.clear_hug.encoder_clear_hug import (
    ClearHugDecoder,
    ClearHugEncoder,
    normalize_beats,
)
from ecg_hf.models.clear_hug.hug_clear_hug import HugHead
from ecg_hf.models.modeling import EcgForClassification, EcgForPreTraining, EcgPreTrainedModel
from ecg_hf.models.outputs import EcgClassifierOutput, EcgModelOutput, EcgPreTrainingOutput
from ecg_hf.nn.attention import SelfAttention
from ecg_hf.nn.beat_embedding import BeatEmbedding
from ecg_hf.nn.beats import BeatTokens
from ecg_hf.nn.heads import masked_mean
from ecg_hf.nn.losses import reconstruction_loss
from ecg_hf.nn.masks.beats import beat_mask_indices
from ecg_hf.nn.precision import match_weights
from ecg_hf.nn.tokenizers import gather_tokens

__all__ = [
    "ClearHugForEcgClassification",
    "ClearHugForPreTraining",
    "ClearHugModel",
    "ClearHugPreTrainedModel",
    "ClearHugPreTrainingOutput",
]


@dataclass
class ClearHugPreTrainingOutput(EcgPreTrainingOutput):
    """Output of CLEAR. ``masked_index`` is ``(batch, masked)`` here too: beats, lead-major.

    Attributes:
        beat_reconstruction: float ``(batch, masked, beat_length)``, standardised beats.
    """

    beat_reconstruction: Tensor | None = None


class ClearHugPreTrainedModel(EcgPreTrainedModel):
    """Initialisation shared by the CLEAR-HUG models: that of the official code."""

    config: ClearHugConfig
    config_class = ClearHugConfig
    base_model_prefix = "clear_hug"
    _no_split_modules = ["EcgTransformerBlock"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = float(self.config.initializer_range)
        if isinstance(module, nn.Linear):
            # torch's defaults: uniform within 1 / sqrt(fan-in), for weights and biases.
            bound = module.in_features**-0.5
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, SelfAttention):
            # As in torch's MultiheadAttention: one Xavier matrix for queries, keys and values, no bias.
            init.xavier_uniform_(module.qkv.weight)
            init.zeros_(module.qkv.bias)
            init.zeros_(module.output.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, BeatEmbedding):
            init.kaiming_normal_(module.convolution.weight, mode="fan_in", nonlinearity="leaky_relu")
        elif isinstance(module, ClearHugEncoder):
            init.normal_(module.lead_tokens, std=std)
            init.normal_(module.positions)
        elif isinstance(module, ClearHugDecoder):
            init.normal_(module.mask_token, std=std)
            init.normal_(module.positions)


class ClearHugModel(ClearHugPreTrainedModel):
    """The CLEAR encoder on all beats of a record.

    ``last_hidden_state`` holds the lead tokens first, then the beats, lead-major; ``pooler_output`` is the mean of
    the lead tokens (the authors' baseline without HUG).

    Differs from official code: tokens are never shuffled. With ``encoder_attention="official_bias"`` the official
    result depends on that random order; here the order is the identity.
    """

    _keys_to_ignore_on_load_unexpected = [r"^decoder\.", r"^classifier"]

    def __init__(self, config: ClearHugConfig) -> None:
        super().__init__(config)
        self.encoder = ClearHugEncoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The beat embedding's convolution."""
        return self.encoder.embedding.convolution

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The blocks of the encoder."""
        return self.encoder.layers.blocks

    def beat_tokens(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        r_peaks: Tensor | None = None,
    ) -> BeatTokens:
        """Cut the beats, in millivolts; slots of missing leads are zeros and not marked as beats.

        Args:
            input_values: float ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            r_peaks: int64 ``(batch, any)``, padded with -1. Without it records are cut evenly, as the
                official code does if it finds no beat.

        Raises:
            ConfigurationError: if the shapes do not fit.
        """
        return cut_beats(
            self,
            input_values,
            lead_mask,
            sample_mask,
            r_peaks,
            beats_per_lead=self.config.beats_per_lead,
        )

    def token_mask(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        r_peaks: Tensor | None = None,
    ) -> Tensor | None:
        """Which lead tokens belong to present leads, and which slots hold a beat: bool ``(batch, tokens)``."""
        if lead_mask is None and sample_mask is None and r_peaks is None:
            return None
        tokens = self.beat_tokens(input_values, lead_mask, sample_mask, r_peaks)
        leads = torch.ones(input_values.shape[:2], dtype=torch.bool, device=input_values.device)
        return torch.cat([leads if lead_mask is None else lead_mask.bool(), tokens.beat_mask], dim=1)

    def visible_keys(self, tokens: BeatTokens, lead_mask: Tensor | None) -> Tensor | None:
        """Tokens that may be attended to, bool ``(batch, leads + beats)``, or None for all."""
        if lead_mask is None and self.config.attend_to_padding:
            return None
        batch, leads = tokens.beats.shape[0], self.config.num_leads
        present = torch.ones(batch, leads, dtype=torch.bool, device=tokens.beats.device)
        present = present if lead_mask is None else lead_mask.bool()
        slots = tokens.beat_mask
        if self.config.attend_to_padding:
            slots = present.repeat_interleave(self.config.beats_per_lead, dim=1)
        return torch.cat([present, slots], dim=1)

    def network_input(self, tokens: BeatTokens) -> Tensor:
        """Beats as the network takes them, float32; also the target of reconstruction."""
        return normalize_beats(tokens.beats) if self.config.normalize_beats else tokens.beats.float()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        r_peaks: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgModelOutput:
        """Encode records.

        Args:
            input_values: float32 ``(batch, leads, samples)`` as the feature extractor makes them.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            r_peaks: int64 ``(batch, any)``, see :meth:`beat_tokens`.
            kwargs: ``output_hidden_states``, ``output_attentions``, ``return_dict``.
        """
        tokens = self.beat_tokens(input_values, lead_mask, sample_mask, r_peaks)
        encoded = self.encoder(
            self.network_input(tokens),
            tokens.time_ids,
            self.visible_keys(tokens, lead_mask),
            need_weights=self.wants_attentions(kwargs),
        )
        lead_tokens = encoded[:, : self.config.num_leads].float()
        present = None if lead_mask is None else lead_mask.bool()
        return EcgModelOutput(last_hidden_state=encoded, pooler_output=masked_mean(lead_tokens, present))


class ClearHugForPreTraining(ClearHugPreTrainedModel, EcgForPreTraining):
    """Stage 1, CLEAR: masked beats are rebuilt along the conduction view."""

    def __init__(self, config: ClearHugConfig) -> None:
        super().__init__(config)
        self.clear_hug = ClearHugModel(config)
        self.decoder = ClearHugDecoder(config)
        self.post_init()

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Noise of the beat mask; the same in all rows unless ``mask_per_sample``."""
        values = batch["input_values"]
        rows = len(values) if rows is None else rows
        drawn = rows if self.config.mask_per_sample else 1
        noise = torch.rand(drawn, self.config.num_tokens, generator=generator, device=values.device)
        return {"mask_noise": noise.expand(rows, -1)}

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        r_peaks: Tensor | None = None,
        mask_noise: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> ClearHugPreTrainingOutput:
        """One masked forward.

        Paper: section on CLEAR; official code: ``modeling_pretrain.py``. The loss is the mean over masked tokens of
        the mean squared error of their samples, of one record and then over records.

        Args:
            input_values: float32 ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads: their beats neither help nor count.
            sample_mask: ``(batch, samples)``, 0 for padding.
            r_peaks: int64 ``(batch, any)``, see :meth:`ClearHugModel.beat_tokens`.
            mask_noise: float ``(batch, leads * beats_per_lead)`` uniform; drawn here if not given. Only the first row
                is used unless ``mask_per_sample``.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states``, ``output_attentions``, ``return_dict``.
        """
        tokens = self.clear_hug.beat_tokens(input_values, lead_mask, sample_mask, r_peaks)
        noise = self.complete_noise(input_values, mask_noise=mask_noise)["mask_noise"]
        assert noise is not None
        return self.rebuild(tokens, lead_mask, noise, need_weights=self.wants_attentions(kwargs))

    def rebuild(
        self,
        tokens: BeatTokens,
        lead_mask: Tensor | None,
        mask_noise: Tensor,
        *,
        need_weights: bool = False,
    ) -> ClearHugPreTrainingOutput:
        """The objective on beats that have been cut; arguments as in :meth:`forward`."""
        config, base = self.config, self.clear_hug
        noise = mask_noise if config.mask_per_sample else mask_noise[:1]
        visible, masked = beat_mask_indices(noise, float(config.mask_ratio))
        if config.encoder_attention != "official_bias":
            # Elsewhere the order does not matter, but the official bias depends on it.
            visible = visible.sort(dim=1).values
        beats, keys = base.network_input(tokens), base.visible_keys(tokens, lead_mask)
        encoded = base.encoder(beats, tokens.time_ids, keys, visible, need_weights=need_weights)
        prediction = self.decoder(encoded, visible, masked, keys)

        every = masked.expand(len(beats), -1)
        target = gather_tokens(beats, every)
        real = tokens.beat_mask.gather(1, every)
        counted = real
        if config.loss_on_padding:
            there = torch.ones_like(tokens.beat_mask)
            if lead_mask is not None:
                there = lead_mask.bool().repeat_interleave(config.beats_per_lead, dim=1)
            counted = there.gather(1, every)
        loss = reconstruction_loss(prediction, target, counted)

        lead_tokens = encoded[:, : config.num_leads].detach().float()
        energy = reconstruction_loss(torch.zeros_like(target), target, real)
        error = reconstruction_loss(prediction.detach(), target, real)
        return ClearHugPreTrainingOutput(
            loss=loss,
            loss_terms={"reconstruction": loss.detach()},
            metrics={
                # Predicting zero for every real beat would give 1.
                "masked_error_vs_zero": error / energy.clamp(min=1e-12),
                "real_beat_share": tokens.beat_mask.float().mean(),
                # Spread of a lead's token over the batch; 0 means collapse.
                "lead_token_std": lead_tokens.std(0, correction=0).mean(),
            },
            ecg_embeds=lead_tokens.mean(1),
            beat_reconstruction=prediction,
            masked_index=every,
        )


class ClearHugForEcgClassification(ClearHugPreTrainedModel, EcgForClassification):
    """Stage 2: the CLEAR encoder with HUG, or with the mean of the lead tokens, and one linear layer.

    ``classifier_pooling="attention"`` replaces HUG by one learnable query over all tokens. With
    ``freeze_encoder`` only the head is trained (the authors' protocol, in which dropout stays active in the encoder
    while training).
    """

    _keys_to_ignore_on_load_unexpected = [r"^decoder\."]

    model_class = ClearHugModel
    clear_hug: ClearHugModel

    def build_head(self) -> None:
        """HUG, if configured, then the linear layer."""
        config = self.config
        width = config.hidden_size
        self.classifier_hug: HugHead | None = None
        if config.classifier_pooling == "mean" and config.head_type == "hug":
            self.classifier_hug = HugHead(width, config.group_indices)
            if config.hug_fusion == "concat":
                width *= self.classifier_hug.num_features
        self.build_classifier(width, config.num_attention_heads)

    def pool_tokens(
        self, hidden: Tensor, lead_mask: Tensor | None = None, token_mask: Tensor | None = None
    ) -> Tensor:
        """What the linear layer gets: ``(batch, leads + beats, hidden_size)`` to ``(batch, width)``, float32."""
        lead_tokens = hidden[:, : self.config.num_leads].float()
        if self.config.classifier_pooling == "attention":
            pooled: Tensor = self.classifier_pool(hidden, token_mask)
            return pooled
        if self.classifier_hug is None:
            return masked_mean(lead_tokens, None if lead_mask is None else lead_mask.bool())
        features: Tensor = self.classifier_hug(match_weights(lead_tokens, self.classifier_hug), lead_mask)
        return features.flatten(1) if self.config.hug_fusion == "concat" else features.mean(1)

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        labels: Tensor | None = None,
        r_peaks: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgClassifierOutput:
        """Classify records.

        Args:
            input_values: float32 ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            labels: See :func:`ecg_hf.nn.losses.classification_loss`.
            r_peaks: int64 ``(batch, any)``, see :meth:`ClearHugModel.beat_tokens`.
            kwargs: ``output_hidden_states``, ``output_attentions``, ``return_dict``.
        """
        outputs = self.clear_hug(input_values, lead_mask, sample_mask, r_peaks, return_dict=True, **kwargs)
        token_mask = None
        if self.config.classifier_pooling == "attention":
            token_mask = self.clear_hug.token_mask(input_values, lead_mask, sample_mask, r_peaks)
        pooled = self.pool_tokens(outputs.last_hidden_state, lead_mask, token_mask)
        return self.classified(pooled, labels, outputs)
