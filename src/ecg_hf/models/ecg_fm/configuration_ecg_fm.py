"""Configuration of ECG-FM."""

# No postponed annotations here or in any configuration, because ``@strict`` can't resolve them.

from math import prod
from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_hf.models.configuration import EcgConfig

__all__ = ["EcgFmConfig"]

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "sampling_rate": 100,
        "num_samples": 500,
        "window_samples": 500,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "conv_dim": [8, 8, 8, 8],
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "feature_dropout": 0.0,
        "mask_length": 3,
        "num_negatives": 10,
        "codebook_size": 16,
        "codebook_dim": 16,
        "contrast_size": 16,
    },
    "tiny": {
        "sampling_rate": 100,
        "num_samples": 1000,
        "window_samples": 500,
        "hidden_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 384,
        "conv_dim": [64, 64, 64],
        "conv_kernel": [2, 2, 2],
        "conv_stride": [2, 2, 2],
        "num_conv_pos_embeddings": 32,
        "num_conv_pos_embedding_groups": 8,
        "mask_length": 6,
        "num_negatives": 30,
        "codebook_size": 64,
        "codebook_dim": 64,
        "contrast_size": 64,
    },
    "base": {},
}
"""Named sizes. ``base`` is the published one; ``micro`` is for tests, ``tiny`` for CPUs: tokens of 0.08 s."""


