"""Configuration of ECGFounder."""

# No postponed annotations here or in any configuration, because ``@strict`` can't resolve them.

from itertools import pairwise
from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_hf.models.configuration import EcgConfig

__all__ = ["EcgFounderConfig"]

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "sampling_rate": 250,
        "num_samples": 2500,
        "stem_channels": 8,
        "channels": [8, 12],
        "depths": [1, 1],
        "kernel_size": 8,
        "group_width": 4,
    },
    "base": {},
    "base-1-lead": {"lead_names": ["I"]},
}
"""Named sizes. ``base`` and ``base-1-lead`` are the published models; ``micro`` is for tests."""


@strict
class EcgFounderConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.EcgFounderModel` and its classifier.

    Defaults are those of the published 12-lead checkpoint; the authors' names are in brackets.

    Args:
        stem_channels: Channels of the first convolution (``base_filters``).
        channels: Channels of each stage (``filter_list``); the last is the embedding's width.
        depths: Blocks of each stage (``m_blocks_list``).
        kernel_size: Width of the stem and of the grouped convolutions.
        stride: Of the stem and of the first block of each stage.
        group_width: Channels of a group of the grouped convolutions (``groups_width``).

    ``initializer_range`` is not used: layers are initialised as torch does [official].

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "ecgfounder"
    presets = PRESETS

    stem_channels: int = 64
    channels: list[int] | tuple[int, ...] = (64, 160, 160, 400, 400, 1024, 1024)
    depths: list[int] | tuple[int, ...] = (2, 2, 2, 3, 3, 4, 4)
    kernel_size: int = 16
    stride: int = 2
    group_width: int = 16

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that everything fits."""
        super().__post_init__(**kwargs)
        self.require(
            0 < len(self.channels) == len(self.depths), "channels and depths differ in number", self.depths
        )
        for name in ("num_samples", "stem_channels", "kernel_size", "stride", "group_width"):
            self.require(getattr(self, name) > 0, f"{name} must be positive", getattr(self, name))
        self.require(
            self.stride <= self.kernel_size,
            f"stride {self.stride} skips samples of kernel {self.kernel_size}",
            self.stride,
        )
        self.require(min(self.depths) > 0, "each stage needs a block", self.depths)
        widths = (self.stem_channels, *self.channels)
        narrowing = any(after < before for before, after in pairwise(widths))
        self.require(not narrowing, f"channels {widths} must not decrease", self.channels)
        fit = all(width % self.group_width == 0 and width > 1 for width in self.channels)
        self.require(fit, f"groups of {self.group_width} do not divide {self.channels}", self.group_width)

    @property
    def hidden_size(self) -> int:
        """Width of the pooled output."""
        return self.channels[-1]

    @property
    def num_hidden_layers(self) -> int:
        """Blocks of all stages."""
        return sum(self.depths)

    @property
    def patch_size(self) -> int:
        """Samples per token."""
        return int(self.stride ** (len(self.channels) + 1))
