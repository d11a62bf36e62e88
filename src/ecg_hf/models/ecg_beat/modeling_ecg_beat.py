"""ECG-Beat: the median beat and the measurements of a record, encoded to what its report says.

The ECG is reduced by signal processing to one beat per lead and a table of numbers; a small network reads both. It is
trained to predict which terms (words and pairs of words) the report contains, which is supervision by reports, or
without reports by one of the other objectives of :class:`EcgBeatConfig`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.ecg_beat.configuration_ecg_beat import EcgBeatConfig
from ecg_hf.models.modeling import (
    EcgForClassification,
    EcgForPreTraining,
    EcgPreTrainedModel,
    WithoutAttention,
)
from ecg_hf.models.outputs import EcgAlignmentOutput, EcgClassifierOutput, EcgPreTrainingOutput
from ecg_hf.nn.backbones.resnet1d import ResidualBlock1d, ResNet1d
from ecg_hf.nn.losses.nt_xent import nt_xent_loss
from ecg_hf.nn.losses.targets import regression_target_loss, term_entropy, term_loss
from ecg_hf.nn.median_beat import representative_beats
from ecg_hf.nn.normalization import GlobalBatchNorm1d
from ecg_hf.nn.precision import full_precision, match_weights
from ecg_hf.nn.targets import Standardizer, TargetHead
from ecg_hf.nn.terms import TermBag, TermHead

__all__ = ["EcgBeatForEcgClassification", "EcgBeatForPreTraining", "EcgBeatModel", "EcgBeatPreTrainedModel"]

_BEAT_LIMIT = 20.0
_MEASURE_LIMIT = 6.0


def init_convolutional(module: nn.Module) -> None:
    """Fan-in scale for convolutions, ones and zeros for norms, zero for the last norm of a residual block."""
    if isinstance(module, nn.Conv1d):
        init.normal_(module.weight, std=(2.0 / module.weight[0].numel()) ** 0.5)
    elif isinstance(module, ResidualBlock1d):
        init.zeros_(module.last_norm.weight)
    elif isinstance(module, TargetHead):
        init.normal_(module.linear.weight, std=0.1 * module.linear.in_features**-0.5)
    elif isinstance(module, TermHead | TermBag | Standardizer):
        module.reset_buffers()
        if isinstance(module, TermHead):
            init.zeros_(module.predict.linear.bias)


class EcgBeatPreTrainedModel(WithoutAttention, EcgPreTrainedModel):
    """Initialisation shared by the ECG-Beat models."""

    config: EcgBeatConfig
    config_class = EcgBeatConfig
    base_model_prefix = "ecg_beat"
    _no_split_modules = ["EcgResidualBlock1d"]
    _can_record_outputs = {"hidden_states": ResidualBlock1d}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        init_convolutional(module)
        init_encoder(module)


class EcgBeatEncoder(nn.Module):
    """Median beat and measurements to an embedding."""

    def __init__(self, config: EcgBeatConfig) -> None:
        super().__init__()
        self.config = config
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgResidualBlock1d

        self.convolutions = ResNet1d(
            config.num_leads,
            stem_channels=config.stem_channels,
            stem_kernel_size=7,
            stem_stride=2,
            channels=config.channels,
            depths=config.depths,
            strides=config.strides,
            kernel_size=config.kernel_size,
            make_block=EcgResidualBlock1d,
        )
        steps = -(-sum(config.beat_samples) // self.convolutions.stride)
        width = config.trunk_size
        self.measures = Standardizer(config.num_measures, _MEASURE_LIMIT)
        self.beat_projection = nn.Linear(config.channels[-1] * steps, width)
        self.measure_projection = nn.Linear(config.num_measures, width)
        self.input_norm = GlobalBatchNorm1d(2 * width)
        self.hidden = nn.Linear(2 * width, width)
        self.hidden_norm = GlobalBatchNorm1d(width)
        self.embedding = nn.Linear(width, config.embedding_size)
        self.dropout = nn.Dropout(float(config.dropout))

    def reduce(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        r_peaks: Tensor | None = None,
        measures: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The median beat and the measurements as :meth:`forward` reads them; arguments as of the model.

        Returns:
            Scaled beats float ``(batch, leads, beat samples)``, zeros for missing leads; standardised measurements
            float ``(batch, measures)``, zeros (the mean) where unknown.

        Raises:
            ConfigurationError: if the measurements are missing.
        """
        config = self.config
        if measures is None:
            raise ConfigurationError(
                "ECG-Beat reads measurements too: pass the measures that EcgBeatFeatureExtractor returns"
            )
        signal = full_precision(input_values)
        if lead_mask is not None:
            signal = signal.masked_fill(lead_mask.unsqueeze(-1) == 0, 0.0)
        beats = representative_beats(
            signal,
            float(config.sampling_rate),
            before_s=float(config.before_s),
            after_s=float(config.after_s),
            level_s=(float(config.level_s[0]), float(config.level_s[1])),
            r_peaks=r_peaks,
            sample_mask=sample_mask,
        )
        beats = (beats * float(config.beat_scale)).clamp(-_BEAT_LIMIT, _BEAT_LIMIT)
        known = self.measures(full_precision(measures[:, : config.num_measures])).nan_to_num(0.0)
        return beats, known

    def forward(self, beats: Tensor, measures: Tensor) -> Tensor:
        """Encode.

        Args:
            beats: float ``(batch, leads, samples)``, scaled median beats.
            measures: float ``(batch, measures)``, standardised, without NaN.

        Returns:
            float ``(batch, embedding_size)``.
        """
        beats, measures = match_weights(beats, self.hidden), match_weights(measures, self.hidden)
        beat = self.beat_projection(self.convolutions(beats).flatten(1))
        both = torch.cat([beat, self.measure_projection(measures)], dim=1)
        features = self.dropout(torch.relu(self.input_norm(both)))
        features = self.dropout(torch.relu(self.hidden_norm(self.hidden(features))))
        embedding: Tensor = self.embedding(features)
        return embedding


