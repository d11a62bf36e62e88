"""Configuration of ECG-JEPA (Weimann)."""

# No postponed annotations here or in any configuration, because ``@strict`` can't resolve them.

from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_hf.models.configuration import EcgConfig

__all__ = ["WeimannJepaConfig"]

MAX_PATCHES = 2**16
"""Of the table of positions, which is computed, not loaded: no file's size bounds it."""

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "sampling_rate": 100,
        "num_samples": 1000,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "predictor_hidden_size": 32,
        "predictor_num_layers": 1,
        "predictor_num_attention_heads": 4,
        "predictor_intermediate_size": 64,
        "min_block_size": 4,
        "ema_momentum": 0.9,
        "ema_momentum_end": 0.9,
        "initializer_range": 0.1,
    },
    "extra-small": {
        "hidden_size": 192,
        "num_attention_heads": 4,
        "intermediate_size": 768,
        "predictor_hidden_size": 96,
        "predictor_num_attention_heads": 4,
        "predictor_intermediate_size": 384,
    },
    "small": {},
    "base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "predictor_hidden_size": 384,
        "predictor_num_layers": 12,
        "predictor_num_attention_heads": 12,
        "predictor_intermediate_size": 1536,
    },
}
"""Named sizes. All but ``micro``, which is for tests, are the authors' ViT-XS, ViT-S and ViT-B."""


@strict
class WeimannJepaConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.WeimannJepaModel` and its heads.

    Defaults are those of the authors' ``ViTS_mimic``.

    Args:
        patch_size: Samples of a patch, which spans all leads and is one token.
        hidden_size: Token width, even.
        num_hidden_layers: Layers of student and teacher.
        num_attention_heads: Their heads.
        intermediate_size: Width of their MLPs.
        num_registers: Learned tokens that are encoded with the patches and then dropped; may be 0.
        bias: Whether convolution, linear layers and norms have a bias.
        qkv_bias: The same for queries, keys and values.
        hidden_dropout: Dropout after attention and in the MLPs, of student and predictor.
        attention_dropout: Dropout on attention weights, likewise.
        layer_norm_eps: Epsilon of layer norms.
        predictor_hidden_size: Width of the predictor, even.
        predictor_num_layers: Its layers.
        predictor_num_attention_heads: Its heads.
        predictor_intermediate_size: Width of its MLPs.
        keep_ratio: Range of the share of patches that the student sees; drawn once per batch.
        min_block_size: Patches of the shortest hidden block.
        ema_momentum: Momentum of the teacher at the first step ...
        ema_momentum_end: ... and at the last; linear in between.

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "weimann-jepa"
    presets = PRESETS

    sampling_rate: float | int = 500
    num_samples: int = 5000
    patch_size: int = 25
    hidden_size: int = 384
    num_hidden_layers: int = 8
    num_attention_heads: int = 6
    intermediate_size: int = 1536
    num_registers: int = 1
    bias: bool = False
    qkv_bias: bool = False
    hidden_dropout: float | int = 0.0
    attention_dropout: float | int = 0.0
    layer_norm_eps: float = 1e-6

    predictor_hidden_size: int = 192
    predictor_num_layers: int = 8
    predictor_num_attention_heads: int = 6
    predictor_intermediate_size: int = 768

    keep_ratio: list[float] | tuple[float, ...] = (0.15, 0.25)
    min_block_size: int = 10
    ema_momentum: float | int = 0.998
    ema_momentum_end: float | int = 0.9995

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that everything fits."""
        super().__post_init__(**kwargs)
        self.keep_ratio = [float(share) for share in self.keep_ratio]
        self.require(self.patch_size > 0, "patch_size must be positive", self.patch_size)
        self.require(
            self.num_samples > 0 and self.num_samples % self.patch_size == 0,
            f"num_samples {self.num_samples} is not a positive multiple of patch_size {self.patch_size}",
            self.num_samples,
        )
        self.require(
            2 <= self.num_patches <= MAX_PATCHES,
            f"{self.num_patches} patches are not within 2..{MAX_PATCHES}",
            self.num_patches,
        )
        for part, layers in (("", "num_hidden_layers"), ("predictor_", "predictor_num_layers")):
            width, heads = getattr(self, f"{part}hidden_size"), getattr(self, f"{part}num_attention_heads")
            self.require(width > 0 and width % 2 == 0, f"{part}hidden_size must be even", width)
            self.require(heads > 0 and width % heads == 0, f"{heads} heads do not divide {width}", heads)
            for name in (layers, f"{part}intermediate_size"):
                self.require(getattr(self, name) > 0, f"{name} must be positive", getattr(self, name))
        self.require(self.num_registers >= 0, "num_registers must not be negative", self.num_registers)
        for name in ("hidden_dropout", "attention_dropout"):
            value = getattr(self, name)
            self.require(0.0 <= value < 1.0, f"{name} must be in [0, 1)", value)
        keep = self.keep_ratio
        self.require(
            len(keep) == 2 and 0.0 < keep[0] <= keep[1] < 1.0,
            f"keep_ratio must be two rising shares in (0, 1), got {keep}",
            keep,
        )
        self.require(self.min_block_size > 0, "min_block_size must be positive", self.min_block_size)
        self.require(
            0.0 <= self.ema_momentum <= self.ema_momentum_end <= 1.0,
            f"ema_momentum must rise from {self.ema_momentum} to ema_momentum_end within [0, 1]",
            self.ema_momentum_end,
        )

    @property
    def num_patches(self) -> int:
        """Patches of the longest record."""
        return self.num_samples // self.patch_size
