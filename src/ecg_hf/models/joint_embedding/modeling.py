"""The joint-embedding family: two views of a record, one backbone, heads, and a loss of the method's own.

Views are embedded by the backbone, pooled over all processes, projected (and predicted) there, and compared. Heads,
batch norms of heads and losses thus see the whole pool, so that a step does not depend on how its batch is spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ecg_hf.models.joint_embedding.backbones import (
    Backbone,
    LearnedTimePositions,
    TimePositions,
    build_backbone,
)
from ecg_hf.models.joint_embedding.configuration import BackboneConfig, JointEmbeddingConfig
from ecg_hf.models.modeling import EcgEncoder, EcgForClassification, EcgForPreTraining, EcgPreTrainedModel
from ecg_hf.models.outputs import EcgPreTrainingOutput
from ecg_hf.nn.attention import SelfAttention
from ecg_hf.nn.backbones.resnet1d import ConvPoolBlock, ResidualBlock1d
from ecg_hf.nn.backbones.transformer import TransformerBlock
from ecg_hf.nn.collapse import effective_rank, embedding_spread, mean_cosine
from ecg_hf.nn.ema import copy_weights, cosine_momentum, ema_update
from ecg_hf.nn.heads import MlpHead
from ecg_hf.nn.normalization import GlobalBatchNorm1d
from ecg_hf.nn.positions import sincos_positions
from ecg_hf.nn.precision import full_precision, match_weights
from ecg_hf.nn.views.augmentations import Signals, apply_views, count_draws

__all__ = [
    "JointEmbeddingForEcgClassification",
    "JointEmbeddingForPreTraining",
    "JointEmbeddingModel",
    "JointEmbeddingPreTrainedModel",
    "patient_numbers",
]

_HEADS_OF_POOL = 4
"""Of the attention query that may pool a convolutional network's tokens for a classifier."""


class JointEmbeddingPreTrainedModel(EcgPreTrainedModel):
    """What the models share: names, initialisation, and what follows from the backbone."""

    config: BackboneConfig
    config_class = JointEmbeddingConfig
    base_model_prefix = "joint_embedding"
    _keys_to_ignore_on_load_unexpected = [r"^(projector|predictor|teacher|temporal|discriminator)\."]

    def __init__(self, config: BackboneConfig) -> None:
        # Of the backbone that is there: the library asks for the names of layers that exist, and records attentions
        # of models that have any.
        self._no_split_modules = [config.backbone_fields.layer_class]
        layers = (ResidualBlock1d, TransformerBlock, ConvPoolBlock)
        recorded: dict[str, Any] = {
            "hidden_states": [OutputRecorder(layer, layer_name="encoder") for layer in layers]
        }
        if config.backbone_fields.num_attention_heads is not None:
            recorded["attentions"] = OutputRecorder(SelfAttention, index=1, layer_name="encoder")
        self._can_record_outputs = recorded
        super().__init__(config)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv1d):
            init.normal_(module.weight, std=(2.0 / module.weight[0].numel()) ** 0.5)
        elif isinstance(module, MlpHead):
            for layer in module:
                if isinstance(layer, nn.Linear):
                    init.normal_(layer.weight, std=layer.in_features**-0.5)
        elif isinstance(module, TimePositions):
            init.copy_(module.table, sincos_positions(*module.table.shape))
        elif isinstance(module, LearnedTimePositions):
            init.normal_(module.table, std=1.0)


