"""Configuration of D-BETA."""

# No postponed annotations here, because ``@strict`` can't resolve them.

from math import prod
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ecg_hf.models.configuration import EcgConfig
from ecg_hf.models.text_config import SMALL_BERTS, text_tower_config

__all__ = ["DBetaConfig"]

FLAN_T5_BASE: dict[str, Any] = {
    "model_type": "t5",
    "vocab_size": 32128,
    "d_model": 768,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 12,
    "num_heads": 12,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
"""The published text tower, of which only the encoder is used."""

_STRIDE_4 = {"conv_dim": [256, 256], "conv_kernel": [2, 2], "conv_stride": [2, 2]}

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "sampling_rate": 100,
        "num_samples": 1000,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "conv_dim": [8, 8, 8, 8],
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "initializer_range": 0.1,
        "projection_dim": 32,
        "fusion_layers": 2,
        "fusion_heads": 4,
        "fusion_dropout": 0.0,
        "reconstruction_layer": 1,
        "decoder_hidden_size": 16,
        "decoder_num_layers": 1,
        "decoder_num_attention_heads": 2,
        "max_text_length": 64,
        "text_config": SMALL_BERTS["micro"],
    },
    "tiny": {
        "sampling_rate": 100,
        "num_samples": 1000,
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "intermediate_size": 768,
        "conv_dim": [64, 64, 64],
        "conv_kernel": [2, 2, 2],
        "conv_stride": [2, 2, 2],
        "num_conv_pos_embeddings": 32,
        "initializer_range": 0.04,
        "projection_dim": 192,
        "fusion_layers": 2,
        "fusion_heads": 3,
        "reconstruction_layer": 1,
        "decoder_hidden_size": 96,
        "decoder_num_layers": 2,
        "decoder_num_attention_heads": 3,
        "max_text_length": 128,
        "text_config": SMALL_BERTS["tiny"],
    },
    "base-100hz": {"sampling_rate": 100, "num_samples": 1000, **_STRIDE_4},
    "base": {},
}
"""Named sizes. ``base`` is the published one; the small ones have a BERT for a vocabulary made from the reports."""


