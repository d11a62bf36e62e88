"""Configuration of CRT."""

# No postponed annotations here or in any configuration, because ``@strict`` can't resolve them.

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from ecg_hf.models.configuration import EcgConfig

__all__ = ["CrtConfig"]

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "sampling_rate": 100,
        "num_samples": 1000,
        "patch_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_size": 16,
        "intermediate_size": 32,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "decoder_num_layers": 1,
    },
    "tiny": {
        "sampling_rate": 100,
        "num_samples": 1000,
        "patch_size": 20,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "head_size": 16,
        "intermediate_size": 128,
    },
    "base-100hz": {"sampling_rate": 100, "num_samples": 1000, "patch_size": 10},
    "base": {},
}
"""Named sizes. ``base`` is the authors'; ``base-100hz`` has patches of a tenth of a second, half as many.
``micro`` is for tests, ``tiny`` for CPUs."""


@strict
class CrtConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.CrtModel` and its heads; defaults are those of the official code.

    A record is the concatenation of its samples, and of magnitude and phase of the first half of its Fourier
    transform, cut into patches of equal length.

    Args:
        sampling_rate: Hertz.
        num_samples: 10 s, a multiple of two patches.
        patch_size: Values of a patch of each lead.
        spectrum: ``log_zscore``: the logarithm of one plus the magnitude; it and the phase with mean 0 and standard
            deviation 1 over the leads and bins of a record. Inferred. ``raw``: as they are, as in the official code.
        hidden_size: Width of the tokens, a multiple of 8.
        num_hidden_layers: Encoder layers.
        num_attention_heads: Heads of each layer, decoder's too.
        head_size: Width of a head.
        intermediate_size: Width inside the layers' MLPs.
        dropout: Dropout after attention and in the MLPs. Which of the two published rates is which is inferred.
        embedding_dropout: Dropout before the first layer.
        layer_norm_eps: Epsilon of the layer norms.
        decoder_num_layers: Layers of the decoder, as wide as the encoder.
        drop_ratio_start: Share of patches that is dropped at first ...
        drop_ratio_end: ... and at last; in between it is the share of the training that is done.
        targets: What predictions are compared with: ``aligned``, their own patches, or ``official``: the official
            code orders predictions [kept, dropped] and targets [dropped, kept], so that most are compared with other
            patches.
        reconstruction_weight: Weight of the reconstruction.
        discrimination_weight: Weight of instance discrimination, beta of the paper.
        embedding_std: Standard deviation of what positions, domains, [CLS] and mask tokens start with.

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "crt"
    presets = PRESETS

    patch_size: int = 20
    spectrum: Literal["log_zscore", "raw"] = "log_zscore"
    hidden_size: int = 128
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    head_size: int = 64
    intermediate_size: int = 128
    dropout: float | int = 0.2
    embedding_dropout: float | int = 0.1
    layer_norm_eps: float = 1e-5

    decoder_num_layers: int = 2
    drop_ratio_start: float | int = 0.3
    drop_ratio_end: float | int = 0.8
    targets: Literal["aligned", "official"] = "aligned"
    reconstruction_weight: float | int = 1.0
    discrimination_weight: float | int = 1e-4
    embedding_std: float | int = 1.0

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that everything fits."""
        super().__post_init__(**kwargs)
        self.require(self.patch_size > 0, "patch_size must be positive", self.patch_size)
        self.require(
            self.num_samples > 0 and self.num_samples % (2 * self.patch_size) == 0,
            f"num_samples {self.num_samples} is not a positive multiple of two patches of {self.patch_size}",
            self.num_samples,
        )
        self.require(
            self.hidden_size > 0 and self.hidden_size % 8 == 0,
            "hidden_size must be a positive multiple of 8",
            self.hidden_size,
        )
        for name in (
            "num_hidden_layers",
            "num_attention_heads",
            "head_size",
            "intermediate_size",
            "decoder_num_layers",
        ):
            self.require(getattr(self, name) > 0, f"{name} must be positive", getattr(self, name))
        start, end = self.drop_ratio_start, self.drop_ratio_end
        self.require(0.0 < start <= end < 1.0, "drop ratios must ascend within (0, 1)", (start, end))
        self.require(
            self.dropped_patches(0.0)[1] > 0,
            f"drop_ratio_start {start} drops no patch of {self.domain_patches}",
            start,
        )
        for name in ("reconstruction_weight", "discrimination_weight"):
            self.require(getattr(self, name) > 0.0, f"{name} must be positive", getattr(self, name))

    @property
    def domain_patches(self) -> tuple[int, int, int]:
        """Patches of time, magnitude and phase."""
        times = self.num_samples // self.patch_size
        return times, times // 2, times // 2

    def dropped_patches(self, progress: float) -> tuple[int, int]:
        """How many patches of time, and of each of magnitude and phase, are dropped.

        Args:
            progress: Share of the training that is done.
        """
        ratio = min(max(progress, float(self.drop_ratio_start)), float(self.drop_ratio_end))
        dropped = int(ratio * sum(self.domain_patches) + 1e-6)
        return dropped // 2, dropped // 4
