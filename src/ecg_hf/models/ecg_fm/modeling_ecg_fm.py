"""ECG-FM: the published encoder over pieces of 5 s, its classifier, and its pretraining.

Paper: McKeen et al., "ECG-FM: An Open Electrocardiogram Foundation Model", arXiv 2408.05178. Official code:
``Wav2Vec2CMSCModel`` and ``ECGTransformerClassificationModel`` of Jwoo5/fairseq-signals, bowang-lab/ECG-FM.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.ecg_fm.configuration_ecg_fm import EcgFmConfig
from ecg_hf.models.joint_embedding.modeling import patient_numbers
from ecg_hf.models.modeling import (
    EcgEncoder,
    EcgForClassification,
    EcgForPreTraining,
    EcgPreTrainedModel,
    attention_kernel,
    init_as_torch,
)
from ecg_hf.models.outputs import EcgClassifierOutput, EcgModelOutput, EcgPreTrainingOutput
from ecg_hf.nn.backbones.wav2vec import PositionalConvolution, StridedStem, Wav2VecTower, scale_gradient
from ecg_hf.nn.collapse import embedding_spread
from ecg_hf.nn.heads import masked_mean, mean_probability_logits
from ecg_hf.nn.losses import classification_loss
from ecg_hf.nn.losses.nt_xent import view_pairs_loss
from ecg_hf.nn.losses.quantized import code_contrast_loss, code_perplexity
from ecg_hf.nn.masks.spans import mask_spans, pick_other_masked
from ecg_hf.nn.precision import full_precision, match_weights
from ecg_hf.nn.quantizer import GumbelQuantizer, gumbel_noise

__all__ = [
    "EcgFmForEcgClassification",
    "EcgFmForPreTraining",
    "EcgFmModel",
    "EcgFmPreTrainedModel",
    "Pieces",
    "init_wav2vec",
]

_SEGMENTS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Records cut into pieces; those of one record are consecutive rows.

    Attributes:
        values: float ``(batch * count, leads, samples)``, zero in missing leads and padding.
        sample_mask: bool ``(batch * count, samples)``, or None if all is signal.
        count: Pieces per record.
    """

    values: Tensor
    sample_mask: Tensor | None
    count: int


@torch.no_grad()
def init_wav2vec(module: nn.Module) -> None:
    """Initialise the convolutions of a tower of wav2vec 2.0, for ``_init_weights``; others are left alone."""
    if isinstance(module, nn.Conv1d):
        init.kaiming_normal_(module.weight)
    elif isinstance(module, PositionalConvolution):
        module_width, _, taps = module.direction.shape
        init.normal_(module.direction, std=(4.0 / (taps * module_width)) ** 0.5)
        init.copy_(module.scale, module.direction.norm(dim=(0, 1), keepdim=True))
        init.zeros_(module.bias)


