"""Configuration of ST-MEM."""

# No postponed annotations here or in any configuration, because ``@strict`` can't resolve them.

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from ecg_hf.models.configuration import EcgConfig

__all__ = ["StMemConfig"]

_SMALL = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "sampling_rate": 100,
        "num_samples": 900,
        "patch_size": 90,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_size": 16,
        "intermediate_size": 64,
        "initializer_range": 0.1,
        "decoder_hidden_size": 32,
        "decoder_num_layers": 1,
        "decoder_num_attention_heads": 2,
        "decoder_head_size": 16,
        "decoder_intermediate_size": 64,
    },
    "tiny": {
        "sampling_rate": 100,
        "num_samples": 900,
        "patch_size": 30,
        "hidden_size": 128,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "head_size": 32,
        "intermediate_size": 512,
        "initializer_range": 0.05,
        "decoder_hidden_size": 64,
        "decoder_num_layers": 2,
        "decoder_num_attention_heads": 2,
        "decoder_head_size": 32,
        "decoder_intermediate_size": 256,
    },
    "small-100hz": {**_SMALL, "sampling_rate": 100, "num_samples": 900, "patch_size": 30},
    "small-500hz": {**_SMALL, "sampling_rate": 500, "num_samples": 4500, "patch_size": 150},
    "small": _SMALL,
    "base": {},
}
"""Named sizes. ``small`` and ``base`` are the authors'; those that name a rate have the same patches of 0.3 s at
another one. ``micro`` is for tests, ``tiny`` for CPUs."""


@strict
class StMemConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.StMemModel` and its heads; defaults are those of the authors' ViT-B.

    Args:
        sampling_rate: Hertz; 250, as published.
        num_samples: 9 s, as published.
        patch_size: Samples of a patch of one lead: 0.3 s, as published.
        hidden_size: Width of the tokens.
        num_hidden_layers: Encoder layers.
        num_attention_heads: Heads of each.
        head_size: Width of a head; 64 at any width of the tokens, as in the official code.
        intermediate_size: Width inside the layers' MLPs.
        layer_norm_eps: Epsilon of all layer norms but the decoder's last.
        mask_ratio: Share of the patches of each lead that is hidden.
        reconstruction_target: ``patch_zscore`` (``norm_pix_loss`` of the official code) or ``raw``.
        decoder_hidden_size: Width of the decoder, which sees one lead at a time.
        decoder_num_layers: Its layers.
        decoder_num_attention_heads: Heads of each.
        decoder_head_size: Width of a head.
        decoder_intermediate_size: Width inside its MLPs.
        decoder_norm_eps: Epsilon of the decoder's last layer norm.
        initializer_range: Standard deviation of the lead, SEP and mask embeddings; linear layers are Xavier uniform.

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "st-mem"
    presets = PRESETS

    sampling_rate: float | int = 250
    num_samples: int = 2250

    patch_size: int = 75
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    head_size: int = 64
    intermediate_size: int = 3072
    layer_norm_eps: float = 1e-5

    mask_ratio: float | int = 0.75
    reconstruction_target: Literal["patch_zscore", "raw"] = "patch_zscore"
    decoder_hidden_size: int = 256
    decoder_num_layers: int = 4
    decoder_num_attention_heads: int = 4
    decoder_head_size: int = 64
    decoder_intermediate_size: int = 1024
    decoder_norm_eps: float = 1e-6

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that everything fits."""
        super().__post_init__(**kwargs)
        self.require(self.patch_size > 1, "patch_size must be above 1", self.patch_size)
        self.require(
            self.num_samples > 0 and self.num_samples % self.patch_size == 0,
            f"num_samples {self.num_samples} is not a positive multiple of patch_size {self.patch_size}",
            self.num_samples,
        )
        for name in ("hidden_size", "decoder_hidden_size"):
            width = getattr(self, name)
            self.require(width > 0 and width % 2 == 0, f"{name} must be positive and even", width)
        for name in (
            "num_hidden_layers",
            "num_attention_heads",
            "head_size",
            "intermediate_size",
            "decoder_num_layers",
            "decoder_num_attention_heads",
            "decoder_head_size",
            "decoder_intermediate_size",
        ):
            self.require(getattr(self, name) > 0, f"{name} must be positive", getattr(self, name))
        self.require(0.0 < self.mask_ratio < 1.0, "mask_ratio must be in (0, 1)", self.mask_ratio)

    @property
    def num_patches(self) -> int:
        """Patches per lead."""
        return self.num_samples // self.patch_size
