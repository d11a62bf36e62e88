"""MELP: the published ECG encoder with its poolers, and a classifier to be trained on it.

Paper: Wang, Xu and Yu, "From Token to Rhythm: A Multi-Scale Approach for ECG-Language Pretraining", ICML 2025, arXiv
2506.21803. Official code: ``ECGFMModel`` of HKU-MedAI/MELP (MIT).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.ecg_fm.modeling_ecg_fm import init_wav2vec
from ecg_hf.models.melp.configuration_melp import MelpConfig
from ecg_hf.models.modeling import EcgEncoder, EcgForClassification, EcgPreTrainedModel, attention_kernel
from ecg_hf.nn.backbones.wav2vec import StridedStem, Wav2VecTower
from ecg_hf.nn.heads import AttentionalPooler, masked_mean
from ecg_hf.nn.masks.missing import zero_missing
from ecg_hf.nn.precision import full_precision, match_weights

__all__ = ["MelpForEcgClassification", "MelpModel", "MelpPreTrainedModel"]


class MelpPreTrainedModel(EcgPreTrainedModel):
    """Names and initialisation shared by the MELP models."""

    config: MelpConfig
    config_class = MelpConfig
    base_model_prefix = "melp"
    _no_split_modules = ["EcgTransformerBlock"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        init_wav2vec(module)
        if isinstance(module, AttentionalPooler):
            init.normal_(module.query, std=1.0)
        elif isinstance(module, MelpModel) and module.projection is not None:
            init.normal_(module.projection.weight, std=float(self.config.hidden_size) ** -0.5)


class MelpModel(MelpPreTrainedModel, EcgEncoder):
    """ECG-FM's transformer in one pass over 10 s, and the poolers that make embeddings of its tokens.

    A token is 16 samples of all leads. Queries gather beats of them; the record's embedding is the mean of the beats'
    projections with length 1, which the authors compare with embeddings of texts. Without the projection, as in a
    folder of a fine-tuned classifier, it is the mean of the beats, which is what the authors train classifiers on.

    Args:
        config: The configuration.
        add_projection: False leaves out the projection, and the pooler that a report's words were written from.
        add_beats: False leaves out the pooler of beats as well; the embedding is then the mean of the tokens.
    """

    _optional_parts = ("projection", "token_pool", "token_norm")

    def __init__(self, config: MelpConfig, add_projection: bool = True, add_beats: bool = True) -> None:
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
        hidden, heads, width = config.hidden_size, config.pooler_heads, config.projection_dim
        self.beat_pool: AttentionalPooler | None = None
        self.projection: nn.Linear | None = None
        self.token_pool: AttentionalPooler | None = None
        if add_beats:
            self.beat_pool = AttentionalPooler(config.num_beat_queries, width, hidden, heads)
            self.beat_norm = nn.LayerNorm(width)
            if add_projection:
                self.projection = nn.Linear(width, width, bias=False)
        if add_projection and config.num_token_queries:
            self.token_pool = AttentionalPooler(config.num_token_queries, config.token_dim, hidden, heads)
            self.token_norm = nn.LayerNorm(config.token_dim)
        self.post_init()

    def _leave_out_absent_parts(self, info: dict[str, Any]) -> None:
        # A classifier's folder has none of them; one of this class without them is damaged.
        if type(self).__name__ not in (getattr(self.config, "architectures", None) or ()):
            super()._leave_out_absent_parts(info)

    def get_input_embeddings(self) -> nn.Module:
        """The convolutions that make tokens."""
        return self.encoder.stem

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The layers of the transformer."""
        return self.encoder.layers.blocks

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Tokens that hold signal, bool ``(batch, tokens)``, or None if all do. A token spans all leads."""
        return None if sample_mask is None else self.encoder.stem.tokens_mask(sample_mask.bool())

    def encode(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Tokens and the record's embedding, see :meth:`EcgEncoder.encode`."""
        tokens, mask = self.encode_tokens(input_values, lead_mask, sample_mask, need_weights=need_weights)
        return tokens, self.pool(tokens, mask)

    def encode_tokens(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens ``(batch, tokens, hidden_size)`` and which of them hold signal.

        Raises:
            ConfigurationError: if the shape does not fit, or the signal is too short for a token.
        """
        self.check_input_values(input_values)
        if input_values.shape[-1] < self.config.reach:
            raise ConfigurationError(
                f"input_values have {input_values.shape[-1]} samples, a token takes {self.config.reach}",
                value=tuple(input_values.shape),
            )
        input_values = zero_missing(input_values, lead_mask, sample_mask)
        mask = self.token_mask(input_values, lead_mask, sample_mask)
        tokens = self.encoder(self.encoder.embed(input_values), mask, need_weights=need_weights)
        return tokens, mask

    def beats(self, tokens: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """What the queries gather of the tokens: float32 ``(batch, num_beat_queries, projection_dim)``.

        Raises:
            ConfigurationError: if the model was made without the pooler.
        """
        if self.beat_pool is None:
            raise ConfigurationError("these weights have no pooler of beats")
        return full_precision(self.beat_norm(self.beat_pool(tokens, token_mask)))

    def project(self, beats: Tensor) -> Tensor:
        """Embeddings of beats, or of their mean, not normalised: float32, of the shape of ``beats``.

        Raises:
            ConfigurationError: if there is no projection.
        """
        if self.projection is None:
            raise ConfigurationError("these weights have no projection: they are of a classifier")
        return full_precision(self.projection(match_weights(beats, self.projection)))

    def pool(self, tokens: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """The record's embedding, float32 ``(batch, projection_dim)``; see the class."""
        if self.beat_pool is None:
            return masked_mean(full_precision(tokens), token_mask)
        beats = self.beats(tokens, token_mask)
        if self.projection is None:
            return beats.mean(1)
        return F.normalize(self.project(beats).mean(1), dim=-1)

    def get_beat_features(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor:
        """Embeddings of beats, float32 ``(batch, num_beat_queries, projection_dim)``, not normalised.

        Args:
            input_values: As for :meth:`forward`, as are the masks.
            lead_mask: ``(batch, leads)``.
            sample_mask: ``(batch, samples)``.

        Raises:
            ConfigurationError: if the shape does not fit, or there is no projection.
        """
        return self.project(self.beats(*self.encode_tokens(input_values, lead_mask, sample_mask)))

    def get_token_features(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor:
        """What the authors' decoder writes reports from, float32 ``(batch, num_token_queries, token_dim)``.

        Args:
            input_values: As for :meth:`forward`, as are the masks.
            lead_mask: ``(batch, leads)``.
            sample_mask: ``(batch, samples)``.

        Raises:
            ConfigurationError: if the shape does not fit, or the weights have no such pooler.
        """
        return self.caption_tokens(*self.encode_tokens(input_values, lead_mask, sample_mask))

    def caption_tokens(self, tokens: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """:meth:`get_token_features` of the encoder's tokens."""
        if self.token_pool is None:
            raise ConfigurationError("these weights have no pooler that reports are written from")
        return full_precision(self.token_norm(self.token_pool(tokens, token_mask)))


class MelpForEcgClassification(MelpPreTrainedModel, EcgForClassification):
    """The encoder with a linear head on the mean of the beats, as the authors have it, or on attention-pooled tokens.

    The published file has no head: it is to be trained.
    """

    model_class = MelpModel
    _keys_to_ignore_on_load_unexpected = [r"(^|\.)(projection|token_pool|token_norm|beat_pool|beat_norm)\."]

    def build_encoder(self) -> MelpModel:
        """The encoder without what the head does not see."""
        pooled = self.config.classifier_pooling == "mean"
        return MelpModel(self.config, add_projection=False, add_beats=pooled)

    def build_head(self) -> None:
        """Linear layer on what is pooled."""
        self.build_classifier(
            self.config.pooled_size, self.config.num_attention_heads, token_size=self.config.hidden_size
        )
