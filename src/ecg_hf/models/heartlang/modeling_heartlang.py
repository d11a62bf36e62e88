"""HeartLang: the encoder of sentences of beats, both stages of its pretraining, and its classifier.

Paper: Jin et al., "Reading Your Heart: Learning ECG Words and Sentences via Pre-training ECG Language Model", ICLR
2025, arXiv 2502.10707. Official code: github.com/PKUDigitalHealth/HeartLang at a08afd8 (MIT), rewritten here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import logging
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.beat_input import cut_beats
from ecg_hf.models.heartlang.configuration_heartlang import HeartLangConfig
from ecg_hf.models.heartlang.encoder_heartlang import BeatTransformer
from ecg_hf.models.heartlang.vocabulary_heartlang import HeartLangVocabulary, learn_vocabulary
from ecg_hf.models.modeling import EcgForClassification, EcgForPreTraining, EcgPreTrainedModel, init_as_torch
from ecg_hf.models.outputs import EcgClassifierOutput, EcgModelOutput, EcgPreTrainingOutput
from ecg_hf.nn.beat_embedding import BeatEmbedding
from ecg_hf.nn.beats import BeatSentence, beat_sentence
from ecg_hf.nn.codebook import Codebook, spread_codes
from ecg_hf.nn.gather import take_from_first_process
from ecg_hf.nn.losses import masked_token_loss
from ecg_hf.nn.masks.beats import beat_mask_indices
from ecg_hf.nn.precision import full_precision, match_weights
from ecg_hf.nn.tokenizers import gather_tokens

__all__ = [
    "HeartLangForEcgClassification",
    "HeartLangForPreTraining",
    "HeartLangModel",
    "HeartLangPreTrainedModel",
    "HeartLangPreTrainingOutput",
]

logger = logging.get_logger(__name__)


@dataclass
class HeartLangPreTrainingOutput(EcgPreTrainingOutput):
    """Output of either stage. ``masked_index`` is ``(batch, masked)``: tokens of the sentence, of the second stage.

    Attributes:
        code_logits: float ``(batch, masked, codebook_size)``, of the second stage.
        codes: int64: the vocabulary's codes, ``(batch, masked)`` of the second stage, ``(batch, tokens)`` of the
            first.
        beat_reconstruction: float ``(batch, tokens, beat_length)`` in millivolts, of the first stage.
    """

    code_logits: Tensor | None = None
    codes: Tensor | None = None
    beat_reconstruction: Tensor | None = None


class HeartLangPreTrainedModel(EcgPreTrainedModel):
    """Sentences and initialisation, shared by the HeartLang models; initial values are those of the official code."""

    config: HeartLangConfig
    config_class = HeartLangConfig
    base_model_prefix = "heartlang"
    _no_split_modules = ["EcgTransformerBlock"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init_as_torch(module)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, BeatEmbedding):
            init.kaiming_normal_(module.convolution.weight, mode="fan_in", nonlinearity="leaky_relu")
        elif isinstance(module, BeatTransformer):
            init.normal_(module.cls_token)
            init.normal_(module.positions)
        elif isinstance(module, Codebook):
            init.copy_(module.codes, spread_codes(*module.codes.shape))
            init.zeros_(module.fitted)
        elif isinstance(module, HeartLangForPreTraining) and module.lm_head is not None:
            init.zeros_(module.mask_token)

    def sentence(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        r_peaks: Tensor | None = None,
        channel_ids: Tensor | None = None,
        time_ids: Tensor | None = None,
    ) -> BeatSentence:
        """Beats of the leads that are there, one lead after the other, in the unit of the signal.

        Args:
            input_values: float ``(batch, leads, samples)``; with ``channel_ids`` beats that have been cut, ``(batch,
                tokens, beat_length)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            r_peaks: int64 ``(batch, any)``, padded with -1. Without it records are cut evenly, with a warning.
            channel_ids: int64 ``(batch, tokens)``: lead of each beat, from 1; 0 where there is none.
            time_ids: int64 ``(batch, tokens)``: its second, from 1; needed with ``channel_ids``.

        Raises:
            ConfigurationError: if the shapes do not fit, or beats come with masks or peaks.
        """
        if channel_ids is not None or time_ids is not None:
            if any(value is not None for value in (lead_mask, sample_mask, r_peaks)):
                raise ConfigurationError("beats that have been cut take no lead_mask, sample_mask or r_peaks")
            return self._given_sentence(input_values, channel_ids, time_ids)
        config = self.config
        evenly = config.sentence_length // config.num_leads
        slots = evenly if r_peaks is None else max(evenly, min(r_peaks.shape[1], config.sentence_length))
        tokens = cut_beats(
            self,
            input_values,
            lead_mask,
            sample_mask,
            r_peaks,
            beats_per_lead=slots,
            evenly_spaced=evenly if r_peaks is None or config.without_peaks == "evenly" else 0,
        )
        return beat_sentence(tokens, config.num_leads, config.sentence_length)

    def _given_sentence(
        self, beats: Tensor, channel_ids: Tensor | None, time_ids: Tensor | None
    ) -> BeatSentence:
        config = self.config
        if channel_ids is None or time_ids is None:
            raise ConfigurationError("beats that have been cut need channel_ids and time_ids")
        shape, longest = tuple(beats.shape), config.sentence_length
        fits = beats.is_floating_point() and len(shape) == 3 and shape[2] == config.beat_length
        if not fits or not 1 <= shape[1] <= longest or {channel_ids.shape, time_ids.shape} != {shape[:2]}:
            raise ConfigurationError(
                f"beats must be floats (batch, 1 to {longest} tokens, {config.beat_length} samples) with an id for "
                f"each token, got {shape}, {tuple(channel_ids.shape)} and {tuple(time_ids.shape)}",
                value=shape,
            )
        if not torch.compiler.is_compiling():
            for name, ids, rows in (
                ("channel_ids", channel_ids, config.num_lead_ids),
                ("time_ids", time_ids, config.num_time_ids),
            ):
                if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < rows:
                    raise ConfigurationError(f"{name} must be within 0..{rows - 1}", value=int(ids.max()))
        return BeatSentence(beats, channel_ids, time_ids, channel_ids > 0)


class HeartLangModel(HeartLangPreTrainedModel):
    """The encoder of sentences.

    ``last_hidden_state`` holds [CLS], then the beats, lead after lead; ``pooler_output`` is [CLS].
    """

    _keys_to_ignore_on_load_unexpected = [r"^vocabulary\.", r"^mask_token$", r"^lm_head\.", r"^classifier"]

    def __init__(self, config: HeartLangConfig) -> None:
        super().__init__(config)
        self.encoder = BeatTransformer(
            config,
            config.beat_length,
            config.hidden_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            head_size=config.head_size,
            intermediate_size=config.intermediate_size,
            dropout=float(config.hidden_dropout_prob),
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The beat embedding's convolution."""
        return self.encoder.embedding.convolution

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The blocks of the encoder."""
        return self.encoder.layers.blocks

    def token_mask(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        r_peaks: Tensor | None = None,
        channel_ids: Tensor | None = None,
        time_ids: Tensor | None = None,
    ) -> Tensor | None:
        """Which tokens hold a beat, [CLS] included: bool ``(batch, 1 + tokens)``; arguments as :meth:`sentence`."""
        given = (lead_mask, sample_mask, r_peaks, channel_ids, time_ids)
        if all(value is None for value in given):
            return None
        return nn.functional.pad(self.sentence(input_values, *given).beat_mask, (1, 0), value=True)

    def encode_sentence(
        self,
        sentence: BeatSentence,
        masked: Tensor | None = None,
        mask_token: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> Tensor:
        """Encode beats that have been cut; see :meth:`BeatTransformer.forward`."""
        encoded: Tensor = self.encoder(
            sentence.beats,
            sentence.lead_ids,
            sentence.time_ids,
            keys=None if self.config.attend_to_padding else sentence.beat_mask,
            masked=masked,
            mask_token=mask_token,
            need_weights=need_weights,
        )
        return encoded

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        r_peaks: Tensor | None = None,
        channel_ids: Tensor | None = None,
        time_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgModelOutput:
        """Encode records, or beats that have been cut.

        Args:
            input_values: float32 ``(batch, leads, samples)`` as the feature extractor makes them, or beats; this and
                what follows as for :meth:`sentence`.
            lead_mask: ``(batch, leads)``.
            sample_mask: ``(batch, samples)``.
            r_peaks: int64 ``(batch, any)``.
            channel_ids: int64 ``(batch, tokens)``.
            time_ids: int64 ``(batch, tokens)``.
            kwargs: ``output_hidden_states``, ``output_attentions``, ``return_dict``.
        """
        sentence = self.sentence(input_values, lead_mask, sample_mask, r_peaks, channel_ids, time_ids)
        encoded = self.encode_sentence(sentence, need_weights=self.wants_attentions(kwargs))
        return EcgModelOutput(last_hidden_state=encoded, pooler_output=full_precision(encoded[:, 0]))


class HeartLangForPreTraining(HeartLangPreTrainedModel, EcgForPreTraining):
    """Either stage, as ``config.stage`` says.

    ``vq-hbr`` trains the vocabulary alone; there is no encoder of sentences then. ``sentences`` trains that encoder
    to predict the codes of hidden beats in a frozen vocabulary: that of an earlier run (:meth:`load_teacher`), else
    one that is learnt in a pass over the training records before the first step.
    """

    def __init__(self, config: HeartLangConfig) -> None:
        super().__init__(config)
        self.vocabulary = HeartLangVocabulary(config)
        self.lm_head: nn.Linear | None = None
        if config.stage == "sentences":
            self.heartlang = HeartLangModel(config)
            self.mask_token = nn.Parameter(torch.zeros(config.hidden_size))
            self.lm_head = nn.Linear(config.hidden_size, config.codebook_size)
        self.post_init()
        self.freeze_fixed_parameters()

    def get_input_embeddings(self) -> nn.Module:
        """The convolution that embeds beats, of what is trained."""
        trained = self.vocabulary.reader if self.lm_head is None else self.heartlang.encoder
        return trained.embedding.convolution

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The blocks of the encoder that is trained."""
        trained = self.vocabulary.reader if self.lm_head is None else self.heartlang.encoder
        return trained.layers.blocks

    def freeze_fixed_parameters(self) -> None:
        """Freeze the vocabulary in the second stage."""
        if self.lm_head is not None:
            self.vocabulary.requires_grad_(False)

    def load_teacher(self, source: str | Path) -> None:
        """Take over the vocabulary of a trained first stage, or that of another second one.

        Raises:
            ConfigurationError: if this is a first stage, or the vocabulary is another than the configuration's.
        """
        if self.lm_head is None:
            raise ConfigurationError("the first stage learns its vocabulary from no teacher", path=source)
        trained = HeartLangForPreTraining.from_pretrained(source)
        own, others = (model.config.fields_of_teacher(model.config) for model in (self, trained))
        differing = [name for name, value in own.items() if value != others[name]]
        if differing:
            raise ConfigurationError(
                f"not the vocabulary of the configuration: {', '.join(differing)} differ", path=source
            )
        self.vocabulary.load_state_dict(trained.vocabulary.state_dict())
        self.freeze_fixed_parameters()

    @torch.no_grad()
    def before_training(self, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Fit the codes of the first stage to beats; learn the whole vocabulary of a second one that has none."""
        vocabulary = self.vocabulary
        if vocabulary.codebook.fitted:
            return
        names = ("input_values", "lead_mask", "sample_mask", "r_peaks")
        device = vocabulary.codebook.codes.device
        sentences = (
            self.sentence(**{name: batch[name].to(device) for name in names if name in batch})
            for batch in batches
        )
        if self.lm_head is None:
            vocabulary.fit_codebook(sentences)
        else:
            logger.warning(
                "no teacher is named: the vocabulary is learnt first, in one pass over the training records"
            )
            config = self.config
            vocabulary.requires_grad_(True)
            learn_vocabulary(
                vocabulary, sentences, float(config.vq_learning_rate), float(config.commitment_weight)
            )
            vocabulary.requires_grad_(False)
        # Streams give each process records of its own, and on GPUs sums may differ in their last bits.
        take_from_first_process(vocabulary.state_dict().values())

    def after_optimizer_step(self, step: int, total_steps: int) -> None:
        """Move the codes of the first stage."""
        self.vocabulary.codebook.step()

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """One uniform number per token, of the second stage."""
        if self.lm_head is None:
            return {}
        values = batch["input_values"]
        shape = (len(values) if rows is None else rows, self.config.sentence_length)
        return {"noise": torch.rand(shape, generator=generator, device=values.device)}

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        r_peaks: Tensor | None = None,
        channel_ids: Tensor | None = None,
        time_ids: Tensor | None = None,
        noise: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> HeartLangPreTrainingOutput:
        """One step of the stage.

        Paper: sections on VQ-HBR and on masked ECG sentence pretraining; official code: ``modeling_vqhbr.py`` and
        ``modeling_pretrain.py``.

        Args:
            input_values: float32 ``(batch, leads, samples)``, or beats; this and what follows as for
                :meth:`sentence`.
            lead_mask: ``(batch, leads)``.
            sample_mask: ``(batch, samples)``.
            r_peaks: int64 ``(batch, any)``.
            channel_ids: int64 ``(batch, tokens)``.
            time_ids: int64 ``(batch, tokens)``.
            noise: float ``(batch, tokens)`` uniform: the tokens with the smallest numbers stay visible; drawn here if
                not given. Of the second stage.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states``, ``output_attentions``, ``return_dict``.
        """
        sentence = self.sentence(input_values, lead_mask, sample_mask, r_peaks, channel_ids, time_ids)
        if self.lm_head is None:
            return self._rebuild(sentence)
        drawn = self.complete_noise(input_values, noise=noise)["noise"]
        assert drawn is not None
        return self._predict(sentence, drawn, self.lm_head, need_weights=self.wants_attentions(kwargs))

    def _rebuild(self, sentence: BeatSentence) -> HeartLangPreTrainingOutput:
        """The first stage."""
        output = self.vocabulary(sentence)
        losses = {"reconstruction": output.reconstruction_loss, "commitment": output.commitment_loss}
        codes = output.quantized.codes
        energy = full_precision(sentence.beats).square().mean()
        return HeartLangPreTrainingOutput(
            loss=self.weighted_sum(losses),
            loss_terms={name: value.detach() for name, value in losses.items()},
            metrics={
                # Predicting zero everywhere would give 1.
                "error_vs_zero": losses["reconstruction"].detach() / energy.clamp(min=1e-12),
                **self._usage(codes, sentence.beat_mask),
            },
            codes=codes,
            beat_reconstruction=output.reconstruction,
        )

    def _predict(
        self, sentence: BeatSentence, noise: Tensor, head: nn.Linear, *, need_weights: bool
    ) -> HeartLangPreTrainingOutput:
        """The second stage."""
        config, batch = self.config, sentence.beats.shape[0]
        _, masked = beat_mask_indices(noise[:, : sentence.beats.shape[1]], float(config.mask_ratio))
        masked = masked.sort(dim=1).values
        hidden = torch.zeros_like(sentence.beat_mask).scatter(1, masked, True)
        codes = self.vocabulary.codes(sentence, places=config.targets_with_places)
        labels, real = codes.gather(1, masked), sentence.beat_mask.gather(1, masked)
        encoded = self.heartlang.encode_sentence(sentence, hidden, self.mask_token, need_weights=need_weights)
        logits = head(match_weights(gather_tokens(encoded[:, 1:], masked), head))
        counted = torch.ones_like(real) if config.loss_on_padding else real
        loss = masked_token_loss(logits, labels, counted.float())
        hits = (logits.argmax(-1) == labels) & real
        embeds = full_precision(encoded[:, 0])
        return HeartLangPreTrainingOutput(
            loss=loss,
            loss_terms={"masked_codes": loss.detach()},
            metrics={
                "masked_beat_accuracy": hits.sum() / real.sum().clamp(min=1),
                # Spread of [CLS] over the batch; 0 means collapse.
                "embedding_std": embeds.detach().std(0, correction=0).mean(),
                **self._usage(codes, sentence.beat_mask),
            },
            ecg_embeds=embeds,
            masked_index=masked.expand(batch, -1),
            code_logits=logits,
            codes=labels,
        )

    def _usage(self, codes: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Perplexity of the codes of the batch's beats: how many are in use, so to speak; 1 means collapse."""
        counts = torch.zeros(self.config.codebook_size, device=codes.device)
        counts.scatter_add_(0, codes.flatten(), real.flatten().float())
        shares = counts / counts.sum().clamp(min=1.0)
        return {"code_perplexity": torch.special.entr(shares).sum().exp()}


class HeartLangForEcgClassification(HeartLangPreTrainedModel, EcgForClassification):
    """The encoder with a linear layer on [CLS], or with ``classifier_pooling="attention"`` on all beats."""

    _keys_to_ignore_on_load_unexpected = [r"^vocabulary\.", r"^mask_token$", r"^lm_head\."]

    model_class = HeartLangModel
    heartlang: HeartLangModel

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        labels: Tensor | None = None,
        r_peaks: Tensor | None = None,
        channel_ids: Tensor | None = None,
        time_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgClassifierOutput:
        """Classify records, or beats that have been cut.

        Args:
            input_values: float32 ``(batch, leads, samples)``, or beats; as for
                :meth:`HeartLangPreTrainedModel.sentence`, as are all but the labels.
            lead_mask: ``(batch, leads)``.
            sample_mask: ``(batch, samples)``.
            labels: See :func:`ecg_hf.nn.losses.classification_loss`.
            r_peaks: int64 ``(batch, any)``.
            channel_ids: int64 ``(batch, tokens)``.
            time_ids: int64 ``(batch, tokens)``.
            kwargs: ``output_hidden_states``, ``output_attentions``, ``return_dict``.
        """
        given = (lead_mask, sample_mask, r_peaks, channel_ids, time_ids)
        outputs = self.heartlang(input_values, *given, return_dict=True, **kwargs)
        pooled = outputs.pooler_output
        if self.config.classifier_pooling == "attention":
            mask = self.heartlang.token_mask(input_values, *given)
            pooled = self.classifier_pool(outputs.last_hidden_state, mask)
        return self.classified(pooled, labels, outputs)
