"""The ECG-and-text family: a backbone, a text tower, a head for each, and the contrast of records and reports."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, PreTrainedConfig
from transformers import initialization as init
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.ecg_text.configuration import EcgTextConfig
from ecg_hf.models.ecg_text.heads import AttentionPoolHead, EcgHead, build_ecg_head
from ecg_hf.models.joint_embedding.modeling import (
    JointEmbeddingForEcgClassification,
    JointEmbeddingModel,
    JointEmbeddingPreTrainedModel,
)
from ecg_hf.models.modeling import EcgForPreTraining, init_as_torch
from ecg_hf.models.outputs import EcgAlignmentOutput, EcgPreTrainingOutput
from ecg_hf.models.text_tower import (
    build_text_tower,
    check_tokens,
    freeze_text_layers,
    load_text_tower,
    pool_text,
)
from ecg_hf.nn.collapse import effective_rank, embedding_spread, mean_cosine, pair_accuracy
from ecg_hf.nn.heads import MlpProjector
from ecg_hf.nn.losses import info_nce_loss
from ecg_hf.nn.precision import full_precision, match_weights, similarity

__all__ = [
    "EcgTextForEcgClassification",
    "EcgTextForPreTraining",
    "EcgTextModel",
    "EcgTextPreTrainedModel",
]


class EcgTextPreTrainedModel(JointEmbeddingPreTrainedModel):
    """What the models share: names, initialisation, and what follows from the backbone."""

    config: EcgTextConfig
    config_class = EcgTextConfig
    base_model_prefix = "ecg_text"
    _keys_to_ignore_on_load_unexpected = [r"^views\."]

    def __init__(self, config: EcgTextConfig) -> None:
        super().__init__(config)
        self._no_split_modules = [*(self._no_split_modules or []), "BertLayer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, EcgHead | MlpProjector | TwoViews):
            for layer in module.modules():
                init_as_torch(layer)
        if isinstance(module, EcgTextModel) and isinstance(module.text_projection, nn.Linear):
            init_as_torch(module.text_projection)
        if isinstance(module, AttentionPoolHead):
            init.normal_(module.class_token, std=1.0)
            init.normal_(module.positions, std=1.0 / module.positions.shape[-1])


class EcgTextModel(EcgTextPreTrainedModel, JointEmbeddingModel):
    """Backbone, text tower, and the heads that make their embeddings comparable.

    With ``input_values`` alone it is an ECG encoder; with ``input_ids`` too it aligns records and texts.

    Args:
        config: The configuration.
        add_heads: False leaves out all but the backbone, if only the encoder is needed.
    """

    def __init__(self, config: EcgTextConfig, add_heads: bool = True) -> None:
        super().__init__(config)
        self.signal_projection: EcgHead | None = None
        self.text_projection: nn.Module | None = None
        self.text_encoder: Any = None
        if add_heads and config.text_side != "none":
            self.signal_projection = build_ecg_head(config, self.encoder)
            width, out = config.text_width, config.projection_dim
            self.text_projection = (
                nn.Linear(width, out)
                if config.text_head == "linear"
                else MlpProjector(width, config.projection_hidden_size, out)
            )
            if config.text_side == "tower":
                assert isinstance(config.text_config, PreTrainedConfig)
                self.text_encoder = build_text_tower(config.text_config, config.text_pooling)
        self.post_init()
        self.freeze_fixed_parameters()

    def freeze_fixed_parameters(self) -> None:
        """Freeze lower layers of the text tower."""
        if self.text_encoder is not None:
            freeze_text_layers(self.text_encoder, self.config.freeze_text_layers)

    def project_ecg(
        self, tokens: Tensor, pooled: Tensor, token_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The record's embedding before it is normalised, and what views are made of; see :class:`EcgHead`.

        Raises:
            ConfigurationError: if the model is an encoder alone.
        """
        if self.signal_projection is None:
            raise ConfigurationError(
                "these weights are of the ECG encoder alone: it has no head for zero-shot answers",
                value=self.config.text_side,
            )
        projected: tuple[Tensor, Tensor] = self.signal_projection(tokens, pooled, token_mask)
        return projected

    def pool_texts(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Features of texts as the tower pools them, ``(batch, text_width)``.

        Raises:
            ConfigurationError: if the model has no text tower, or the tokens are those of another tokenizer.
        """
        if self.text_encoder is None:
            raise ConfigurationError(
                "this model has no text tower: the file it was made from had none",
                value=self.config.text_side,
            )
        check_tokens(self.text_encoder, input_ids)
        outputs = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        return pool_text(outputs, self.config.text_pooling)

    def project_texts(self, text_pooled: Tensor) -> Tensor:
        """Pooled features of texts to float32 ``(batch, projection_dim)``, not normalised.

        Raises:
            ConfigurationError: if the model is an encoder alone.
        """
        if self.text_projection is None:
            raise ConfigurationError("these weights are of the ECG encoder alone: it has no text side")
        return full_precision(self.text_projection(match_weights(text_pooled, self.text_projection)))

    def get_ecg_features(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor:
        """L2-normalised embeddings of records, ``(batch, projection_dim)``."""
        tokens, pooled = self.encode(input_values, lead_mask, sample_mask)
        mask = self.token_mask(input_values, lead_mask, sample_mask)
        return F.normalize(self.project_ecg(tokens, pooled, mask)[0], dim=-1)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """L2-normalised embeddings of texts, ``(batch, projection_dim)``."""
        return F.normalize(self.project_texts(self.pool_texts(input_ids, attention_mask)), dim=-1)

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
            input_values: float32 ``(batch, leads, samples)`` as the feature extractor makes them.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            input_ids: int64 ``(texts, length)``.
            attention_mask: ``(texts, length)``.
            kwargs: ``output_hidden_states``, ``output_attentions``, ``return_dict``.
        """
        need_weights = self.wants_attentions(kwargs)
        tokens, pooled = self.encode(input_values, lead_mask, sample_mask, need_weights=need_weights)
        ecg_embeds = text_embeds = logits = None
        if input_ids is not None:
            mask = self.token_mask(input_values, lead_mask, sample_mask)
            ecg_embeds = F.normalize(self.project_ecg(tokens, pooled, mask)[0], dim=-1)
            text_embeds = self.get_text_features(input_ids, attention_mask)
            logits = similarity(ecg_embeds, text_embeds) / float(self.config.temperature)
        return EcgAlignmentOutput(
            last_hidden_state=tokens,
            pooler_output=pooled,
            ecg_embeds=ecg_embeds,
            text_embeds=text_embeds,
            logits_per_ecg=logits,
        )


class TwoViews(nn.Module):
    """Two linear maps without bias, each with its own dropout: the views of a record that MERL contrasts.

    Args:
        in_size: Width of what they map.
        out_size: Width of a view.
        dropout: Share of columns to drop.
    """

    def __init__(self, in_size: int, out_size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.maps = nn.ModuleList(nn.Linear(in_size, out_size, bias=False) for _ in range(2))

    def forward(self, features: Tensor, noise: Tensor) -> list[Tensor]:
        """``(batch, in_size)`` and uniform ``(batch, 2, out_size)`` to two views ``(batch, out_size)`` in float32."""
        kept = (noise >= self.dropout).to(torch.float32) / (1.0 - self.dropout)
        features = match_weights(features, self)
        return [full_precision(map(features)) * kept[:, index] for index, map in enumerate(self.maps)]


class EcgTextForPreTraining(EcgTextPreTrainedModel, EcgForPreTraining):
    """Backbone and text tower, trained by the contrast of records with their reports.

    A method names its encoder in ``model_class``.
    """

    model_class: ClassVar[type[EcgTextModel]] = EcgTextModel

    def __init__(self, config: EcgTextConfig) -> None:
        super().__init__(config)
        config.require(
            config.text_side != "none", "weights of the ECG encoder alone have nothing to align", "none"
        )
        self.ecg_text = self.model_class(config)
        self.add_parts()
        self.post_init()
        self.freeze_fixed_parameters()

    def add_parts(self) -> None:
        """Create what a method has in pretraining alone; nothing by default."""

    def freeze_fixed_parameters(self) -> None:
        """Freeze lower layers of the text tower."""
        self.ecg_text.freeze_fixed_parameters()

    @classmethod
    def from_text_model(cls, text_model: str, config: EcgTextConfig, **kwargs: Any) -> Self:
        """A fresh model whose text tower is a pretrained one, such as ``ncbi/MedCPT-Query-Encoder``.

        Args:
            text_model: Folder or Hub name of a BERT-like model in safetensors format.
            config: Everything else; its ``text_config`` is replaced.
            kwargs: Passed to ``AutoModel.from_pretrained``.
        """
        config.text_config = AutoConfig.from_pretrained(text_model)
        model = cls(config)
        load_text_tower(model.ecg_text.text_encoder, text_model, **kwargs)
        model.freeze_fixed_parameters()
        return model

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        text_pooled: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> EcgPreTrainingOutput:
        """Embed records and reports, compare all of the pool.

        Args:
            input_values: float32 ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            input_ids: int64 ``(batch, length)``, the reports.
            attention_mask: ``(batch, length)``.
            text_pooled: float ``(batch, text_width)`` instead of ``input_ids``: reports as
                :meth:`EcgTextModel.pool_texts` gives them, which do not change as long as the tower is frozen.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states`` and ``output_attentions`` (of the ECG encoder), ``return_dict``.

        Raises:
            ConfigurationError: if the reports are missing.
        """
        return self.align(
            input_values, lead_mask, sample_mask, input_ids, attention_mask, text_pooled, None, kwargs
        )

    def align(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None,
        sample_mask: Tensor | None,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        text_pooled: Tensor | None,
        view_noise: Tensor | None,
        options: dict[str, Any],
    ) -> EcgPreTrainingOutput:
        """What :meth:`forward` does, for methods whose ``forward`` takes noise as well."""
        model = self.ecg_text
        need_weights = self.wants_attentions(options)
        tokens, pooled = model.encode(input_values, lead_mask, sample_mask, need_weights=need_weights)
        mask = model.token_mask(input_values, lead_mask, sample_mask)
        ecg, features = model.project_ecg(tokens, pooled, mask)
        if text_pooled is None:
            if input_ids is None:
                raise ConfigurationError("pretraining needs reports: input_ids are missing")
            text_pooled = model.pool_texts(input_ids, attention_mask)
        local = {"ecg": ecg, "text": model.project_texts(text_pooled)}
        if view_noise is not None:
            local |= self.make_views(features, view_noise)
        pool = self.pool_embeddings(local)
        terms = self.terms(pool)
        with torch.no_grad():
            metrics = {
                "embedding_spread": embedding_spread(pool["ecg"]),
                "mean_cosine": mean_cosine(pool["ecg"]),
                "effective_rank": effective_rank(pool["ecg"]),
                "retrieval_top1": pair_accuracy(pool["ecg"], pool["text"], top=1),
            }
        return EcgPreTrainingOutput(
            loss=self.weighted_sum(terms),
            loss_terms={name: term.detach() for name, term in terms.items()},
            metrics=metrics,
            ecg_embeds=F.normalize(ecg, dim=-1),
            text_embeds=F.normalize(local["text"], dim=-1),
        )

    def make_views(self, features: Tensor, view_noise: Tensor) -> dict[str, Tensor]:
        """Further embeddings for :meth:`terms`, by the names it knows."""
        raise NotImplementedError(f"{type(self).__name__} has no views")

    def terms(self, pool: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the loss.

        Args:
            pool: float32 ``(pool, dim)`` embeddings of all processes, not normalised: ``ecg``, ``text`` and what
                :meth:`make_views` adds.
        """
        temperature = float(self.config.temperature)
        return {"contrastive": info_nce_loss(pool["ecg"], pool["text"], temperature=temperature)}


class EcgTextForEcgClassification(EcgTextPreTrainedModel, JointEmbeddingForEcgClassification):
    """The backbone with a linear head."""

    model_class = EcgTextModel
    _keys_to_ignore_on_load_unexpected = [r"text_encoder\.", r"(signal|text)_projection\.", r"^views\."]

    def build_encoder(self) -> EcgTextModel:
        """The backbone without text tower and heads."""
        model: EcgTextModel = self.model_class(self.config, add_heads=False)  # type: ignore[call-arg, assignment]
        return model
