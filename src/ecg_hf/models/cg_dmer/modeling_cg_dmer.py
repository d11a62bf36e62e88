"""CG-DMER: the dual encoder, its pretraining objective and its classifier.

Paper: "CG-DMER: Hybrid Contrastive-Generative Framework for Disentangled Multimodal ECG Representation Learning",
arXiv 2602.21154. No official code is known; everything the paper leaves open is a field of :class:`CgDmerConfig`.
"""

from __future__ import annotations

import math
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
from ecg_hf.models.cg_dmer.configuration_cg_dmer import CgDmerConfig
from ecg_hf.models.cg_dmer.encoder_cg_dmer import (
    CgDmerEcgDecoder,
    CgDmerEcgEncoder,
    LeadTimePositions,
    token_patches,
)
from ecg_hf.models.cg_dmer.text_cg_dmer import (
    MaskedWordDecoder,
    report_signature,
)
from ecg_hf.models.modeling import (
    EcgEncoder,
    EcgForClassification,
    EcgForPreTraining,
    EcgPreTrainedModel,
    masked_token_weights,
    patch_token_mask,
)
from ecg_hf.models.outputs import EcgAlignmentOutput, EcgPreTrainingOutput
from ecg_hf.models.text_tower import (
    build_text_tower,
    check_tokens,
    freeze_text_layers,
    load_text_tower,
    mask_report,
    pool_text,
)
from ecg_hf.nn.heads import MlpProjector
from ecg_hf.nn.losses import (
    info_nce_loss,
    normalize_patches,
    orthogonality_loss,
    reconstruction_loss,
    siglip_loss,
)
from ecg_hf.nn.losses.targets import term_entropy, term_loss
from ecg_hf.nn.masks.missing import zero_missing
from ecg_hf.nn.masks.patches import PatchMask, mask_patches
from ecg_hf.nn.positions import sincos_positions
from ecg_hf.nn.precision import similarity
from ecg_hf.nn.tokenizers import gather_tokens, patchify

__all__ = ["CgDmerForEcgClassification", "CgDmerForPreTraining", "CgDmerModel", "CgDmerPreTrainedModel"]


