"""Configuration of KED."""

# No postponed annotations here or in any configuration, because ``@strict`` can't resolve them.

from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_hf.models.configuration import EcgConfig

__all__ = ["KedConfig"]

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {"stem_channels": [4, 4, 8], "channels": [2, 4], "depths": [1, 1]},
    "base": {},
}
"""Named sizes. ``base`` is the published encoder; ``micro`` is for tests."""


@strict
class KedConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.KedModel` and its classifier.

    Defaults are those of the published encoder, an xresnet of 101 layers with narrower late stages.

    Args:
        stem_channels: Channels of the convolutions before the first stage; the first of them and the max-pooling
            after the last one halve the length.
        channels: Channels of the bottlenecks of each stage.
        depths: Blocks of each stage.
        expansion: Channels of a stage over those of its bottlenecks.
        kernel_size: Odd width of the stem's convolutions and of the middle one of each block.

    ``initializer_range`` is not used: convolutions are initialised as He et al. do [inferred].

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "ked"
    presets = PRESETS

    sampling_rate: float | int = 100
    num_samples: int = 1000
    stem_channels: list[int] | tuple[int, ...] = (32, 32, 64)
    channels: list[int] | tuple[int, ...] = (64, 128, 128, 192)
    depths: list[int] | tuple[int, ...] = (3, 4, 23, 3)
    expansion: int = 4
    kernel_size: int = 5

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that everything fits."""
        super().__post_init__(**kwargs)
        self.require(
            0 < len(self.channels) == len(self.depths), "channels and depths differ in number", self.depths
        )
        sizes = (self.num_samples, *self.stem_channels, *self.channels, *self.depths)
        self.require(len(self.stem_channels) > 0, "the stem needs a convolution", self.stem_channels)
        self.require(min(sizes) > 0, "sizes must be positive", sizes)
        self.require(self.expansion > 1, "expansion must be more than 1", self.expansion)
        odd = self.kernel_size > 0 and self.kernel_size % 2 == 1
        self.require(odd, "kernel_size must be odd", self.kernel_size)

    @property
    def hidden_size(self) -> int:
        """Width of tokens and pooled output."""
        return self.channels[-1] * self.expansion

    @property
    def num_hidden_layers(self) -> int:
        """Blocks of all stages."""
        return sum(self.depths)

    @property
    def patch_size(self) -> int:
        """Samples per token."""
        return int(2 ** (len(self.channels) + 1))