def init_encoder(module: nn.Module) -> None:
    """Fan-in scale for the linear layers of an :class:`EcgBeatEncoder`."""
    if isinstance(module, EcgBeatEncoder):
        for layer in (module.beat_projection, module.measure_projection, module.hidden, module.embedding):
            init.normal_(layer.weight, std=layer.in_features**-0.5)


class WithTermHead:
    """Mixin for models whose texts are bags of terms: what the term head gives, or a typed error without one."""

    config: Any
    term_head: TermHead | None

    def required_term_head(self) -> TermHead:
        """The term head.

        Raises:
            ConfigurationError: if the model was trained without reports.
        """
        if self.term_head is None:
            raise ConfigurationError("this model was trained without reports and has no text side")
        return self.term_head

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Terms of texts, weighted by rarity, of length 1: float ``(texts, num_terms)``."""
        return self.required_term_head().text_features(input_ids, attention_mask)

    def aligned(
        self, output: EcgAlignmentOutput, embedding: Tensor, input_ids: Tensor, attention_mask: Tensor | None
    ) -> EcgAlignmentOutput:
        """``output`` with records and texts in the space of terms, and their similarity over the temperature."""
        head = self.required_term_head()
        output.ecg_embeds = head.ecg_features(embedding)
        output.text_embeds = head.text_features(input_ids, attention_mask)
        output.logits_per_ecg = output.ecg_embeds @ output.text_embeds.T / float(self.config.temperature)
        return output


class EcgBeatModel(WithTermHead, EcgBeatPreTrainedModel):
    """The encoder with its term head: ECGs and free text meet in the space of terms.

    Args:
        config: The configuration.
        add_term_head: Leave out the term head where only the encoder is wanted.
    """

    _keys_to_ignore_on_load_unexpected = [r"^(measure|denoise|simclr|contrast)_\w+\."]

    _optional_parts = ("term_head",)

    def __init__(self, config: EcgBeatConfig, add_term_head: bool = True) -> None:
        super().__init__(config)
        self.encoder = EcgBeatEncoder(config)
        self.term_head = (
            TermHead(config.embedding_size, config.num_terms)
            if add_term_head and config.needs_reports
            else None
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The first convolution."""
        return self.encoder.convolutions.stem

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The residual blocks."""
        return self.encoder.convolutions.blocks

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> None:
        """None: the only token is the record's embedding."""
        return None

    def encode(self, input_values: Tensor, *rest: Tensor | None) -> Tensor:
        """Embeddings ``(batch, embedding_size)``; arguments as of :meth:`forward`, by position."""
        self.check_input_values(input_values)
        embedding: Tensor = self.encoder(*self.encoder.reduce(input_values, *rest))
        return embedding

    def get_ecg_features(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        r_peaks: Tensor | None = None,
        measures: Tensor | None = None,
    ) -> Tensor:
        """Standardised term logits of length 1, float32 ``(batch, num_terms)``."""
        embedding = self.encode(input_values, lead_mask, sample_mask, r_peaks, measures)
        return self.required_term_head().ecg_features(embedding)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        r_peaks: Tensor | None = None,
        measures: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgAlignmentOutput:
        """Encode records and, if given, texts.

        Args:
            input_values: float32 ``(batch, leads, samples)`` in millivolts.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding: beats in it do not count.
            r_peaks: int64 ``(batch, peaks)``, -1 where there is none; estimated if not given.
            measures: float ``(batch, 359)`` of :mod:`ecg_hf.signal.beats.measures`, NaN where undefined.
            input_ids: int64 ``(texts, length)``.
            attention_mask: ``(texts, length)``.
            kwargs: ``output_hidden_states``, ``return_dict``.
        """
        embedding = self.encode(input_values, lead_mask, sample_mask, r_peaks, measures)
        output = EcgAlignmentOutput(
            last_hidden_state=embedding[:, None], pooler_output=full_precision(embedding)
        )
        return output if input_ids is None else self.aligned(output, embedding, input_ids, attention_mask)