class CgDmerPreTrainedModel(EcgPreTrainedModel):
    """Initialisation shared by the CG-DMER models."""

    config: CgDmerConfig
    config_class = CgDmerConfig
    base_model_prefix = "cg_dmer"
    _no_split_modules = ["EcgTransformerBlock", "BertLayer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = float(self.config.initializer_range)
        if isinstance(module, LeadTimePositions):
            init.normal_(module.spatial, std=float(self.config.lead_embedding_std))
            if self.config.temporal_positions == "sincos":
                init.copy_(module.temporal, sincos_positions(*module.temporal.shape))
            else:
                init.normal_(module.temporal, std=std)
        elif isinstance(module, CgDmerEcgDecoder):
            init.normal_(module.mask_token, std=std)
        elif isinstance(module, CgDmerForPreTraining):
            if self.config.siglip_weight > 0.0:
                init.constant_(module.siglip_log_scale, math.log(self.config.siglip_scale))
                init.constant_(module.siglip_bias, float(self.config.siglip_bias))
            if self.config.phrase_weight > 0.0:
                init.constant_(module.phrase_log_scale, math.log(self.config.siglip_scale))

    def token_mask(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor | None:
        """As in the base class; a missing lead takes nothing from a token that holds all leads."""
        if self.config.token_leads == "one":
            return super().token_mask(input_values, lead_mask, sample_mask)
        return patch_token_mask(input_values[:, :1], self.config.patch_size, None, sample_mask)

    def without_missing_leads(self, input_values: Tensor, lead_mask: Tensor | None) -> Tensor:
        """The signal as tokens may see it: where one holds all leads, no mask of tokens hides a missing lead."""
        return (
            input_values if self.config.token_leads == "one" else zero_missing(input_values, lead_mask, None)
        )


class CgDmerModel(CgDmerPreTrainedModel, EcgEncoder):
    """ECG encoder, text tower and the two shared projections.

    With ``input_values`` alone it is an ECG encoder; with ``input_ids`` too it aligns records and texts. This class
    masks nothing.

    Args:
        config: The configuration.
        add_text_tower: False leaves out the text tower and projections, if only the ECG encoder is needed.
    """

    _keys_to_ignore_on_load_unexpected = [
        r"^ecg_decoder\.",
        r"^text_decoder\.",
        r"^.*_specific\.",
        r"^siglip_",
        r"^auxiliary\.",
        r"^phrase_",
    ]

    def __init__(self, config: CgDmerConfig, add_text_tower: bool = True) -> None:
        super().__init__(config)
        self.ecg_encoder = CgDmerEcgEncoder(config)
        self.ecg_shared: MlpProjector | None = None
        if add_text_tower:
            width, hidden = config.projection_dim, config.projection_hidden_size
            self.ecg_shared = MlpProjector(config.pooled_size, hidden, width)
            assert isinstance(config.text_config, PreTrainedConfig)
            self.text_encoder = build_text_tower(config.text_config, config.text_pooling)
            self.text_shared = MlpProjector(config.text_config.hidden_size, hidden, width)
        self.post_init()
        self.freeze_fixed_parameters()

    def freeze_fixed_parameters(self) -> None:
        """Freeze the text tower's embeddings and lower layers [15], and the temporal table if it is fixed [3]."""
        if not self.config.learn_temporal_positions:
            self.ecg_encoder.positions.temporal.requires_grad_(False)
        if self.ecg_shared is not None:
            freeze_text_layers(self.text_encoder, self.config.freeze_text_layers)

    def get_input_embeddings(self) -> nn.Module:
        """The patch tokeniser."""
        return self.ecg_encoder.tokenizer

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The blocks of the ECG encoder."""
        return self.ecg_encoder.layers.blocks

    def project_ecg(self, pooled: Tensor) -> Tensor:
        """Shared ECG embedding, not normalised: ``(batch, pooled_size)`` to ``(batch, projection_dim)``.

        Raises:
            ConfigurationError: if the model was built without its text tower.
        """
        if self.ecg_shared is None:
            raise ConfigurationError("this model was built without its text tower and projections")
        projected: Tensor = self.ecg_shared(pooled)
        return projected

    def get_ecg_features(
        self, input_values: Tensor, lead_mask: Tensor | None = None, sample_mask: Tensor | None = None
    ) -> Tensor:
        """L2-normalised shared embeddings of records, ``(batch, projection_dim)``."""
        return F.normalize(self.project_ecg(self.encode(input_values, lead_mask, sample_mask)[1]), dim=-1)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """L2-normalised shared embeddings of texts, ``(batch, projection_dim)``.

        A tensor, like that of :meth:`get_ecg_features`. CLIP of transformers 5 returns an output object whose
        ``pooler_output`` is the projection before normalisation; ``text_encoder`` gives hidden states and attentions.

        Raises:
            ConfigurationError: if the model has no text tower, or the tokens are those of another tokenizer.
        """
        if self.ecg_shared is None:
            raise ConfigurationError("this model was built without its text tower and projections")
        check_tokens(self.text_encoder, input_ids)
        outputs = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        return F.normalize(self.text_shared(pool_text(outputs, self.config.text_pooling)), dim=-1)

    def encode(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Tokens and pooled output of the ECG encoder, before any projection; see :meth:`EcgEncoder.encode`."""
        self.check_input_values(input_values)
        mask = self.token_mask(input_values, lead_mask, sample_mask)
        input_values = self.without_missing_leads(input_values, lead_mask)
        tokens, pooled = self.ecg_encoder(input_values, mask, need_weights=need_weights)
        return tokens, pooled

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
        if self.ecg_shared is not None and (input_ids is not None or self.config.pooled_feature == "shared"):
            ecg_embeds = F.normalize(self.project_ecg(pooled), dim=-1)
        if input_ids is not None:
            text_embeds = self.get_text_features(input_ids, attention_mask)
            assert ecg_embeds is not None
            logits = similarity(ecg_embeds, text_embeds) / self.config.temperature
        return EcgAlignmentOutput(
            last_hidden_state=tokens,
            pooler_output=pooled if self.config.pooled_feature == "encoder" else ecg_embeds,
            ecg_embeds=ecg_embeds,
            text_embeds=text_embeds,
            logits_per_ecg=logits,
        )


class CgDmerForPreTraining(CgDmerPreTrainedModel, EcgForPreTraining):
    """CG-DMER with its decoders, specific branches and total loss (Eq. 10 plus the ECG reconstruction it omits).

    A loss whose weight is 0 is neither computed nor given parameters: the variants of the paper's Table 3 are
    ``CgDmerConfig.preset(size, variant=...)``.
    """

    def __init__(self, config: CgDmerConfig) -> None:
        super().__init__(config)
        self.cg_dmer = CgDmerModel(config)
        text_width = config.text_config.hidden_size  # type: ignore[union-attr]
        width, hidden = config.projection_dim, config.projection_hidden_size
        if config.orthogonality_weight > 0.0 or config.decode_disentangled:
            self.ecg_specific = MlpProjector(config.pooled_size, hidden, width)
            self.text_specific = MlpProjector(text_width, hidden, width)
        if config.ecg_reconstruction_weight > 0.0:
            self.ecg_decoder = CgDmerEcgDecoder(config)
        if config.text_reconstruction_weight > 0.0:
            self.text_decoder = MaskedWordDecoder(config)
        if config.siglip_weight > 0.0:
            learn = config.learn_siglip_scale
            self.siglip_log_scale = nn.Parameter(torch.zeros(()), requires_grad=learn)
            self.siglip_bias = nn.Parameter(torch.zeros(()), requires_grad=learn)
        if config.phrase_weight > 0.0:
            self.phrase_log_scale = nn.Parameter(torch.zeros(()))
        self.post_init()
        # The library adds the text tower's own list. Word embeddings also decode masked words: they must not be a
        # unit that FSDP gathers for the embedding's forward only.
        self._no_split_modules = list(type(self)._no_split_modules)
        self.freeze_fixed_parameters()

    def freeze_fixed_parameters(self) -> None:
        """Freeze the base model's fixed parts and, if configured, SigLIP's scale and bias."""
        self.cg_dmer.freeze_fixed_parameters()
        if self.config.siglip_weight > 0.0:
            self.siglip_log_scale.requires_grad_(self.config.learn_siglip_scale)
            self.siglip_bias.requires_grad_(self.config.learn_siglip_scale)
        if self.config.ecg_reconstruction_weight > 0.0 and not self.config.learn_temporal_positions:
            self.ecg_decoder.positions.temporal.requires_grad_(False)

    @classmethod
    def from_text_model(cls, text_model: str, config: CgDmerConfig, **kwargs: Any) -> CgDmerForPreTraining:
        """A fresh model whose text tower is a pretrained one, such as ``ncbi/MedCPT-Query-Encoder``.

        Args:
            text_model: Folder or Hub name of a BERT-like model in safetensors format.
            config: Everything else; its ``text_config`` is replaced.
            kwargs: Passed to ``AutoModel.from_pretrained``.
        """
        config.text_config = AutoConfig.from_pretrained(text_model)
        model = cls(config)
        load_text_tower(model.cg_dmer.text_encoder, text_model, **kwargs)
        model.freeze_fixed_parameters()
        return model

    def draw_noise(
        self, batch: Mapping[str, Tensor], generator: torch.Generator, rows: int | None = None
    ) -> dict[str, Tensor]:
        """Noise of the patch mask and the word mask.

        Sizes depend on the configuration, not on a batch's padding, so that a record gets the same noise however
        the batch around it is split.
        """
        config = self.config
        values = batch["input_values"]
        rows = len(values) if rows is None else rows
        noise: dict[str, Tensor] = {}

        def uniform(*shape: int) -> Tensor:
            return torch.rand(rows, *shape, generator=generator, device=values.device)

        if config.masks_ecg:
            noise["patch_noise"] = uniform(config.token_rows, config.num_patches)
        if config.masks_text:
            noise["token_noise"] = uniform(config.max_text_length)
            if config.text_mask_replacement == "bert":
                noise["choice_noise"] = uniform(config.max_text_length)
        if config.signal_jitter:
            leads, samples = values.shape[1:]
            noise["gain_noise"] = torch.randn(rows, 1 + leads, generator=generator, device=values.device)
            noise["signal_noise"] = torch.randn(
                rows, leads, samples, generator=generator, device=values.device
            )
        if config.time_shift_s:
            noise["shift_noise"] = uniform()
        return noise

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Tensor,
        lead_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        patch_noise: Tensor | None = None,
        token_noise: Tensor | None = None,
        choice_noise: Tensor | None = None,
        gain_noise: Tensor | None = None,
        signal_noise: Tensor | None = None,
        shift_noise: Tensor | None = None,
        measures: Tensor | None = None,
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
            patch_noise: float ``(batch, leads, patches)`` uniform, one row where a token holds all leads; drawn here
                if not given.
            token_noise: float ``(batch, >= length)`` uniform; drawn here if not given.
            choice_noise: Likewise, for 80/10/10 replacement.
            gain_noise: float ``(batch, 1 + leads)`` normal, for ``signal_jitter``; none of it if not given.
            signal_noise: float ``(batch, leads, samples)`` normal, likewise.
            shift_noise: float ``(batch,)`` uniform, for ``time_shift_s``, likewise.
            measures: float ``(batch, 359)``, NaN where undefined; needed if measurements are an auxiliary target.
            return_loss: Accepted because the trainer looks for it; the loss is always computed.
            kwargs: ``output_hidden_states`` and ``output_attentions`` (of the ECG encoder), ``return_dict``.

        Raises:
            ConfigurationError: if the reports are missing.
        """
        config = self.config
        self.cg_dmer.check_input_values(input_values)
        if input_ids is None:
            raise ConfigurationError("CG-DMER is pretrained on pairs: input_ids are missing")
        check_tokens(self.cg_dmer.text_encoder, input_ids)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if (config.masks_ecg and patch_noise is None) or (config.masks_text and token_noise is None):
            noise = self.complete_noise(
                input_values, patch_noise=patch_noise, token_noise=token_noise, choice_noise=choice_noise
            )
            patch_noise, token_noise = noise["patch_noise"], noise["token_noise"]
            choice_noise = noise["choice_noise"]

        if gain_noise is not None and signal_noise is not None:
            input_values = self._jittered(input_values, gain_noise, signal_noise)
        if shift_noise is not None:
            input_values, sample_mask = self._shifted(input_values, sample_mask, shift_noise)
        token_mask = self.token_mask(input_values, lead_mask, sample_mask)
        input_values = self.without_missing_leads(input_values, lead_mask)
        mask = None
        if patch_noise is not None:
            num_patches = input_values.shape[-1] // config.patch_size
            mask = mask_patches(
                patch_noise[..., :num_patches], float(config.mask_ratio), config.mask_strategy
            )
        need_weights = self.wants_attentions(kwargs)
        tokens, pooled = self.cg_dmer.ecg_encoder(
            input_values, token_mask, None if mask is None else mask.visible, need_weights=need_weights
        )
        ecg_pooled = pooled
        if mask is not None and config.contrastive_view == "full":
            ecg_pooled = self.cg_dmer.ecg_encoder(input_values, token_mask, need_weights=need_weights)[1]

        masked_text = None
        if token_noise is not None:
            choice = token_noise if choice_noise is None else choice_noise
            masked_text = mask_report(input_ids, attention_mask, token_noise, choice, config)
        text_outputs = self.cg_dmer.text_encoder(
            input_ids=input_ids if masked_text is None else masked_text.input_ids,
            attention_mask=attention_mask,
            return_dict=True,
        )
        text_pooled = pool_text(text_outputs, config.text_pooling)

        ecg_shared, text_shared = self.cg_dmer.project_ecg(ecg_pooled), self.cg_dmer.text_shared(text_pooled)
        terms = self._alignment_terms(ecg_shared, text_shared, input_ids, attention_mask)
        metrics: dict[str, Tensor] = {}
        ecg_condition = text_condition = None
        if config.orthogonality_weight > 0.0 or config.decode_disentangled:
            ecg_specific, text_specific = self.ecg_specific(ecg_pooled), self.text_specific(text_pooled)
            if config.orthogonality_weight > 0.0:
                terms["orthogonality"] = orthogonality_loss(ecg_specific, ecg_shared) + orthogonality_loss(
                    text_specific, text_shared
                )
            if config.decode_disentangled:
                ecg_condition, text_condition = ecg_specific + ecg_shared, text_specific + text_shared
        reconstruction = None
        if mask is not None:
            reconstruction = self.ecg_decoder(tokens, mask, token_mask, ecg_condition)
            target, weights = self._reconstruction_target(input_values, mask, token_mask)
            terms["ecg_reconstruction"] = reconstruction_loss(
                reconstruction, target, weights, reduction=config.reconstruction_reduction
            )
            metrics["masked_error_vs_zero"] = _error_against_zero(reconstruction, target, weights)
        if masked_text is not None:
            terms["text_reconstruction"] = self.text_decoder(
                text_outputs.last_hidden_state,
                input_ids,
                attention_mask,
                masked_text,
                self.cg_dmer.text_encoder.get_input_embeddings(),
                text_condition,
            )
        if self.auxiliary is not None:
            whole = ecg_pooled
            if mask is not None and config.contrastive_view == "masked":
                whole = self.cg_dmer.ecg_encoder(input_values, token_mask)[1]
            terms |= self.auxiliary(
                whole, input_ids=input_ids, attention_mask=attention_mask, measures=measures
            )
        if config.phrase_weight > 0.0:
            terms["phrase"] = self._phrase_loss(ecg_shared, input_ids, attention_mask)
        return EcgPreTrainingOutput(
            loss=self.weighted_sum(terms),
            loss_terms={name: term.detach() for name, term in terms.items()},
            metrics=metrics,
            ecg_embeds=F.normalize(ecg_shared, dim=-1),
            text_embeds=F.normalize(text_shared, dim=-1),
            reconstruction=reconstruction,
            masked_index=None if mask is None else mask.masked,
        )

    def _alignment_terms(
        self, ecg: Tensor, text: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> dict[str, Tensor]:
        config = self.config
        embeddings = {"ecg": ecg, "text": text}
        if config.ignore_duplicate_reports:
            embeddings["report"] = report_signature(input_ids, attention_mask)
        pool = self.pool_embeddings(embeddings) if config.gather_negatives else embeddings
        duplicates = None
        if config.ignore_duplicate_reports:
            report = pool["report"]
            duplicates = (report[:, None, :] == report[None, :, :]).all(-1)
        terms: dict[str, Tensor] = {}
        if config.contrastive_weight > 0.0:
            terms["contrastive"] = info_nce_loss(
                pool["ecg"],
                pool["text"],
                temperature=float(config.temperature),
                form=config.contrastive_form,
                reduction=config.contrastive_reduction,
                ignored_pairs=duplicates,
                normalize=config.normalize_shared,
            )
        if config.siglip_weight > 0.0:
            terms["siglip"] = siglip_loss(
                pool["ecg"],
                pool["text"],
                scale=self.siglip_log_scale.exp(),
                bias=self.siglip_bias,
                reduction=config.siglip_reduction,
                ignored_pairs=duplicates,
                normalize=config.normalize_shared,
            )
        return terms

    def _phrase_loss(self, ecg: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Which terms a report contains, by the cosines between its ECG and what the text tower makes of each term.

        Reports are long and prompts are short: this teaches the text tower the words and pairs of words that prompts
        are made of. Not in the paper.
        """
        assert self.auxiliary is not None
        prior, bag = self.auxiliary.prior, self.auxiliary.terms
        pad, start, end = list(self.config.text_special_token_ids)[:3]
        pair = bag.words[:, 1] >= 0
        phrases = torch.stack(
            [
                torch.full_like(bag.words[:, 0], start),
                bag.words[:, 0].clamp(min=pad),
                torch.where(pair, bag.words[:, 1], end),
                torch.where(pair, end, pad),
            ],
            dim=1,
        )
        read = torch.ones_like(phrases)
        read[:, 3] = pair
        text = self.cg_dmer.get_text_features(phrases, read)
        cosine = similarity(F.normalize(ecg, dim=-1), text)
        logits = self.phrase_log_scale.exp() * cosine + torch.logit(prior.clamp(1e-5, 1.0 - 1e-5))
        return term_loss(logits, bag(input_ids, attention_mask), term_entropy(prior))

    def _jittered(self, values: Tensor, gain_noise: Tensor, signal_noise: Tensor) -> Tensor:
        """Records at other amplitudes, of leads too, with noise of a thirtieth of the signals' own spread."""
        jitter = float(self.config.signal_jitter)
        scale = (1.0 + jitter * gain_noise[:, :1]) * (1.0 + 0.5 * jitter * gain_noise[:, 1:])
        level = 0.3 * jitter * values.std(-1, keepdim=True, correction=0)
        return values * scale[..., None] + level * signal_noise

    def _shifted(
        self, values: Tensor, sample_mask: Tensor | None, shift_noise: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Records that begin elsewhere: what leaves at one end comes in at the other."""
        samples = values.shape[-1]
        most = float(self.config.time_shift_s) * float(self.config.sampling_rate)
        shift = ((2.0 * shift_noise - 1.0) * most).round().long()
        places = (torch.arange(samples, device=values.device) - shift[:, None]) % samples
        if sample_mask is not None:
            sample_mask = sample_mask.gather(1, places)
        return values.gather(2, places[:, None].expand_as(values)), sample_mask

    def _reconstruction_target(
        self, input_values: Tensor, mask: PatchMask, token_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        patches = patchify(input_values.float(), self.config.patch_size)
        normalized = normalize_patches(patches, self.config.reconstruction_target)
        target = token_patches(normalized, self.config.token_leads)
        return gather_tokens(target, mask.masked), masked_token_weights(mask.masked, token_mask)


class CgDmerForEcgClassification(CgDmerPreTrainedModel, EcgForClassification):
    """CG-DMER's ECG encoder with a linear head on the pooled or attention-pooled tokens."""

    _keys_to_ignore_on_load_unexpected = [
        r"text_encoder\.",
        r"(ecg|text)_(shared|specific|decoder)\.",
        r"^siglip_",
        r"^auxiliary\.",
        r"^phrase_",
    ]

    def build_encoder(self) -> CgDmerModel:
        """The ECG encoder without the text tower."""
        return CgDmerModel(self.config, add_text_tower=False)

    def build_head(self) -> None:
        """The classifier; an attention query pools tokens, which may be narrower than the record's embedding."""
        config = self.config
        self.build_classifier(config.pooled_size, config.num_attention_heads, token_size=config.hidden_size)


def _error_against_zero(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Squared error of the prediction over that of predicting zero; 1 means nothing was learned."""
    squared = (prediction.detach().float() - target).square().sum(-1)
    energy = target.square().sum(-1)
    return (squared * weights).sum() / (energy * weights).sum().clamp(min=torch.finfo(torch.float32).tiny)
