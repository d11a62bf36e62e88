"""D-BETA, first named C-MELT: an ECG tower and a language model, fused, trained by four objectives at once.

Paper: Pham et al., arXiv 2410.02131 (C-MELT in its first versions). Official code: github.com/manhph2211/D-BETA
(CC BY-NC 4.0; nothing of it is copied).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, PreTrainedConfig
from transformers import initialization as init
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.d_beta.configuration_d_beta import DBetaConfig
from ecg_hf.models.d_beta.fusion_d_beta import FusionTower, TokenDecoder
from ecg_hf.models.ecg_fm.modeling_ecg_fm import init_wav2vec
from ecg_hf.models.modeling import (
    EcgEncoder,
    EcgForClassification,
    EcgForPreTraining,
    EcgPreTrainedModel,
    attention_kernel,
)
from ecg_hf.models.outputs import EcgAlignmentOutput, EcgPreTrainingOutput
from ecg_hf.models.text_tower import build_text_tower, check_tokens, load_text_tower, mask_report
from ecg_hf.nn.backbones.wav2vec import StridedStem, Wav2VecTower
from ecg_hf.nn.collapse import pair_accuracy
from ecg_hf.nn.heads import MaskedTokenHead
from ecg_hf.nn.losses import masked_token_loss, reconstruction_loss, siglip_loss
from ecg_hf.nn.losses.reconstruction import normalize_patches
from ecg_hf.nn.masks.missing import zero_missing
from ecg_hf.nn.positions import interleaved_sincos_positions
from ecg_hf.nn.precision import full_precision, similarity
from ecg_hf.nn.tokenizers import gather_tokens, patchify

__all__ = ["DBetaForEcgClassification", "DBetaForPreTraining", "DBetaModel", "DBetaPreTrainedModel"]

_IGNORED = -100


class DBetaPreTrainedModel(EcgPreTrainedModel):
    """Names and initialisation shared by the D-BETA models."""

    config: DBetaConfig
    config_class = DBetaConfig
    base_model_prefix = "d_beta"
    _no_split_modules = ["EcgTransformerBlock"]
    _keys_to_ignore_on_load_unexpected = [r"^(fusion|fused_\w+|match_head|word_\w+|decoder)(\.|$)"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        init_wav2vec(module)
        std = float(self.config.initializer_range)
        if isinstance(module, DBetaModel):
            init.normal_(module.class_token, std=std)
        elif isinstance(module, FusionTower):
            init.normal_(module.modality, std=std)
        elif isinstance(module, TokenDecoder):
            init.normal_(module.mask_token, std=std)
            init.copy_(module.table, interleaved_sincos_positions(*module.table.shape))
        elif isinstance(module, DBetaForPreTraining):
            init.normal_(module.word_weights, std=std)


class DBetaModel(DBetaPreTrainedModel, EcgEncoder):
    """ECG encoder, text tower and their poolers.

    A token is a stretch of time of all leads; a class token, which has no position, goes first. The record's
    embedding is the tanh of a linear map of it. With ``input_ids`` too it aligns records and texts.

    Args:
        config: The configuration.
        add_text: False leaves out the text side.
        add_pooler: False leaves out projection and pooler of the ECG as well.
    """

    def __init__(self, config: DBetaConfig, add_text: bool = True, add_pooler: bool = True) -> None:
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
        self.class_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.projection: nn.Linear | None = None
        self.text_encoder: Any = None
        width = config.projection_dim
        if add_pooler and config.parts != "encoder":
            self.projection = nn.Linear(config.hidden_size, width)
            self.pooler = nn.Linear(width, width)
        if add_text and config.parts == "whole":
            assert isinstance(config.text_config, PreTrainedConfig)
            self.text_encoder = build_text_tower(config.text_config, "cls")
            self.text_projection = nn.Linear(config.text_config.hidden_size, width)
            self.text_pooler = nn.Linear(width, width)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The convolutions that make tokens."""
        return self.encoder.stem

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The layers of the ECG encoder."""
        return self.encoder.layers.blocks

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """Tokens that hold signal, the class token among them; leads take no token away."""
        if sample_mask is None:
            return None
        held = self.encoder.stem.tokens_mask(sample_mask.bool())
        return torch.cat([torch.ones_like(held[:, :1]), held], dim=1)

    def present(self, input_values: Tensor, lead_mask: Tensor | None, sample_mask: Tensor | None) -> Tensor:
        """The signal with zeros in missing leads and padding."""
        input_values = zero_missing(input_values, lead_mask, sample_mask)
        return input_values

    def embed(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor:
        """Tokens with their positions, without the class token: ``(batch, tokens, hidden_size)``.

        Raises:
            ConfigurationError: if the shape does not fit, or the signal is too short for a token.
        """
        self.check_input_values(input_values)
        if input_values.shape[-1] < self.config.reach:
            raise ConfigurationError(
                f"input_values have {input_values.shape[-1]} samples, a token takes {self.config.reach}",
                value=tuple(input_values.shape),
            )
        tokens = self.encoder.embed(self.present(input_values, lead_mask, sample_mask))
        positioned: Tensor = tokens + self.encoder.positions(tokens)
        return positioned

    def encode_tokens(
        self, tokens: Tensor, token_mask: Tensor | None, *, need_weights: bool = False
    ) -> Tensor:
        """Put the class token before tokens of :meth:`embed`, and encode.

        Args:
            tokens: All of them, or those that are visible.
            token_mask: bool ``(batch, 1 + tokens)``: False for padding.
            need_weights: Attention weights are asked for.
        """
        first = self.class_token.to(tokens.dtype).expand(tokens.shape[0], 1, -1)
        keys = None if token_mask is None else token_mask[:, None, None, :]
        return self.encoder.transform(torch.cat([first, tokens], dim=1), keys, need_weights)

    def pool(self, tokens: Tensor) -> Tensor:
        """The record's embedding, float32 ``(batch, pooled_size)``: that of the class token."""
        if self.projection is None:
            return full_precision(tokens[:, 0])
        return full_precision(self.pooler(self.projection(tokens[:, 0]))).tanh()

    def encode(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Tokens, the class token first, and the record's embedding; see :meth:`EcgEncoder.encode`."""
        tokens = self.encode_tokens(
            self.embed(input_values, lead_mask, sample_mask),
            self.token_mask(input_values, lead_mask, sample_mask),
            need_weights=need_weights,
        )
        return tokens, self.pool(tokens)

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Tokens of texts as the fusion takes them: float ``(batch, length, projection_dim)``.

        Raises:
            ConfigurationError: if there is no text side, or the tokens are those of another tokenizer.
        """
        if self.text_encoder is None:
            raise ConfigurationError("these weights are of the ECG branch alone: it has no text side")
        check_tokens(self.text_encoder, input_ids)
        mask = torch.ones_like(input_ids) if self.config.text_sees_padding else attention_mask
        outputs = self.text_encoder(input_ids=input_ids, attention_mask=mask, return_dict=True)
        projected: Tensor = self.text_projection(outputs.last_hidden_state)
        return projected

    def pool_texts(self, tokens: Tensor) -> Tensor:
        """Embeddings of texts, float32 ``(batch, projection_dim)``, from tokens of :meth:`encode_texts`."""
        return full_precision(self.text_pooler(tokens[:, 0])).tanh()

    def get_ecg_features(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor:
        """L2-normalised embeddings of records, ``(batch, projection_dim)``.

        Differs from official code: theirs are not normalised; that is ``pooler_output``.
        """
        return F.normalize(self.encode(input_values, lead_mask, sample_mask)[1], dim=-1)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """L2-normalised embeddings of texts, ``(batch, projection_dim)``."""
        return F.normalize(self.pool_texts(self.encode_texts(input_ids, attention_mask)), dim=-1)

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
            ecg_embeds = F.normalize(pooled, dim=-1)
            text_embeds = self.get_text_features(input_ids, attention_mask)
            logits = similarity(ecg_embeds, text_embeds) / float(self.config.temperature)
        return EcgAlignmentOutput(
            last_hidden_state=tokens,
            pooler_output=pooled,
            ecg_embeds=ecg_embeds,
            text_embeds=text_embeds,
            logits_per_ecg=logits,
        )


class DBetaForPreTraining(DBetaPreTrainedModel, EcgForPreTraining):
    """Both encoders, their fusion, and four objectives on one forward pass.

    Hidden words are predicted from the fused text, hidden ECG tokens from fused ECG tokens of an early layer; pairs
    that match are told from those that don't by the fused class tokens, and by a sigmoid loss over all pairs of the
    embeddings before the fusion.

    Differs from official code: reports that don't match come from neighbours in the batch, not from a search for far
    ones, and keep their place when words are hidden; words count per text (with ``mlm_labels`` over all of them).
    """

    _no_split_modules = ["EcgTransformerBlock", "FusionLayer"]

    def __init__(self, config: DBetaConfig) -> None:
        super().__init__(config)
        config.require(
            config.parts == "whole", "weights of the ECG branch alone have nothing to align", config.parts
        )
        assert isinstance(config.text_config, PreTrainedConfig)
        width, vocabulary = config.projection_dim, int(config.text_config.vocab_size)
        self.d_beta = DBetaModel(config)
        self.fusion = FusionTower(config)
        self.fused_text_pooler = nn.Linear(width, width)
        self.fused_ecg_pooler = nn.Linear(width, width)
        self.match_head = nn.Linear(2 * width, 2)
        self.word_head = MaskedTokenHead(width, vocabulary)
        self.word_weights = nn.Parameter(torch.zeros(vocabulary, width))
        self.decoder = TokenDecoder(config)
        self.post_init()

    @classmethod
    def from_text_model(cls, text_model: str, config: DBetaConfig, **kwargs: Any) -> DBetaForPreTraining:
        """A fresh model whose text tower is a pretrained one, such as ``google/flan-t5-base``.

        Args:
            text_model: Folder or Hub name of a T5 or BERT-like model in safetensors format.
            config: Everything else; its ``text_config`` is replaced.
            kwargs: Passed to ``AutoModel.from_pretrained``.
        """
        config.text_config = AutoConfig.from_pretrained(text_model)
        model = cls(config)
        load_text_tower(model.d_beta.text_encoder, text_model, **kwargs)
        return model

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Noise that hides tokens, leads and words and swaps reports; sizes are the configuration's."""
        config, values = self.config, batch["input_values"]
        rows = len(values) if rows is None else rows

        def uniform(*shape: int) -> Tensor:
            return torch.rand(rows, *shape, generator=generator, device=values.device)

        return {
            "noise": uniform(config.num_tokens),
            "lead_noise": uniform(config.num_leads),
            "token_noise": uniform(config.max_text_length),
            "choice_noise": uniform(config.max_text_length),
            "swap_noise": uniform(1),
        }

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        noise: Tensor | None = None,
        lead_noise: Tensor | None = None,
        token_noise: Tensor | None = None,
        choice_noise: Tensor | None = None,
        swap_noise: Tensor | None = None,
        mlm_labels: Tensor | None = None,
        is_aligned: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> EcgPreTrainingOutput:
        """One masked forward pass that feeds every loss.

        Args:
            input_values: float32 ``(batch, leads, samples)``.
            lead_mask: ``(batch, leads)``, 0 for missing leads.
            sample_mask: ``(batch, samples)``, 0 for padding.
            input_ids: int64 ``(batch, length)``, the reports.
            attention_mask: ``(batch, length)``.
            noise: float ``(batch, >= tokens)``: the tokens with the smallest stay visible; drawn here if not given,
                as all noise is.
            lead_noise: float ``(batch, leads)`` uniform; says which leads are set to zero.
            token_noise: float ``(batch, >= length)`` uniform; decides which words are hidden ...
            choice_noise: ... and by what they are replaced.
            swap_noise: float ``(batch, 1)`` uniform: the first of two neighbours decides whether they swap reports.
            mlm_labels: int64 ``(batch, length)``, -100 where nothing is to be predicted: reports come with hidden
                words, as the authors' collator makes them.
            is_aligned: ``(batch,)``, 1 where report and record belong together. With this or ``mlm_labels`` the batch
                is taken as it is: nothing is hidden or swapped but ECG tokens.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states`` and ``output_attentions`` (of the ECG encoder), ``return_dict``.

        Raises:
            ConfigurationError: if the reports are missing.
        """
        if input_ids is None:
            raise ConfigurationError("pretraining needs reports: input_ids are missing")
        config, model = self.config, self.d_beta
        model.check_input_values(input_values)
        drawn = self.complete_noise(
            input_values,
            noise=noise,
            lead_noise=lead_noise,
            token_noise=token_noise,
            choice_noise=choice_noise,
            swap_noise=swap_noise,
        )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        prepared = mlm_labels is not None or is_aligned is not None
        aligned = torch.ones(len(input_ids), device=input_ids.device, dtype=torch.bool)
        if is_aligned is not None:
            aligned = is_aligned.bool()
        if not prepared:
            assert drawn["lead_noise"] is not None
            heard = drawn["lead_noise"] >= config.lead_mask_probability
            lead_mask = heard if lead_mask is None else lead_mask.bool() & heard
            input_ids, attention_mask, aligned = self._swap(input_ids, attention_mask, drawn["swap_noise"])

        signal = model.present(input_values, lead_mask, sample_mask)
        tokens = model.embed(signal)
        token_mask = model.token_mask(input_values, None, sample_mask)
        order = drawn["noise"][:, : tokens.shape[1]].argsort(dim=1)  # type: ignore[index]
        kept = max(1, int(tokens.shape[1] * (1.0 - config.mask_ratio) + 1e-9))
        visible_mask = None
        if token_mask is not None:
            visible_mask = torch.cat([token_mask[:, :1], token_mask[:, 1:].gather(1, order[:, :kept])], dim=1)
        encoded = model.encode_tokens(
            gather_tokens(tokens, order[:, :kept]), visible_mask, need_weights=self.wants_attentions(kwargs)
        )
        ecg_features = model.pool(encoded)

        text, labels, weights, positions = self._hide_words(input_ids, attention_mask, mlm_labels, drawn)
        text_tokens = model.encode_texts(text, attention_mask)
        text_features = model.pool_texts(text_tokens)

        assert model.projection is not None
        fused_text, fused_ecg, entering = self.fusion(
            text_tokens,
            model.projection(encoded),
            attention_mask == 0,
            None if visible_mask is None else ~visible_mask,
        )
        words = fused_text if positions is None else gather_tokens(fused_text, positions)
        pair = torch.cat(
            [
                self.fused_text_pooler(fused_text[:, 0]).tanh(),
                self.fused_ecg_pooler(fused_ecg[:, 0]).tanh(),
            ],
            dim=-1,
        )
        matches = full_precision(self.match_head(pair))
        rebuilt = self.decoder(
            entering, order.argsort(dim=1), None if token_mask is None else token_mask[:, 1:]
        )
        target = self._target(signal)
        hidden = torch.ones_like(rebuilt[..., 0]).scatter(1, order[:, :kept], 0.0)
        if token_mask is not None:
            hidden = hidden * token_mask[:, 1:]
        pool = self.pool_embeddings(
            {"ecg": ecg_features, "text": text_features, "aligned": aligned[:, None].float()}
        )
        terms = {
            "masked_words": masked_token_loss(
                self.word_head(words, self.word_weights),
                labels,
                weights,
                reduction="texts" if mlm_labels is None else "tokens",
            ),
            "reconstruction": reconstruction_loss(rebuilt, target, hidden),
            "matching": F.cross_entropy(matches, aligned.long()),
            "siglip": siglip_loss(
                pool["ecg"],
                pool["text"],
                scale=1.0,
                bias=0.0,
                reduction="mean_pairs",
                matching=pool["aligned"][:, 0] > 0.5,
                normalize=False,
            ),
        }
        return EcgPreTrainingOutput(
            loss=self.weighted_sum(terms),
            loss_terms={name: term.detach() for name, term in terms.items()},
            metrics={
                "matching_accuracy": (matches.argmax(-1) == aligned).float().mean(),
                "retrieval_top1": pair_accuracy(pool["ecg"], pool["text"], top=1),
            },
            ecg_embeds=F.normalize(ecg_features, dim=-1),
            text_embeds=F.normalize(text_features, dim=-1),
            reconstruction=gather_tokens(rebuilt, order[:, kept:]),
            masked_index=order[:, kept:],
        )

    def _swap(
        self, input_ids: Tensor, attention_mask: Tensor, swap_noise: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Reports, some swapped between rows 0 and 1, 2 and 3 and so on, and which still belong to their record.

        Neighbours, because a batch may lie on several processes: pairs are then the same. Of an odd number the last
        keeps its report.
        """
        assert swap_noise is not None
        rows = torch.arange(len(input_ids), device=input_ids.device)
        swaps = (swap_noise[rows & ~1, 0] < self.config.swap_probability) & ((rows | 1) < len(rows))
        partner = torch.where(swaps, rows ^ 1, rows)
        ids, mask = input_ids[partner], attention_mask[partner]
        same = ((ids == input_ids) | (mask == 0)).all(1) & (mask == attention_mask).all(1)
        return ids, mask, same

    def _hide_words(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        mlm_labels: Tensor | None,
        drawn: Mapping[str, Tensor | None],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Texts with hidden words, labels, their weights, and the positions they are for (None: all of them)."""
        if mlm_labels is not None:
            weights = (mlm_labels != _IGNORED).float()
            return input_ids, mlm_labels.clamp(min=0), weights, None
        token_noise, choice_noise = drawn["token_noise"], drawn["choice_noise"]
        assert token_noise is not None
        assert choice_noise is not None
        masked = mask_report(input_ids, attention_mask, token_noise, choice_noise, self.config)
        return masked.input_ids, masked.labels, masked.targets.weights, masked.targets.positions

    def _target(self, signal: Tensor) -> Tensor:
        """What tokens are to be rebuilt as: float32 ``(batch, tokens, leads * stride)``.

        What is left after the last token is cut off; then each lead has mean 0 and variance 1.
        """
        stride = self.config.stride
        length = stride * ((signal.shape[-1] - self.config.reach) // stride + 1)
        cut = full_precision(F.pad(signal, (0, max(0, length - signal.shape[-1])))[..., :length])
        patches = normalize_patches(patchify(cut, stride), "lead_zscore")
        return patches.transpose(1, 2).flatten(2)


class DBetaForEcgClassification(DBetaPreTrainedModel, EcgForClassification):
    """The ECG branch with a linear head on its embedding, or on attention-pooled tokens."""

    model_class = DBetaModel
    _keys_to_ignore_on_load_unexpected = [
        *DBetaPreTrainedModel._keys_to_ignore_on_load_unexpected,
        r"text_(encoder|projection|pooler)\.",
        r"(^|\.)(projection|pooler)\.",
    ]

    def build_encoder(self) -> DBetaModel:
        """The ECG branch; without its pooler where tokens are pooled."""
        pooled = self.config.classifier_pooling == "mean"
        return DBetaModel(self.config, add_text=False, add_pooler=pooled)

    def build_head(self) -> None:
        """Linear layer on what is pooled."""
        self.build_classifier(
            self.config.pooled_size, self.config.num_attention_heads, token_size=self.config.hidden_size
        )