@strict
class DBetaConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.DBetaModel` and its heads.

    Defaults are those of the published model; [inferred] marks what is this package's.

    Args:
        hidden_size: Width of the ECG encoder's tokens.
        num_hidden_layers: Its transformer layers.
        num_attention_heads: Heads of each.
        intermediate_size: Width inside their MLPs.
        conv_dim: Channels of the convolutions that make tokens.
        conv_kernel: Their widths.
        conv_stride: Their strides; their product is also the length of what a hidden token is to be rebuilt as.
        num_conv_pos_embeddings: Width of the positional convolution.
        num_conv_pos_embedding_groups: Its groups.
        hidden_dropout: Dropout before the first layer and in each.
        attention_dropout: Dropout on attention weights.
        layer_norm_eps: Epsilon of the encoder's layer norms.
        projection_dim: Width of both modalities in the fusion, and of the embeddings.
        parts: What there is: ``whole``; ``branch``, the ECG encoder and its pooler; ``encoder``, not even that: the
            embedding is then the class token.
        fusion_layers: Layers of the fusion, for each modality.
        fusion_heads: Their attention heads.
        fusion_dropout: Dropout in the fusion.
        reconstruction_layer: Fusion layer (from 0) whose input hidden ECG tokens are rebuilt from.
        mask_ratio: Share of ECG tokens that are hidden.
        lead_mask_probability: Probability with which a lead is set to zero before everything else.
        decoder_hidden_size: Width of the decoder that rebuilds them.
        decoder_num_layers: Its layers.
        decoder_num_attention_heads: Heads of each.
        swap_probability: Probability with which two neighbours of a batch swap their reports, which are to be told
            from those that match [inferred: the authors take reports that are far from the record's own].
        text_mask_probability: Share of words to predict.
        text_mask_replacement: ``bert`` (80/10/10) or ``mask``.
        text_mask_token_id: Id of the mask token.
        text_special_token_ids: Ids that are never masked.
        masked_words_weight: Weight of the prediction of hidden words.
        reconstruction_weight: Weight of the reconstruction of hidden ECG tokens.
        matching_weight: Weight of telling pairs that match from those that don't.
        siglip_weight: Weight of the sigmoid loss over all pairs.
        temperature: Divides cosines of ECGs and texts in ``logits_per_ecg`` [inferred]; no loss uses it.
        text_sees_padding: The text tower attends to padding, as the authors' does; a text's embedding then depends
            on the longest text beside it.
        max_text_length: Longest text in tokens.
        text_config: Configuration of the text tower: a T5, whose encoder is used, or a BERT-like encoder.
    """

    model_type = "d-beta"
    presets = PRESETS
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig}

    hidden_size: int = 768
    num_hidden_layers: int = 8
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    conv_dim: list[int] | tuple[int, ...] = (256, 256, 256, 256)
    conv_kernel: list[int] | tuple[int, ...] = (2, 2, 2, 2)
    conv_stride: list[int] | tuple[int, ...] = (2, 2, 2, 2)
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    hidden_dropout: float | int = 0.1
    attention_dropout: float | int = 0.1
    layer_norm_eps: float = 1e-5

    projection_dim: int = 768
    parts: Literal["whole", "branch", "encoder"] = "whole"
    fusion_layers: int = 6
    fusion_heads: int = 12
    fusion_dropout: float | int = 0.1
    reconstruction_layer: int = 3
    mask_ratio: float | int = 0.75
    lead_mask_probability: float | int = 0.5
    decoder_hidden_size: int = 384
    decoder_num_layers: int = 4
    decoder_num_attention_heads: int = 6
    swap_probability: float | int = 0.5
    text_mask_probability: float | int = 0.25
    text_mask_replacement: Literal["mask", "bert"] = "bert"
    text_mask_token_id: int = 103
    text_special_token_ids: list[int] | tuple[int, ...] = (0, 101, 102)
    masked_words_weight: float | int = 1.0
    reconstruction_weight: float | int = 1.0
    matching_weight: float | int = 1.0
    siglip_weight: float | int = 1.0
    temperature: float | int = 0.07
    text_sees_padding: bool = False
    max_text_length: int = 256
    text_config: dict[str, Any] | PreTrainedConfig | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the text tower's configuration and check that everything fits."""
        self.text_config = text_tower_config(FLAN_T5_BASE if self.text_config is None else self.text_config)
        super().__post_init__(**kwargs)
        lengths = {len(self.conv_dim), len(self.conv_kernel), len(self.conv_stride)}
        self.require(len(lengths) == 1 and 0 not in lengths, "conv_dim, _kernel and _stride differ in number")
        sizes = (*self.conv_dim, *self.conv_kernel, *self.conv_stride)
        self.require(min(sizes) > 0, "sizes of convolutions must be positive", sizes)
        for width, heads in (
            ("hidden_size", "num_attention_heads"),
            ("hidden_size", "num_conv_pos_embedding_groups"),
            ("projection_dim", "fusion_heads"),
            ("decoder_hidden_size", "decoder_num_attention_heads"),
        ):
            size, parts = getattr(self, width), getattr(self, heads)
            self.require(
                size > 0 and parts > 0 and size % parts == 0,
                f"{heads} {parts} does not divide {width} {size}",
            )
        for name in ("mask_ratio", "text_mask_probability"):
            value = getattr(self, name)
            self.require(0.0 < value < 1.0, f"{name} must be in (0, 1)", value)
        for name in ("lead_mask_probability", "swap_probability"):
            value = getattr(self, name)
            self.require(0.0 <= value <= 1.0, f"{name} must be in [0, 1]", value)
        for name in ("masked_words", "reconstruction", "matching", "siglip"):
            weight = getattr(self, f"{name}_weight")
            self.require(weight > 0.0, f"{name}_weight must be positive", weight)
        self.require(
            0 <= self.reconstruction_layer < self.fusion_layers,
            f"reconstruction_layer must be one of {self.fusion_layers} fusion layers",
            self.reconstruction_layer,
        )
        self.require(self.temperature > 0.0, "temperature must be positive", self.temperature)
        self.require(
            self.num_samples >= self.reach,
            f"{self.num_samples} samples are less than a token",
            self.num_samples,
        )

    @property
    def reach(self) -> int:
        """Samples that a token sees."""
        return 1 + sum(
            (kernel - 1) * prod(self.conv_stride[:index]) for index, kernel in enumerate(self.conv_kernel)
        )

    @property
    def stride(self) -> int:
        """Samples from one token to the next."""
        return prod(self.conv_stride)

    @property
    def num_tokens(self) -> int:
        """Tokens of the longest record, without the class token."""
        return (self.num_samples - self.reach) // self.stride + 1

    @property
    def pooled_size(self) -> int:
        """Width of a record's embedding."""
        return self.hidden_size if self.parts == "encoder" else self.projection_dim
