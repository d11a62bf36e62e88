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
    },
    "base": {},
}
"""Named sizes. ``base`` is the published one; ``micro`` is for tests."""


@strict
class EcgFmConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.EcgFmModel` and its classifier.

    Defaults are those of the published model.

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
        pooling = self.piece_pooling
        self.require(
            pooling is None or (len(pooling) == self.num_labels and set(pooling) <= {"mean", "max"}),
            f"piece_pooling must be mean or max for each of {self.num_labels} labels",
            pooling,
        )

    @property
    def reach(self) -> int:
        """Samples that a token sees."""
        return 1 + sum(
            (kernel - 1) * prod(self.conv_stride[:index]) for index, kernel in enumerate(self.conv_kernel)
        )