class EcgFmPreTrainedModel(EcgPreTrainedModel):
    """Initialisation shared by the ECG-FM models."""

    config: EcgFmConfig
    config_class = EcgFmConfig
    base_model_prefix = "ecg_fm"
    _no_split_modules = ["EcgTransformerBlock"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        init_wav2vec(module)
        if isinstance(module, Wav2VecTower):
            init_as_torch(module.projection)
        elif isinstance(module, GumbelQuantizer):
            init.uniform_(module.codebook)
            init.normal_(module.scores.weight)
        elif isinstance(module, EcgFmForPreTraining):
            init.uniform_(module.mask_token)
            init.zeros_(module.updates)
            init_as_torch(module.prediction_head)
            init_as_torch(module.target_head)


class EcgFmModel(EcgFmPreTrainedModel, EcgEncoder):
    """Convolutions and a transformer over all leads at once, for each piece of a record by itself.

    A token is 16 samples; the last 4 of 2500 are unseen. The pooled output is the mean over all tokens that hold
    signal. Hidden states and attentions have one row per piece.
    """

    _keys_to_ignore_on_load_unexpected = [
        r"^(quantizer|target_head|prediction_head)\.",
        r"^(mask_token|updates)$",
    ]

    def __init__(self, config: EcgFmConfig) -> None:
        super().__init__(config)
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgTransformerBlock

        kernel = attention_kernel(config)
        self.encoder = Wav2VecTower(
            StridedStem(config.num_leads, config.conv_dim, config.conv_kernel, config.conv_stride),
            hidden_size=config.hidden_size,
            num_layers=config.num_hidden_layers,
            make_block=lambda: EcgTransformerBlock(
                config.hidden_size,
                config.num_attention_heads,
                config.intermediate_size,
                kernel=kernel,
                dropout=float(config.hidden_dropout),
                attention_dropout=float(config.attention_dropout),
                norm_eps=config.layer_norm_eps,
                norm_first=False,
            ),
            position_kernel=config.num_conv_pos_embeddings,
            position_groups=config.num_conv_pos_embedding_groups,
            dropout=float(config.hidden_dropout),
            norm_eps=config.layer_norm_eps,
            positions_see_masked=True,
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The convolutions that make tokens."""
        return self.encoder.stem

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The transformer layers."""
        return self.encoder.layers.blocks

    def check_input_values(self, input_values: Tensor, *, any_length: bool = False) -> None:
        """Like the base class; also refuses signals too short for a token."""
        super().check_input_values(input_values, any_length=any_length)
        if input_values.shape[-1] < self.config.reach:
            raise ConfigurationError(
                f"input_values have {input_values.shape[-1]} samples, a token takes {self.config.reach}",
                value=tuple(input_values.shape),
            )

    def pieces(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Pieces:
        """Records as the network sees them: zeros where there is no signal, cut, the last piece padded.

        Raises:
            ConfigurationError: if the mask is not one of samples.
        """
        if lead_mask is not None:
            input_values = input_values.masked_fill(lead_mask.unsqueeze(-1) == 0, 0.0)
        if sample_mask is not None:
            expected = (input_values.shape[0], input_values.shape[2])
            if tuple(sample_mask.shape) != expected:
                raise ConfigurationError(
                    f"a mask of samples must be (batch, samples) {expected}, got {tuple(sample_mask.shape)}",
                    value=tuple(sample_mask.shape),
                )
            sample_mask = sample_mask.bool()
            input_values = input_values.masked_fill(~sample_mask.unsqueeze(1), 0.0)
        samples, window = input_values.shape[-1], self.config.window_samples
        if window is None or samples <= window:
            return Pieces(input_values, sample_mask, 1)
        missing = -samples % window
        if missing:
            if sample_mask is None:
                sample_mask = torch.ones_like(input_values[:, 0], dtype=torch.bool)
            sample_mask = F.pad(sample_mask, (0, missing))
            input_values = F.pad(input_values, (0, missing))
        cut = input_values.unflatten(-1, (-1, window)).transpose(1, 2)
        if sample_mask is not None:
            sample_mask = sample_mask.unflatten(-1, (-1, window)).flatten(0, 1)
        return Pieces(cut.flatten(0, 1), sample_mask, cut.shape[1])

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Tokens that hold signal, bool ``(batch, tokens)``, or None if all do. A token spans all leads."""
        pieces = self.pieces(input_values, None, sample_mask)
        if pieces.sample_mask is None:
            return None
        held = self.encoder.stem.tokens_mask(pieces.sample_mask)
        mask: Tensor = held.unflatten(0, (-1, pieces.count)).flatten(1)
        return mask

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgModelOutput:
        """Encode records, see :meth:`EcgEncoder.forward`.

        Args:
            input_values: float32 ``(batch, leads, samples)`` as the feature extractor makes them.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            attention_mask: The same under the name it has in the authors' code.
            kwargs: ``output_hidden_states``, ``output_attentions``, ``return_dict``.

        Raises:
            ConfigurationError: if the shape does not fit.
        """
        need_weights = self.wants_attentions(kwargs)
        sample_mask = attention_mask if sample_mask is None else sample_mask
        tokens, pooled = self.encode(input_values, lead_mask, sample_mask, need_weights=need_weights)
        return EcgModelOutput(last_hidden_state=tokens, pooler_output=pooled)

    def encode(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Tokens of all pieces and their mean, see :meth:`EcgEncoder.encode`."""
        self.check_input_values(input_values)
        pieces = self.pieces(input_values, lead_mask, sample_mask)
        mask = None if pieces.sample_mask is None else self.encoder.stem.tokens_mask(pieces.sample_mask)
        tokens = self.encoder(self.encoder.embed(pieces.values), mask, need_weights=need_weights)
        tokens = tokens.unflatten(0, (-1, pieces.count)).flatten(1, 2)
        if mask is not None:
            mask = mask.unflatten(0, (-1, pieces.count)).flatten(1)
        return tokens, masked_mean(full_precision(tokens), mask)


class EcgFmForPreTraining(EcgFmPreTrainedModel, EcgForPreTraining):
    """wav2vec 2.0 on two adjacent segments of each record, and their contrast with those of other patients.

    Leads of each segment are dropped at random. Spans of tokens are masked; the encoder's output there is to find the
    quantised convolution of its own token among those of other masked tokens of the segment. The means of the
    encoder's outputs of the two segments find each other. The quantiser's temperature falls with the optimiser steps,
    whose number is stored with the weights.
    """

    updates: Tensor

    def __init__(self, config: EcgFmConfig) -> None:
        super().__init__(config)
        if config.segment_tokens <= config.mask_length:
            raise ConfigurationError(
                f"segments of {config.segment_samples} samples have {config.segment_tokens} tokens: "
                f"too few for spans of {config.mask_length}",
                value=config.mask_length,
            )
        width = int(config.conv_dim[-1])
        self.ecg_fm = EcgFmModel(config)
        self.mask_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.quantizer = GumbelQuantizer(
            width, config.codebook_groups, config.codebook_size, config.codebook_dim
        )
        self.target_head = nn.Linear(config.codebook_dim, config.contrast_size)
        self.prediction_head = nn.Linear(config.hidden_size, config.contrast_size)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.post_init()

    def before_training(self, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Begin with the highest temperature, whatever the weights were trained for."""
        super().before_training(batches)
        self.updates.zero_()

    def after_optimizer_step(self, step: int, total_steps: int) -> None:
        """Count the step."""
        self.updates.fill_(step + 1)

    @property
    def gumbel_temperature(self) -> Tensor:
        """What the quantiser divides its scores by, a scalar."""
        config = self.config
        decayed = float(config.gumbel_temperature) * float(config.gumbel_temperature_decay) ** self.updates
        return decayed.clamp(min=float(config.gumbel_temperature_end))

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Numbers for leads, spans and negatives of both segments, and for the codes of every token in training."""
        values, config, tokens = batch["input_values"], self.config, self.config.segment_tokens
        each = (len(values) if rows is None else rows, _SEGMENTS)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*each, *shape, generator=generator, device=values.device)

        noise = {
            "lead_noise": uniform(config.num_leads),
            "span_noise": uniform(1 + tokens),
            "negative_noise": uniform(tokens, config.num_negatives),
        }
        if self.training:
            shape = (*each, tokens, config.codebook_groups, config.codebook_size)
            noise["gumbel_noise"] = gumbel_noise(shape, generator, values.device)
        return noise

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        patient_ids: Tensor | None = None,
        lead_noise: Tensor | None = None,
        span_noise: Tensor | None = None,
        negative_noise: Tensor | None = None,
        gumbel_noise: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> EcgPreTrainingOutput:
        """Mask and compare.

        Args:
            input_values: float32 ``(batch, leads, num_samples)``; of records of more than two windows the first two.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, num_samples)``, 0 for padding; it is neither masked nor compared with.
            patient_ids: int64 ``(batch,)``: records with the same number are of one patient; each negative number is
                a patient of its own, and so is each record if none are given.
            lead_noise: float ``(batch, 2, leads)`` uniform, of both segments, as is all noise; drawn here if not
                given.
            span_noise: float ``(batch, 2, 1 + tokens)`` uniform: how many spans, and where.
            negative_noise: float ``(batch, 2, tokens, num_negatives)`` uniform.
            gumbel_noise: float ``(batch, 2, tokens, codebook_groups, codebook_size)``, Gumbel; in evaluation the most
                probable codes are taken instead.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states`` and ``output_attentions`` (two rows per record), ``return_dict``.

        Raises:
            ConfigurationError: if records are not of ``num_samples``.
        """
        config = self.config
        self.check_full_length(input_values)
        noise = self.complete_noise(
            input_values,
            lead_noise=lead_noise,
            span_noise=span_noise,
            negative_noise=negative_noise,
            gumbel_noise=gumbel_noise,
        )
        leads, spans, negatives = noise["lead_noise"], noise["span_noise"], noise["negative_noise"]
        assert leads is not None
        assert spans is not None
        assert negatives is not None
        # Both segments of a record are neighbouring rows.
        values = self._segments(input_values).transpose(1, 2).flatten(0, 1)
        kept = (leads >= config.lead_mask_probability).flatten(0, 1)
        if lead_mask is not None:
            kept = kept & lead_mask.bool().repeat_interleave(_SEGMENTS, dim=0)
        held = None if sample_mask is None else self._segments(sample_mask.bool()).flatten(0, 1)
        pieces = self.ecg_fm.pieces(values, kept, held)
        spans = spans.flatten(0, 1)
        masked = mask_spans(
            spans[:, 0],
            spans[:, 1:],
            probability=float(config.mask_probability),
            length=config.mask_length,
        )
        token_mask = None if held is None else self.ecg_fm.encoder.stem.tokens_mask(held)
        if token_mask is not None:
            masked = masked & token_mask
        codes = noise["gumbel_noise"] if self.training else None
        return self.compare(
            pieces.values,
            token_mask,
            masked,
            pick_other_masked(masked, negatives.flatten(0, 1)),
            None if codes is None else codes.flatten(0, 1),
            patient_ids,
            need_weights=self.wants_attentions(kwargs),
        )

    def compare(
        self,
        segments: Tensor,
        token_mask: Tensor | None,
        masked: Tensor,
        negative_index: Tensor,
        codes_noise: Tensor | None,
        patient_ids: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> EcgPreTrainingOutput:
        """Everything behind the choice of what is masked.

        Args:
            segments: float ``(2 * batch, leads, segment_samples)``, those of a record side by side.
            token_mask: bool ``(2 * batch, tokens)``, False for padding; None if there is none.
            masked: bool ``(2 * batch, tokens)``.
            negative_index: int64 ``(2 * batch, tokens, num_negatives)``, see
                :func:`~ecg_hf.nn.masks.spans.pick_other_masked`.
            codes_noise: float ``(2 * batch, tokens, groups, codes)`` for the quantiser, or None.
            patient_ids: int64 ``(batch,)``, see :meth:`forward`.
            need_weights: Use an attention kernel that returns its weights.
        """
        config, tower = self.config, self.ecg_fm.encoder
        features = scale_gradient(
            tower.stem(match_weights(segments, tower)), float(config.feature_gradient_factor)
        )
        penalty = full_precision(features).square().mean()
        normed = tower.stem_norm(features)
        tokens = self._dropout(tower.projection(normed))
        tokens = torch.where(masked.unsqueeze(-1), self.mask_token.to(tokens.dtype), tokens)
        encoded = tower(tokens, token_mask, need_weights=need_weights)
        quantized = self.quantizer(self._dropout(normed), codes_noise, self.gumbel_temperature)
        contrast = code_contrast_loss(
            self.prediction_head(match_weights(encoded, self.prediction_head)),
            self.target_head(match_weights(quantized.vectors, self.target_head)),
            quantized.codes,
            masked,
            negative_index,
            temperature=float(config.contrast_temperature),
        )

        pooled = masked_mean(full_precision(encoded), token_mask).unflatten(0, (-1, _SEGMENTS))
        usage = masked_mean(quantized.probabilities.flatten(2), masked).unflatten(0, (-1, _SEGMENTS)).mean(1)
        present = torch.ones_like(masked) if token_mask is None else token_mask
        local = {
            "first": pooled[:, 0],
            "second": pooled[:, 1],
            "usage": usage,
            "present": present.any(1).unflatten(0, (-1, _SEGMENTS)).to(torch.uint8),
        }
        if patient_ids is not None:
            local["patients"] = patient_ids[:, None]
        pool = self.pool_embeddings(local)
        patients = None if patient_ids is None else pool["patients"][:, 0]
        segments_loss = view_pairs_loss(
            torch.stack([pool["first"], pool["second"]]),
            patient_numbers(patients, pool["first"]),
            temperature=float(config.segment_temperature),
            present=pool["present"].bool().T,
            both_ways=True,
            fixed_length=True,
        )
        all_codes = config.codebook_groups * config.codebook_size
        perplexity = code_perplexity(pool["usage"].unflatten(1, (config.codebook_groups, -1)))
        terms = {
            "contrastive": contrast.loss,
            "diversity": 1.0 - perplexity / all_codes,
            "feature_penalty": penalty,
            "segments": segments_loss,
        }
        return EcgPreTrainingOutput(
            loss=self.weighted_sum(terms),
            loss_terms={name: term.detach() for name, term in terms.items()},
            metrics={
                "contrast_accuracy": contrast.accuracy,
                "code_perplexity": perplexity.detach(),
                "embedding_spread": embedding_spread(pool["first"]),
            },
            ecg_embeds=pooled.mean(1),
        )

    def _segments(self, values: Tensor) -> Tensor:
        """The two segments of ``(..., num_samples)``: ``(..., 2, segment_samples)``."""
        samples = self.config.segment_samples
        cut: Tensor = values[..., : _SEGMENTS * samples].unflatten(-1, (_SEGMENTS, samples))
        return cut

    def _dropout(self, tokens: Tensor) -> Tensor:
        return F.dropout(tokens, float(self.config.feature_dropout), self.training)


class EcgFmForEcgClassification(EcgFmPreTrainedModel, EcgForClassification):
    """The encoder with a linear head. Pieces are classified by themselves; their probabilities become one."""

    _keys_to_ignore_on_load_unexpected = EcgFmModel._keys_to_ignore_on_load_unexpected

    model_class = EcgFmModel

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgClassifierOutput:
        """Classify records, see :meth:`EcgForClassification.forward`.

        Args:
            input_values: float32 ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            labels: See :func:`ecg_hf.nn.losses.classification_loss`.
            attention_mask: As ``sample_mask``.
            kwargs: ``output_hidden_states``, ``output_attentions``, ``return_dict``.

        Raises:
            ConfigurationError: if the labels do not fit the logits, or hold values that are no labels.
        """
        model = self.base_model
        model.check_input_values(input_values)
        sample_mask = attention_mask if sample_mask is None else sample_mask
        pieces = model.pieces(input_values, lead_mask, sample_mask)
        outputs: EcgClassifierOutput = super().forward(
            pieces.values, None, pieces.sample_mask, return_dict=True, **kwargs
        )
        logits = outputs.logits
        assert logits is not None
        kind = self.config.problem_type if labels is None else self.problem_type(labels)
        if pieces.count > 1:
            logits = self._one_of_pieces(logits.unflatten(0, (-1, pieces.count)), pieces, kind)
        loss = None if labels is None else classification_loss(logits, labels, str(kind))
        return EcgClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def _one_of_pieces(self, logits: Tensor, pieces: Pieces, kind: str | None) -> Tensor:
        """``(batch, pieces, labels)`` to ``(batch, labels)``; pieces weigh what they hold of signal."""
        weights = torch.ones_like(logits[..., 0], dtype=torch.float32)
        if pieces.sample_mask is not None:
            weights = pieces.sample_mask.float().mean(1).unflatten(0, (-1, pieces.count))
            # A record without signal: give all pieces the same weight, as the shares would be NaN.
            weights = torch.where(weights.sum(1, keepdim=True) > 0.0, weights, 1.0)
        held = (weights > 0.0).unsqueeze(-1)
        weights = weights / weights.sum(1, keepdim=True)
        if kind is None:
            # As the classification pipeline interprets logits of an unnamed problem.
            kind = "multi_label_classification" if self.num_labels == 1 else "single_label_classification"
        mean = mean_probability_logits(logits, weights, kind)
        if self.config.piece_pooling is None:
            return mean
        largest = logits.float().masked_fill(~held, -torch.inf).amax(1)
        takes_largest = torch.tensor(
            [how == "max" for how in self.config.piece_pooling], device=logits.device
        )
        return torch.where(takes_largest, largest, mean)