@strict
class EcgFmConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.EcgFmModel` and its heads.

    Defaults are those of the published model and of its pretraining.

    Args:
        num_samples: Longest record: 10 s.
        window_samples: What the network sees at a time: 5 s. Longer records are cut into such pieces. None: the
            whole record in one pass.
        hidden_size: Width of the tokens.
        num_hidden_layers: Transformer layers.
        num_attention_heads: Heads of each.
        intermediate_size: Width inside their MLPs.
        conv_dim: Channels of the convolutions that make tokens.
        conv_kernel: Their widths.
        conv_stride: Their strides.
        num_conv_pos_embeddings: Width of the positional convolution.
        num_conv_pos_embedding_groups: Its groups.
        hidden_dropout: Dropout before the first layer and in each.
        attention_dropout: Dropout on attention weights.
        layer_norm_eps: Epsilon of the layer norms.
        feature_dropout: Dropout of tokens before they are masked and of what is quantised, while pretraining. That of
            the latter is inferred.
        lead_mask_probability: Probability that a lead of a segment is zeros, while pretraining.
        mask_probability: Share of tokens that would be masked if spans did not overlap.
        mask_length: Tokens of a span.
        num_negatives: Masked tokens of the segment that each masked one is compared with.
        contrast_temperature: Divides their cosines.
        contrast_size: Width of what is compared.
        codebook_groups: Codebooks of the quantiser.
        codebook_size: Codes of each.
        codebook_dim: Width of a quantised vector, all groups together.
        gumbel_temperature: That of the quantiser at the first optimiser step ...
        gumbel_temperature_decay: ... what it is multiplied by at each ...
        gumbel_temperature_end: ... and its lowest value.
        feature_gradient_factor: What gradients of the convolutions are multiplied by.
        segment_temperature: Divides the cosines of segments.
        contrastive_weight: Weight of the contrast of masked tokens.
        diversity_weight: Weight of the share of codes that are not in use.
        feature_penalty_weight: Weight of the mean square of what the convolutions give.
        segments_weight: Weight of the contrast of adjacent segments (CMSC of CLOCS).
        piece_pooling: ``mean`` or ``max`` for each label: how the probabilities of a record's pieces become one.
            None: ``mean`` for all.

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "ecg-fm"
    presets = PRESETS

    sampling_rate: float | int = 500
    num_samples: int = 5000
    window_samples: int | None = 2500
    hidden_size: int = 768
    num_hidden_layers: int = 12
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
    feature_dropout: float | int = 0.1
    lead_mask_probability: float | int = 0.5
    mask_probability: float | int = 0.65
    mask_length: int = 10
    num_negatives: int = 100
    contrast_temperature: float | int = 0.1
    contrast_size: int = 256
    codebook_groups: int = 2
    codebook_size: int = 320
    codebook_dim: int = 256
    gumbel_temperature: float | int = 2.0
    gumbel_temperature_decay: float | int = 0.999995
    gumbel_temperature_end: float | int = 0.5
    feature_gradient_factor: float | int = 0.1
    segment_temperature: float | int = 0.1
    contrastive_weight: float | int = 1.0
    diversity_weight: float | int = 0.1
    feature_penalty_weight: float | int = 10.0
    segments_weight: float | int = 1.0
    piece_pooling: list[str] | tuple[str, ...] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that everything fits."""
        super().__post_init__(**kwargs)
        lengths = {len(self.conv_dim), len(self.conv_kernel), len(self.conv_stride)}
        self.require(len(lengths) == 1 and 0 not in lengths, "conv_dim, _kernel and _stride differ in number")
        sizes = (*self.conv_dim, *self.conv_kernel, *self.conv_stride)
        self.require(all(size > 0 for size in sizes), "sizes of convolutions must be positive", sizes)
        for name in ("hidden_size", "num_hidden_layers", "intermediate_size", "num_conv_pos_embeddings"):
            self.require(getattr(self, name) > 0, f"{name} must be positive", getattr(self, name))
        for name in ("num_attention_heads", "num_conv_pos_embedding_groups"):
            value = getattr(self, name)
            fits = value > 0 and self.hidden_size % value == 0
            self.require(fits, f"{name} {value} does not divide hidden_size {self.hidden_size}", value)
        least = (
            self.num_samples if self.window_samples is None else min(self.num_samples, self.window_samples)
        )
        self.require(least >= self.reach, f"{least} samples are less than a token, {self.reach}", least)
        self._check_pretraining()
        pooling = self.piece_pooling
        self.require(
            pooling is None or (len(pooling) == self.num_labels and set(pooling) <= {"mean", "max"}),
            f"piece_pooling must be mean or max for each of {self.num_labels} labels",
            pooling,
        )

    def _check_pretraining(self) -> None:
        """Check the fields of the pretraining, whatever the model is for."""
        for name in ("mask_length", "num_negatives", "contrast_size", "codebook_groups", "codebook_size"):
            self.require(getattr(self, name) > 0, f"{name} must be positive", getattr(self, name))
        for name in (
            "contrast_temperature",
            "segment_temperature",
            "gumbel_temperature",
            "gumbel_temperature_end",
        ):
            self.require(getattr(self, name) > 0.0, f"{name} must be positive", getattr(self, name))
        for name in ("mask_probability", "lead_mask_probability", "feature_dropout"):
            value = getattr(self, name)
            self.require(0.0 <= value < 1.0, f"{name} must be in [0, 1)", value)
        decay = self.gumbel_temperature_decay
        self.require(0.0 < decay <= 1.0, "gumbel_temperature_decay must be in (0, 1]", decay)
        self.require(
            self.codebook_dim > 0 and self.codebook_dim % self.codebook_groups == 0,
            f"codebook_dim {self.codebook_dim} is no multiple of codebook_groups {self.codebook_groups}",
            self.codebook_dim,
        )

    @property
    def segment_samples(self) -> int:
        """Samples of each of the two adjacent segments that pretraining compares: a window, at most half a record."""
        half = self.num_samples // 2
        return half if self.window_samples is None else min(self.window_samples, half)

    @property
    def segment_tokens(self) -> int:
        """Tokens of a segment; 0 if it is shorter than one."""
        stride = prod(self.conv_stride)
        return max(0, (self.segment_samples - self.reach) // stride + 1)

    @property
    def reach(self) -> int:
        """Samples that a token sees."""
        return 1 + sum(
            (kernel - 1) * prod(self.conv_stride[:index]) for index, kernel in enumerate(self.conv_kernel)
        )
