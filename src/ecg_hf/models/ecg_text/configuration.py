"""Configuration of the ECG-and-text family: a backbone, a text tower, and the heads that bring them together."""

# No postponed annotations here, because ``@strict`` can't resolve them.

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ecg_hf.models.joint_embedding.configuration import (
    BASE_100HZ,
    BackboneConfig,
    ResNet1dFields,
    Xresnet1dFields,
    as_entry,
)
from ecg_hf.models.text_config import SMALL_BERTS, text_tower_config

__all__ = ["EcgTextConfig"]

MICRO: dict[str, Any] = {
    "sampling_rate": 100,
    "num_samples": 1000,
    "backbone": {"type": "resnet1d", "channels": [8, 16], "depths": [1, 1], "token_s": 0.08},
    "projection_dim": 32,
    "projection_hidden_size": 32,
    "max_text_length": 64,
    "freeze_text_layers": 0,
    "text_config": SMALL_BERTS["micro"],
}
"""For tests."""

TINY: dict[str, Any] = {
    "sampling_rate": 100,
    "num_samples": 1000,
    "backbone": {"type": "resnet1d", "channels": [24, 48, 96, 192], "depths": [1, 1, 1, 1]},
    "projection_dim": 128,
    "projection_hidden_size": 192,
    "max_text_length": 128,
    "freeze_text_layers": 0,
    "text_config": SMALL_BERTS["tiny"],
}
"""For two CPU cores, with a small BERT for a vocabulary made from the corpus' own reports."""

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "resnet50": {
        "backbone": as_entry(ResNet1dFields(type="resnet1d", depths=(3, 4, 6, 3), bottleneck=True)),
    },
    "xresnet1d": {"backbone": as_entry(Xresnet1dFields(type="xresnet1d"))},
}


@strict
class EcgTextConfig(BackboneConfig):
    """What the methods of the family share.

    Args:
        backbone: Its ``type``, a key of :data:`~ecg_hf.models.joint_embedding.configuration.BACKBONES`, and those
            fields of the type that are to have other values than their defaults.
        ecg_head: How a record's embedding is made: ``attention`` (a query that attends over the tokens), ``mlp`` (two
            layers with batch norms on the backbone's embedding) or ``linear``.
        text_head: The same of a text: ``mlp`` (two layers) or ``linear``.
        attention_pool_heads: Heads of that query.
        projection_dim: Width of the embeddings that are aligned.
        projection_hidden_size: Width inside heads of two layers.
        temperature: Divides the cosine similarities.
        freeze_text_layers: Freeze the embeddings and this many lower layers of the text tower, and its pooler too if
            they are all its layers.
        text_pooling: ``pooler`` (BERT's tanh pooler) or ``cls``.
        max_text_length: Longest text in tokens.
        text_side: What there is of the text side: ``tower``; ``head``, for weights without the tower, whose texts
            come as pooled features; ``none``, for weights of the encoder alone, which align nothing.
        text_config: Configuration of the text tower, any BERT-like encoder.
    """

    presets = {"micro": MICRO, "tiny": TINY, "base-100hz": BASE_100HZ, "base": {}}
    variants = VARIANTS
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig}

    ecg_head: Literal["attention", "mlp", "linear"] = "linear"
    text_head: Literal["mlp", "linear"] = "linear"
    attention_pool_heads: int = 4
    projection_dim: int = 256
    projection_hidden_size: int = 256
    temperature: float | int = 0.07
    freeze_text_layers: int = 12
    text_pooling: Literal["pooler", "cls"] = "pooler"
    max_text_length: int = 256
    text_side: Literal["tower", "head", "none"] = "tower"
    text_config: dict[str, Any] | PreTrainedConfig | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the text tower's configuration and check that everything fits."""
        self.text_config = text_tower_config(self.text_config)
        super().__post_init__(**kwargs)
        sizes = (self.projection_dim, self.projection_hidden_size, self.attention_pool_heads)
        self.require(min(sizes) > 0, "widths and heads must be positive", sizes)
        self.require(self.temperature > 0.0, "temperature must be positive", self.temperature)
        self.require(self.freeze_text_layers >= 0, "freeze_text_layers must not be negative")
        self.require(
            self.ecg_head != "attention" or self.projection_dim % self.attention_pool_heads == 0,
            f"{self.attention_pool_heads} heads do not divide projection_dim {self.projection_dim}",
            self.attention_pool_heads,
        )

    @property
    def text_width(self) -> int:
        """Width of the text tower."""
        assert isinstance(self.text_config, PreTrainedConfig)
        return int(self.text_config.hidden_size)
