"""ECG-Distil: a raw-signal encoder that learns what reports, measurements and ECG-Beat say about a record.

At use it needs no R peaks and no signal processing. Its targets are the terms of the report (supervision by reports),
359 measurements with the principal components of the median beat, and the embedding of an ECG-Beat teacher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.ecg_beat.configuration_ecg_beat import EcgBeatConfig
from ecg_hf.models.ecg_beat.modeling_ecg_beat import (
    EcgBeatEncoder,
    EcgBeatModel,
    WithTermHead,
    init_convolutional,
    init_encoder,
    mix_neighbours,
)
from ecg_hf.models.ecg_distil.configuration_ecg_distil import EcgDistilConfig
from ecg_hf.models.modeling import (
    EcgForClassification,
    EcgForPreTraining,
    EcgPreTrainedModel,
    WithoutAttention,
)
from ecg_hf.models.outputs import EcgAlignmentOutput, EcgPreTrainingOutput
from ecg_hf.nn.backbones.resnet1d import ResidualBlock1d, ResNet1d
from ecg_hf.nn.heads import pooled_statistics
from ecg_hf.nn.losses.targets import regression_target_loss, term_entropy, term_loss
from ecg_hf.nn.masks.missing import zero_missing
from ecg_hf.nn.median_beat import representative_beats
from ecg_hf.nn.precision import full_precision, match_weights
from ecg_hf.nn.targets import PrincipalComponents, Standardizer, TargetHead
from ecg_hf.nn.terms import TermHead
from ecg_hf.signal.beats.measures import NUM_MEASURES

__all__ = [
    "EcgDistilForEcgClassification",
    "EcgDistilForPreTraining",
    "EcgDistilModel",
    "EcgDistilPreTrainedModel",
]

_TARGET_LIMIT = 4.0
_FITTING_RECORDS = 4000
"""Records whose term logits give the mean and spread that zero-shot scores are relative to."""


class EcgDistilPreTrainedModel(WithoutAttention, EcgPreTrainedModel):
    """Initialisation shared by the ECG-Distil models."""

    config: EcgDistilConfig
    config_class = EcgDistilConfig
    base_model_prefix = "ecg_distil"
    _no_split_modules = ["EcgResidualBlock1d"]
    _can_record_outputs = {"hidden_states": ResidualBlock1d}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        init_convolutional(module)
        init_encoder(module)
        if isinstance(module, PrincipalComponents):
            module.reset_buffers()
        elif isinstance(module, EcgDistilForPreTraining):
            module.progress.fill_(1.0)


class EcgDistilModel(WithTermHead, EcgDistilPreTrainedModel):
    """The encoder with its term head: ECGs and free text meet in the space of terms.

    Args:
        config: The configuration.
        add_term_head: Leave out the term head where only the encoder is wanted.
    """

    _keys_to_ignore_on_load_unexpected = [
        r"^teacher\.",
        r"^(measure|teacher)_head\.",
        r"^target_",
        r"^progress$",
    ]

    _optional_parts = ("term_head",)

    def __init__(self, config: EcgDistilConfig, add_term_head: bool = True) -> None:
        super().__init__(config)
        # Not at the top: the module loads the Auto classes, and they load this one.
        from ecg_hf.models.layers import EcgResidualBlock1d

        self.encoder = ResNet1d(
            config.num_leads,
            stem_channels=config.stem_channels,
            stem_kernel_size=config.stem_kernel_size,
            stem_stride=2,
            channels=config.channels,
            depths=config.depths,
            kernel_size=config.kernel_size,
            make_block=EcgResidualBlock1d,
        )
        wanted = add_term_head and config.needs_reports
        self.term_head = TermHead(config.hidden_size, config.num_terms) if wanted else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The first convolution."""
        return self.encoder.stem

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The residual blocks."""
        return self.encoder.blocks

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Which steps hold signal: bool ``(batch, steps)``, or None if all do; leads take no step away."""
        return None if sample_mask is None else self.encoder.output_mask(sample_mask.bool())

    def tokens(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Tokens ``(batch, steps, token_size)`` and embedding ``(batch, hidden_size)``."""
        self.check_input_values(input_values)
        signal = input_values * float(self.config.input_scale)
        signal = zero_missing(signal, lead_mask, sample_mask)
        tokens = self.encoder(match_weights(signal, self.encoder)).transpose(1, 2)
        return tokens, pooled_statistics(tokens, self.token_mask(input_values, lead_mask, sample_mask))

    def get_ecg_features(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Standardised term logits of length 1, float32 ``(batch, num_terms)``."""
        return self.required_term_head().ecg_features(self.tokens(input_values, lead_mask, sample_mask)[1])

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> EcgAlignmentOutput:
        """Encode records and, if given, texts.

        Args:
            input_values: float32 ``(batch, leads, samples)`` in millivolts.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            input_ids: int64 ``(texts, length)``.
            attention_mask: ``(texts, length)``.
            kwargs: ``output_hidden_states``, ``return_dict``; ``r_peaks`` and ``measures`` are not needed.
        """
        tokens, pooled = self.tokens(input_values, lead_mask, sample_mask)
        output = EcgAlignmentOutput(last_hidden_state=tokens, pooler_output=pooled)
        return output if input_ids is None else self.aligned(output, pooled, input_ids, attention_mask)


class EcgDistilForPreTraining(EcgDistilPreTrainedModel, EcgForPreTraining):
    """The encoder with the heads of its targets, and the teacher."""

    progress: Tensor
    # Not the teacher's.
    _can_record_outputs = {"hidden_states": OutputRecorder(ResidualBlock1d, layer_name="ecg_distil.encoder")}

    def __init__(self, config: EcgDistilConfig) -> None:
        super().__init__(config)
        self.ecg_distil = EcgDistilModel(config)
        width = config.hidden_size
        self.teacher: EcgBeatEncoder | None = None
        if config.teacher_weight:
            teacher = config.teacher_config
            if not isinstance(teacher, EcgBeatConfig):
                raise ConfigurationError(
                    "ECG-Distil learns from an ECG-Beat teacher: name one (--teacher), or set teacher_weight to 0"
                )
            self.teacher = EcgBeatEncoder(teacher)
            self.target_embedding = Standardizer(teacher.embedding_size, _TARGET_LIMIT)
            self.teacher_head = TargetHead(width, teacher.embedding_size)
        if config.measure_weight:
            self.target_measures = Standardizer(NUM_MEASURES, _TARGET_LIMIT)
            self.target_beats = PrincipalComponents(
                config.num_leads * sum(config.beat_config.beat_samples), config.beat_components
            )
            self.measure_head = TargetHead(width, NUM_MEASURES + config.beat_components)
        # How far training has come: crops follow it, and a resumed run must know. Whole records before and after. The
        # number beside it is the buffer's, because lengths can't wait for a device.
        self.register_buffer("progress", torch.ones(()))
        self._progress = 1.0
        self.register_load_state_dict_post_hook(_read_progress)
        self.post_init()
        self.freeze_fixed_parameters()

    def freeze_fixed_parameters(self) -> None:
        """Freeze the teacher."""
        if self.teacher is not None:
            self.teacher.requires_grad_(False)

    def load_teacher(self, source: str | Path) -> None:
        """Take over the weights of a trained ECG-Beat, as the configuration describes it.

        Raises:
            ConfigurationError: if this model has no teacher, or another one.
        """
        if self.teacher is None:
            raise ConfigurationError("this configuration learns from no teacher", path=source)
        trained = EcgBeatModel.from_pretrained(source, add_term_head=False)
        try:
            self.teacher.load_state_dict(trained.encoder.state_dict())
        except RuntimeError as error:
            raise ConfigurationError(f"not the teacher of the configuration: {error}", path=source) from None
        self.freeze_fixed_parameters()

    def train(self, mode: bool = True) -> EcgDistilForPreTraining:
        """Like ``nn.Module.train``, but the teacher keeps its running statistics."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    @torch.no_grad()
    def before_training(self, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Learn what targets are relative to from the training records."""
        self._set_progress(0.0)
        measures, beats, embeddings = [], [], []
        for batch in batches:
            if self.config.measure_weight:
                measures.append(batch["measures"])
            median, embedding = self._reduce(batch)
            beats.append(median)
            embeddings.append(embedding)
        if self.config.measure_weight:
            self.target_measures.fit(torch.cat(measures))
            self.target_beats.fit(torch.cat(beats).flatten(1))
        if self.teacher is not None:
            self.target_embedding.fit(torch.cat(embeddings))

    @torch.no_grad()
    def after_training(self, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Learn mean and spread of the term logits, which zero-shot scores are relative to."""
        head = self.ecg_distil.term_head
        if head is None:
            return
        self.eval()
        logits: list[Tensor] = []
        for batch in batches:
            names = ("input_values", "lead_mask", "sample_mask")
            pooled = self.ecg_distil.tokens(**{name: batch[name] for name in names if name in batch})[1]
            logits.append(full_precision(head(pooled)))
            if sum(map(len, logits)) >= _FITTING_RECORDS:
                break
        head.standard.fit(torch.cat(logits))

    def after_optimizer_step(self, step: int, total_steps: int) -> None:
        """Note how far training has come."""
        self._set_progress((step + 1) / max(total_steps, 1))

    def _set_progress(self, share: float) -> None:
        self.progress.fill_(share)
        self._progress = share

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator | None, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Noise of crop, mixing, amplitude and signal; sizes depend on the signals alone."""
        values = batch["input_values"]
        rows = len(values) if rows is None else rows
        leads, samples = values.shape[1:]

        def uniform(*shape: int) -> Tensor:
            return torch.rand(rows, *shape, generator=generator, device=values.device)

        def normal(*shape: int) -> Tensor:
            return torch.randn(rows, *shape, generator=generator, device=values.device)

        return {
            "choice_noise": uniform(4 + leads),
            "gain_noise": normal(1 + leads),
            "signal_noise": normal(leads, samples),
        }

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
        choice_noise: Tensor | None = None,
        gain_noise: Tensor | None = None,
        signal_noise: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> EcgPreTrainingOutput:
        """One crop of each record, and every target.

        Args:
            input_values: float32 ``(batch, leads, samples)`` in millivolts.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            r_peaks: int64 ``(batch, peaks)``, -1 where there is none; estimated if not given.
            measures: float ``(batch, 359)``, NaN where undefined; needed for the teacher and for measurements.
            input_ids: int64 ``(batch, length)``, the reports; needed for terms.
            attention_mask: ``(batch, length)``.
            choice_noise: float ``(batch, 4 + leads)`` uniform; this and the rest are drawn here if not given.
            gain_noise: float ``(batch, 1 + leads)`` normal.
            signal_noise: float ``(batch, leads, samples)`` normal.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states``, ``return_dict``.

        Raises:
            ConfigurationError: if a target is missing.
        """
        config = self.config
        self.ecg_distil.check_input_values(input_values)
        noise = self.draw_noise({"input_values": input_values}, None)
        given = (choice_noise, gain_noise, signal_noise)
        noise |= {name: one for name, one in zip(noise, given, strict=True) if one is not None}
        batch = {
            "input_values": input_values,
            "lead_mask": lead_mask,
            "sample_mask": sample_mask,
            "r_peaks": r_peaks,
            "measures": measures,
        }
        targets = self._targets({name: value for name, value in batch.items() if value is not None})
        if config.needs_reports:
            if input_ids is None:
                raise ConfigurationError("the terms of reports are a target: input_ids are missing")
            assert self.ecg_distil.term_head is not None
            targets["term"] = self.ecg_distil.term_head.bag(input_ids, attention_mask)
        values, mask, leads = self._augmented(input_values, lead_mask, sample_mask, noise)
        if config.mixup:
            share = float(config.mixup) * noise["choice_noise"][:, 3]
            values, *mixed = mix_neighbours(share, values, *targets.values())
            targets = dict(zip(targets, mixed, strict=True))
        pooled = self.ecg_distil.tokens(values, leads, mask)[1]
        losses: dict[str, Tensor] = {}
        if "term" in targets:
            head = self.ecg_distil.term_head
            assert head is not None
            losses["term"] = term_loss(head(pooled), targets["term"], term_entropy(head.prior))
        if "measure" in targets:
            losses["measure"] = regression_target_loss(self.measure_head(pooled), targets["measure"])
        if "teacher" in targets:
            losses["teacher"] = regression_target_loss(self.teacher_head(pooled), targets["teacher"])
        return EcgPreTrainingOutput(
            loss=self.weighted_sum(losses),
            loss_terms={name: value.detach() for name, value in losses.items()},
            metrics={"embedding_spread": pooled.detach().std(0, correction=0).mean()},
            ecg_embeds=pooled,
        )

    def _augmented(
        self,
        values: Tensor,
        lead_mask: Tensor | None,
        sample_mask: Tensor | None,
        noise: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """A crop with jittered amplitude and noise, its mask, and the leads that are left."""
        config = self.config
        choice, gain = noise["choice_noise"], noise["gain_noise"]
        scale = (1.0 + config.gain_jitter * gain[:, :1]) * (1.0 + config.lead_gain_jitter * gain[:, 1:])
        level = 2.0 * config.signal_noise / float(config.input_scale) * choice[:, 1]
        values = values * scale[..., None] + level[:, None, None] * noise["signal_noise"]
        samples = values.shape[-1]
        length = min(samples, self._crop_samples())
        start = (choice[:, 0] * (samples - length + 1)).long().clamp(max=samples - length)
        places = start[:, None] + torch.arange(length, device=values.device)
        values = values.gather(2, places[:, None].expand(-1, values.shape[1], -1))
        mask = None if sample_mask is None else sample_mask.gather(1, places)
        if not config.lead_drop:
            return values, mask, lead_mask
        # A record that loses leads keeps so many of them, in the order of the noise.
        leads = values.shape[1]
        keep = 1 + (choice[:, 2] / max(float(config.lead_drop), 1e-9) * (leads - 1)).long()
        keep = torch.where(choice[:, 2] < config.lead_drop, keep, leads)
        rank = choice[:, 4:].argsort(1).argsort(1)
        kept = (rank < keep[:, None]).to(torch.long)
        return values, mask, kept if lead_mask is None else kept * lead_mask

    def _crop_samples(self) -> int:
        """Samples of a crop at this point of the training, a multiple of the encoder's stride."""
        now, schedule = self._progress, self.config.crop_schedule
        seconds = next(float(seconds) for share, seconds in schedule if now < float(share) or share >= 1)
        stride = self.ecg_distil.encoder.stride
        return max(stride, round(seconds * float(self.config.sampling_rate)) // stride * stride)

    @torch.no_grad()
    def _targets(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the measurements and the teacher say about the whole records, standardised."""
        if not (self.config.measure_weight or self.config.teacher_weight):
            return {}
        if "measures" not in batch:
            raise ConfigurationError(
                "measurements are a target: let the feature extractor return them (return_measures: true)"
            )
        targets = {}
        beats, embedding = self._reduce(batch)
        if self.config.measure_weight:
            components = self.target_beats(beats.flatten(1))
            targets["measure"] = torch.cat([self.target_measures(batch["measures"]), components], dim=1)
        if self.teacher is not None:
            targets["teacher"] = self.target_embedding(embedding)
        return targets

    def _reduce(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Median beats in millivolts and the teacher's embeddings."""
        names = ("input_values", "lead_mask", "sample_mask", "r_peaks", "measures")
        given = {name: batch[name] for name in names if name in batch}
        if self.teacher is None:
            signal = full_precision(batch["input_values"])
            if "lead_mask" in batch:
                signal = signal.masked_fill(batch["lead_mask"].unsqueeze(-1) == 0, 0.0)
            beat = self.config.beat_config
            beats = representative_beats(
                signal,
                float(self.config.sampling_rate),
                before_s=float(beat.before_s),
                after_s=float(beat.after_s),
                level_s=(float(beat.level_s[0]), float(beat.level_s[1])),
                r_peaks=batch.get("r_peaks"),
                sample_mask=batch.get("sample_mask"),
            )
            return beats, beats.new_zeros(len(beats), 0)
        beats, measures = self.teacher.reduce(**given)
        return beats / float(self.teacher.config.beat_scale), self.teacher(beats, measures)


def _read_progress(model: EcgDistilForPreTraining, keys: Any) -> None:
    if model.progress.device.type != "meta":
        model._progress = float(model.progress)


class EcgDistilForEcgClassification(EcgDistilPreTrainedModel, EcgForClassification):
    """The encoder with a linear head."""

    _keys_to_ignore_on_load_unexpected = [
        r"^teacher\.", r"^(measure|teacher)_head\.", r"^target_", r"^progress$", r"term_head\.",
    ]  # fmt: skip

    model_class = EcgDistilModel

    def build_encoder(self) -> EcgPreTrainedModel:
        """The encoder without its term head."""
        return EcgDistilModel(self.config, add_term_head=False)

    def build_head(self) -> None:
        """The classifier; an attention query pools tokens, whose width is a third of the record's embedding."""
        self.build_classifier(self.config.hidden_size, 4, token_size=self.config.token_size)
