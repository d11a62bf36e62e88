"""Configuration of MELP."""

# No postponed annotations here or in any configuration, because ``@strict`` can't resolve them.

from math import prod
from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_hf.models.configuration import EcgConfig

__all__ = ["MelpConfig"]

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
        "projection_dim": 16,
        "num_beat_queries": 3,
        "token_dim": 32,
        "num_token_queries": 4,
        "pooler_heads": 4,
    },
    "base": {},
}
"""Named sizes. ``base`` is the published one; ``micro`` is for tests."""


@strict
class MelpConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.MelpModel` and its classifier.

    Defaults are those of the published model; the authors' names are in brackets.

    Args:
        hidden_size: Width of the encoder's tokens (``encoder_embed_dim``).
        num_hidden_layers: Its transformer layers (``encoder_layers``).
        num_attention_heads: Heads of each (``encoder_attention_heads``).
        intermediate_size: Width inside their MLPs (``encoder_ffn_embed_dim``).
        conv_dim: Channels of the convolutions that make tokens.
        conv_kernel: Their widths.
        conv_stride: Their strides.
        num_conv_pos_embeddings: Width of the positional convolution.
        num_conv_pos_embedding_groups: Its groups.
        hidden_dropout: Dropout before the first layer and in each.
        attention_dropout: Dropout on attention weights.
        layer_norm_eps: Epsilon of the encoder's layer norms.
        projection_dim: Width of the beats' embeddings and of the record's (``shared_emb_dim``).
        num_beat_queries: Queries that gather beats (``n_queries_contrast``).
        token_dim: Width of what the report's words were written from (``embed_dim_caption``).
        num_token_queries: Queries that gather those (``n_queries_caption``); 0: there are none.
        pooler_heads: Heads of both poolers (``attn_pooler_heads``).

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "melp"
    presets = PRESETS

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
    projection_dim: int = 256
    num_beat_queries: int = 13
    token_dim: int = 768
    num_token_queries: int = 128
    pooler_heads: int = 8

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that everything fits."""
        super().__post_init__(**kwargs)
        lengths = {len(self.conv_dim), len(self.conv_kernel), len(self.conv_stride)}
        self.require(len(lengths) == 1 and 0 not in lengths, "conv_dim, _kernel and _stride differ in number")
        sizes = (*self.conv_dim, *self.conv_kernel, *self.conv_stride)
        self.require(min(sizes) > 0, "sizes of convolutions must be positive", sizes)
        for name in ("num_hidden_layers", "intermediate_size", "num_conv_pos_embeddings", "num_beat_queries"):
            self.require(getattr(self, name) > 0, f"{name} must be positive", getattr(self, name))
        self.require(self.num_token_queries >= 0, "num_token_queries is negative", self.num_token_queries)
        for width, heads in (
            ("hidden_size", "num_attention_heads"),
            ("hidden_size", "num_conv_pos_embedding_groups"),
            ("projection_dim", "pooler_heads"),
            ("token_dim", "pooler_heads"),
        ):
            size, parts = getattr(self, width), getattr(self, heads)
            fits = size > 0 and parts > 0 and size % parts == 0
            self.require(fits, f"{heads} {parts} does not divide {width} {size}", parts)
        self.require(
            self.num_samples >= self.reach,
            f"{self.num_samples} samples are less than a token, {self.reach}",
            self.num_samples,
        )

    @property
    def reach(self) -> int:
        """Samples that a token sees."""
        return 1 + sum(
            (kernel - 1) * prod(self.conv_stride[:index]) for index, kernel in enumerate(self.conv_kernel)
        )

    @property
    def pooled_size(self) -> int:
        """Width of a record's embedding."""
        return self.projection_dim