class EcgBeatForPreTraining(EcgBeatPreTrainedModel, EcgForPreTraining):
    """The encoder with the heads of the objectives whose weight is not zero."""

    def __init__(self, config: EcgBeatConfig) -> None:
        super().__init__(config)
        self.ecg_beat = EcgBeatModel(config)
        size, beat = config.embedding_size, config.num_leads * sum(config.beat_samples)
        self.measure_head = TargetHead(size, config.num_measures) if config.measure_weight else None
        self.denoise_head = TargetHead(size, beat + config.num_measures) if config.denoise_weight else None
        width = config.projection_size
        self.simclr_projection = TargetHead(size, width) if config.simclr_weight else None
        self.contrast_projection = TargetHead(size, width) if config.contrast_weight else None
        self.contrast_text = nn.Linear(config.num_terms, width) if config.contrast_weight else None
        self.post_init()

    @torch.no_grad()
    def before_training(self, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Learn mean and spread of the measurements from the training records."""
        measures = torch.cat([batch["measures"][:, : self.config.num_measures] for batch in batches])
        self.ecg_beat.encoder.measures.fit(measures)

    @torch.no_grad()
    def after_training(self, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Learn mean and spread of the term logits, which zero-shot scores are relative to."""
        head = self.ecg_beat.term_head
        if head is None:
            return
        self.eval()
        names = ("input_values", "lead_mask", "sample_mask", "r_peaks", "measures")
        logits = [head(self.ecg_beat.encode(*(b.get(n) for n in names))) for b in batches]  # type: ignore[arg-type]
        head.standard.fit(full_precision(torch.cat(logits)))

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator | None, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Noise of one or two damaged copies of each record, and of what is mixed."""
        config, values = self.config, batch["input_values"]
        rows = len(values) if rows is None else rows
        views = 2 if config.simclr_weight else 1
        width = sum(config.beat_samples)

        def normal(*shape: int) -> Tensor:
            return torch.randn(rows, views, *shape, generator=generator, device=values.device)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(rows, views, *shape, generator=generator, device=values.device)

        return {
            "gain_noise": normal(config.num_leads + 1),
            "beat_noise": normal(config.num_leads, width),
            "measure_noise": normal(config.num_measures),
            "drop_noise": uniform(config.num_leads + config.num_measures),
            "mix_noise": uniform(2),
        }

    def _damaged(
        self, beats: Tensor, measures: Tensor, noise: Mapping[str, Tensor], view: int
    ) -> tuple[Tensor, Tensor]:
        """A noisy copy of beats and measurements, as every objective sees them."""
        config = self.config
        gain = noise["gain_noise"][:, view]
        scale = (1.0 + config.gain_jitter * gain[:, :1]) * (1.0 + config.lead_gain_jitter * gain[:, 1:])
        beats = beats * scale[..., None] + config.beat_noise * noise["beat_noise"][:, view]
        span = 2 * config.max_shift + 1
        shift = (noise["mix_noise"][:, view, 1] * span).long().clamp(max=span - 1) - config.max_shift
        width = beats.shape[-1]
        places = (torch.arange(width, device=beats.device) - shift[:, None]) % width
        beats = beats.gather(2, places[:, None].expand_as(beats))
        return beats, measures + config.measure_noise * noise["measure_noise"][:, view]

    def _dropped(
        self, beats: Tensor, measures: Tensor, noise: Mapping[str, Tensor], view: int
    ) -> tuple[Tensor, Tensor]:
        """Some leads and some measurements taken away."""
        kept = (noise["drop_noise"][:, view] >= self.config.drop_share).to(beats.dtype)
        leads = self.config.num_leads
        return beats * kept[:, :leads, None], measures * kept[:, leads:]

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        r_peaks: Tensor | None = None,
        measures: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        gain_noise: Tensor | None = None,
        beat_noise: Tensor | None = None,
        measure_noise: Tensor | None = None,
        drop_noise: Tensor | None = None,
        mix_noise: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> EcgPreTrainingOutput:
        """One pass that feeds every objective.

        Args:
            input_values: As :meth:`EcgBeatModel.forward`; likewise the next four.
            lead_mask: See there.
            sample_mask: See there.
            r_peaks: See there.
            measures: See there.
            input_ids: int64 ``(batch, length)``, the reports; needed by objectives that read them.
            attention_mask: ``(batch, length)``.
            gain_noise: float ``(batch, views, leads + 1)`` normal; this and the rest are drawn here if not given.
            beat_noise: float ``(batch, views, leads, beat samples)`` normal.
            measure_noise: float ``(batch, views, measures)`` normal.
            drop_noise: float ``(batch, views, leads + measures)`` uniform.
            mix_noise: float ``(batch, views, 2)`` uniform.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states``, ``return_dict``.

        Raises:
            ConfigurationError: if reports are needed and missing.
        """
        config = self.config
        given = (gain_noise, beat_noise, measure_noise, drop_noise, mix_noise)
        noise = self.draw_noise({"input_values": input_values}, None)
        noise |= {n: g for n, g in zip(noise, given, strict=True) if g is not None}
        self.ecg_beat.check_input_values(input_values)
        clean, known = self.ecg_beat.encoder.reduce(input_values, lead_mask, sample_mask, r_peaks, measures)
        beats, numbers = self._damaged(clean, known, noise, 0)
        terms = self._terms(input_ids, attention_mask)
        if config.mixup and config.term_weight and terms is not None:
            beats, numbers, terms = mix_neighbours(
                float(config.mixup) * noise["mix_noise"][:, 0, 0], beats, numbers, terms
            )
        if config.denoise_weight or config.simclr_weight:
            beats, numbers = self._dropped(beats, numbers, noise, 0)
        embedding = self.ecg_beat.encoder(beats, numbers)

        losses: dict[str, Tensor] = {}
        head = self.ecg_beat.term_head
        if config.term_weight:
            assert head is not None
            assert terms is not None
            losses["term"] = term_loss(head(embedding), terms, term_entropy(head.prior))
        if self.contrast_projection is not None:
            assert terms is not None
            losses["contrast"] = self._contrast(embedding, terms, head)
        if self.measure_head is not None:
            losses["measure"] = regression_target_loss(self.measure_head(embedding), known)
        if self.denoise_head is not None:
            whole = torch.cat([clean.flatten(1), known], dim=1)
            losses["denoise"] = regression_target_loss(self.denoise_head(embedding), whole)
        if self.simclr_projection is not None:
            damaged, noisy = self._damaged(clean, known, noise, 1)
            other = self._dropped(damaged, noisy, noise, 1)
            both = self.pool_embeddings(
                {
                    "first": self.simclr_projection(embedding),
                    "second": self.simclr_projection(self.ecg_beat.encoder(*other)),
                }
            )
            losses["simclr"] = nt_xent_loss(
                both["first"], both["second"], temperature=float(config.contrast_temperature)
            )
        return EcgPreTrainingOutput(
            loss=self.weighted_sum(losses),
            loss_terms={name: value.detach() for name, value in losses.items()},
            metrics={"embedding_spread": embedding.detach().float().std(0, correction=0).mean()},
            ecg_embeds=embedding,
        )

    def _terms(self, input_ids: Tensor | None, attention_mask: Tensor | None) -> Tensor | None:
        if not self.config.needs_reports:
            return None
        if input_ids is None:
            raise ConfigurationError("this objective reads reports: input_ids are missing")
        assert self.ecg_beat.term_head is not None
        terms: Tensor = self.ecg_beat.term_head.bag(input_ids, attention_mask)
        return terms

    def _contrast(self, embedding: Tensor, terms: Tensor, head: TermHead | None) -> Tensor:
        """Symmetric cross-entropy between records and reports; equal reports share the target."""
        assert self.contrast_projection is not None
        assert self.contrast_text is not None
        assert head is not None
        text = F.normalize(terms * head.bag.idf, dim=-1)
        pool = self.pool_embeddings(
            {"ecg": self.contrast_projection(embedding), "text": self.contrast_text(text), "terms": text}
        )
        with torch.autocast(embedding.device.type, enabled=False):
            ecg, words, bags = (full_precision(pool[name]) for name in ("ecg", "text", "terms"))
            similar = F.normalize(ecg, dim=-1) @ F.normalize(words, dim=-1).T
            logits = similar / float(self.config.contrast_temperature)
            target = (bags @ bags.T > 0.999).float() + torch.eye(len(bags), device=bags.device)
            target = target.clamp(max=1.0)
            target = target / target.sum(1, keepdim=True)
            both = (target * logits.log_softmax(1)).sum(1) + (target * logits.T.log_softmax(1)).sum(1)
        return -0.5 * both.mean()


def mix_neighbours(share: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    """Mix each row with the one beside it: rows 0 and 1, 2 and 3, and so on; of an odd number the last stays.

    Neighbours are partners because a batch may lie on several processes: pairs are then the same.

    Args:
        share: float ``(batch,)``: how much of the other row.
        parts: float ``(batch, ...)``.
    """
    rows = torch.arange(len(share), device=share.device)
    other = torch.where(rows ^ 1 < len(share), rows ^ 1, rows)
    return tuple(
        part.lerp(part[other], share.to(part.dtype).view(-1, *[1] * (part.ndim - 1))) for part in parts
    )


class EcgBeatForEcgClassification(EcgBeatPreTrainedModel, EcgForClassification):
    """The encoder with a linear head."""

    _keys_to_ignore_on_load_unexpected = [r"^(measure|denoise|simclr|contrast)_\w+\.", r"term_head\."]

    model_class = EcgBeatModel

    def build_encoder(self) -> EcgPreTrainedModel:
        """The encoder without its term head."""
        return EcgBeatModel(self.config, add_term_head=False)

    def build_head(self) -> None:
        """The classifier; an attention query has one head."""
        self.build_classifier(self.config.hidden_size, 1)

    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        labels: Tensor | None = None,
        r_peaks: Tensor | None = None,
        measures: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgClassifierOutput:
        """As the base class; ``r_peaks`` and ``measures`` are named, or the library's Trainer leaves them out."""
        output: EcgClassifierOutput = super().forward(
            input_values, lead_mask, sample_mask, labels, r_peaks=r_peaks, measures=measures, **kwargs
        )
        return output