class JointEmbeddingModel(JointEmbeddingPreTrainedModel, EcgEncoder):
    """The backbone. Weights of one method load into the model of another.

    A token is a stretch of time of all leads; the record's embedding is the mean of those that hold signal.
    ``merl_vit`` takes that mean before its last norm, which embedding and tokens pass apart from each other.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        self.encoder = build_backbone(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The layer that reads the signal."""
        return self.encoder.embedding

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The layers of the backbone."""
        return self.encoder.layers

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Which tokens hold signal: bool ``(batch, tokens)``, or None if all do; leads take no token away."""
        return None if sample_mask is None else self.encoder.output_mask(sample_mask.bool())

    def encode(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Tokens ``(batch, tokens, hidden_size)`` and their mean, see :meth:`EcgEncoder.encode`."""
        self.check_input_values(input_values)
        signal, mask = _present(input_values, lead_mask, sample_mask)
        return encode_with(self.encoder, signal, mask, need_weights=need_weights)


def _present(
    input_values: Tensor, lead_mask: Tensor | None, sample_mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The signal with zeros in missing leads and padding, and the mask of samples as bool."""
    mask = None if sample_mask is None else sample_mask.bool()
    if lead_mask is not None:
        input_values = input_values.masked_fill(lead_mask.unsqueeze(-1) == 0, 0.0)
    if mask is not None:
        input_values = input_values.masked_fill(~mask.unsqueeze(1), 0.0)
    return input_values, mask


def encode_with(
    backbone: Backbone, signal: Tensor, sample_mask: Tensor | None, *, need_weights: bool = False
) -> tuple[Tensor, Tensor]:
    """Tokens of a backbone, and the record's embedding in float32."""
    tokens = backbone(match_weights(signal, backbone), sample_mask, need_weights=need_weights)
    steps = None if sample_mask is None else backbone.output_mask(sample_mask)
    return backbone.pool(tokens, steps)


class JointEmbeddingForPreTraining(JointEmbeddingPreTrainedModel, EcgForPreTraining):
    """Backbone, projector and, where the configuration has them, predictor and teacher.

    A method names its encoder in ``model_class`` and writes :meth:`terms`.
    """

    config: JointEmbeddingConfig
    model_class: ClassVar[type[JointEmbeddingModel]] = JointEmbeddingModel

    def __init__(self, config: JointEmbeddingConfig) -> None:
        super().__init__(config)
        self.joint_embedding = self.model_class(config)
        self.projector = self._make_projector()
        self.predictor: nn.Module | None = None
        if config.predictor_sizes is not None:
            width = config.projector_sizes[-1]
            self.predictor = MlpHead(
                [width, *config.predictor_sizes, width], last_norm=config.predictor_last_norm
            )
        self.teacher: nn.ModuleDict | None = None
        if config.ema_start is not None:
            self.teacher = nn.ModuleDict(
                {"backbone": build_backbone(config), "projector": self._make_projector()}
            )
            for module in self.teacher.modules():
                if isinstance(module, GlobalBatchNorm1d):
                    module.of_teacher = True
        self.add_parts()
        self.post_init()
        if self.teacher is not None and self.device.type != "meta":
            for name, student in self._students.items():
                copy_weights(self.teacher[name], student)
        self.freeze_fixed_parameters()

    def add_parts(self) -> None:
        """Make further modules of the method. None by default."""

    def _make_projector(self) -> nn.Module:
        config = self.config
        return MlpHead([config.hidden_size, *config.projector_sizes], last_norm=config.projector_last_norm)

    @property
    def _students(self) -> dict[str, nn.Module]:
        """What each part of the teacher follows."""
        return {"backbone": self.joint_embedding.encoder, "projector": self.projector}

    def freeze_fixed_parameters(self) -> None:
        """Freeze the teacher."""
        if self.teacher is not None:
            self.teacher.requires_grad_(False)

    def after_optimizer_step(self, step: int, total_steps: int) -> None:
        """Move the teacher towards the student."""
        if self.teacher is not None:
            start, end = float(self.config.ema_start or 0.0), float(self.config.ema_end)
            for name, student in self._students.items():
                ema_update(self.teacher[name], student, cosine_momentum(step, total_steps, start, end))

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Uniform numbers of both views."""
        values, config = batch["input_values"], self.config
        draws = max(
            count_draws(entries, config.num_leads, config.num_samples) for entries in config.view_entries
        )
        shape = (len(values) if rows is None else rows, 2, draws)
        return {"view_noise": torch.rand(shape, generator=generator, device=values.device)}

    def make_views(
        self,
        input_values: Tensor,
        view_noise: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
    ) -> list[Signals]:
        """Both views of a batch; arguments as of :meth:`forward`."""
        config = self.config
        signal, mask = _present(full_precision(input_values), lead_mask, sample_mask)
        whole = Signals(signal, mask, config.lead_names or (), float(config.sampling_rate))
        views = [
            apply_views(whole, entries, view_noise[:, number], max_samples=config.num_samples)
            for number, entries in enumerate(config.view_entries)
        ]
        for number, view in enumerate(views):
            # What a view adds to a lead that is missing, or to padding, is no signal. Resampled signals lie sample by
            # sample in memory: rather one copy here than one in every convolution.
            values, mask = _present(view.values, lead_mask, view.mask)
            views[number] = view._replace(values=values.contiguous(), mask=mask)
        return views

    def represent(
        self, views: Sequence[Signals], view_noise: Tensor, need_weights: bool = False
    ) -> tuple[Sequence[Tensor], dict[str, Tensor]]:
        """What is compared: by default the backbone's embeddings of both views, and nothing else.

        Args:
            views: As :meth:`make_views` gives them.
            view_noise: float ``(batch, 2, draws)``, see :meth:`forward`.
            need_weights: Use an attention kernel that returns its weights.

        Returns:
            What the projector gets, of each view ``(batch, width)``; and further tensors for :meth:`terms`, with
            ``batch`` rows each, which are pooled like the former.
        """
        return self._embed(self.joint_embedding.encoder, views, need_weights), {}

    def terms(
        self,
        views: Sequence[Tensor],
        targets: Sequence[Tensor],
        patients: Tensor | None = None,
        **further: Tensor,
    ) -> dict[str, Tensor]:
        """The terms of the method's loss, which its configuration may weigh.

        Args:
            views: Projections of both views (predictions, if there is a predictor), float32 ``(pool, dim)``.
            targets: The teacher's projections of both views; without a teacher the student's. They have no gradient.
            patients: int64 ``(pool,)``, see :meth:`forward`.
            further: Those of :meth:`represent`, pooled.
        """
        raise NotImplementedError(f"{type(self).__name__} has no terms")

    def compare(
        self,
        embeds: Sequence[Tensor],
        teacher_embeds: Sequence[Tensor] | None = None,
        patients: Tensor | None = None,
        further: Mapping[str, Tensor] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Everything behind the backbone: heads, loss terms, and what tells a collapse.

        Args:
            embeds: What :meth:`represent` makes of each view, pooled: ``(pool, hidden_size)``.
            teacher_embeds: The teacher's, if there is one.
            patients: int64 ``(pool,)``, see :meth:`forward`.
            further: What else :meth:`represent` made, pooled.

        Returns:
            Loss terms, and metrics: ``embedding_spread`` (1 is healthy, 0 collapsed) and ``mean_cosine`` of the first
            view's projections, ``effective_rank`` of its embeddings, ``target_cosine`` (of the student's output for
            a view with the target it is compared with).
        """
        projections = [_full(self.projector, embed) for embed in embeds]
        outputs = projections
        if self.predictor is not None:
            outputs = [_full(self.predictor, projection) for projection in projections]
        with torch.no_grad():
            if self.teacher is None:
                targets = [projection.detach() for projection in projections]
            else:
                assert teacher_embeds is not None
                targets = [_full(self.teacher["projector"], embed) for embed in teacher_embeds]
            metrics = {
                "embedding_spread": embedding_spread(projections[0]),
                "mean_cosine": mean_cosine(projections[0]),
                "effective_rank": effective_rank(embeds[0]),
                "target_cosine": F.cosine_similarity(outputs[0], targets[1], dim=-1).mean(),
            }
        return self.terms(outputs, targets, patients, **(further or {})), metrics

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        patient_ids: Tensor | None = None,
        view_noise: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> EcgPreTrainingOutput:
        """Make two views, embed both, compare them.

        Args:
            input_values: float32 ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            patient_ids: int64 ``(batch,)``: records with the same number are of one patient; each negative number is
                a patient of its own. Of use to methods that contrast patients or records.
            view_noise: float ``(batch, 2, draws)`` uniform; drawn here if not given.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states``, ``output_attentions`` (of each view in turn, or with ``views_together``
                of both as one batch), ``return_dict``.
        """
        self.joint_embedding.check_input_values(input_values)
        view_noise = self.complete_noise(input_values, view_noise=view_noise)["view_noise"]
        assert view_noise is not None
        views = self.make_views(input_values, view_noise, lead_mask, sample_mask)
        need_weights = self.wants_attentions(kwargs)
        embeds, further = self.represent(views, view_noise, need_weights)
        local = {f"view_{number}": embed for number, embed in enumerate(embeds)} | further
        if self.teacher is not None:
            with torch.no_grad():
                seen = self._embed(self.teacher["backbone"], views)
            local |= {"teacher_first": seen[0], "teacher_second": seen[1]}
        if patient_ids is not None:
            local["patients"] = patient_ids[:, None]
        pool = self.pool_embeddings(local)
        patients = None if patient_ids is None else pool["patients"][:, 0]
        taught = None if self.teacher is None else [pool["teacher_first"], pool["teacher_second"]]
        pooled = [pool[f"view_{number}"] for number in range(len(embeds))]
        terms, metrics = self.compare(pooled, taught, patients, {name: pool[name] for name in further})
        return EcgPreTrainingOutput(
            loss=self.weighted_sum(terms),
            loss_terms={name: term.detach() for name, term in terms.items()},
            metrics=metrics,
            ecg_embeds=embeds[0],
        )

    def _embed(self, backbone: Any, views: Sequence[Signals], need_weights: bool = False) -> Sequence[Tensor]:
        """The backbone's embeddings of both views, each ``(batch, hidden_size)``."""
        return [embed for _, embed in self._encode(backbone, views, need_weights)]

    def _encode(
        self, backbone: Any, views: Sequence[Signals], need_weights: bool = False
    ) -> list[tuple[Tensor, Tensor]]:
        """The backbone's tokens and embeddings of each view."""
        if not self.config.views_together:
            return [encode_with(backbone, v.values, v.mask, need_weights=need_weights) for v in views]
        values = torch.cat([view.values for view in views])
        masks = [view.mask for view in views if view.mask is not None]
        both = encode_with(backbone, values, torch.cat(masks) if masks else None, need_weights=need_weights)
        return list(zip(both[0].chunk(2), both[1].chunk(2), strict=True))


def patient_numbers(patients: Tensor | None, rows: Tensor) -> Tensor:
    """A number for the patient of each of ``rows``: each unknown one, or negative number, is another patient."""
    index = torch.arange(len(rows), device=rows.device)
    return index if patients is None else torch.where(patients < 0, -1 - index, patients)


def _full(head: nn.Module, embeddings: Tensor) -> Tensor:
    """A head's output in float32, computed in the precision of its weights."""
    return full_precision(head(match_weights(embeddings, head)))


class JointEmbeddingForEcgClassification(JointEmbeddingPreTrainedModel, EcgForClassification):
    """The backbone with a linear head."""

    model_class = JointEmbeddingModel

    def build_head(self) -> None:
        """The classifier; an attention query has the heads of the backbone's layers."""
        heads = self.config.backbone_fields.num_attention_heads or _HEADS_OF_POOL
        self.build_classifier(self.config.hidden_size, heads)
