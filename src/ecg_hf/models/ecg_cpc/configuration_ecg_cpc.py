"""Configuration of ECG-CPC."""

# No postponed annotations here or in any configuration, because ``@strict`` can't resolve them.

from math import prod
from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from ecg_hf.models.configuration import EcgConfig

__all__ = ["EcgCpcConfig"]

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "sampling_rate": 100,
        "num_samples": 1000,
        "window_samples": 250,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "hidden_dropout_prob": 0.0,
        "steps_predicted": 6,
        "num_negatives": 16,
        "classifier_num_heads": 4,
    },
    "tiny": {
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "hidden_dropout_prob": 0.1,
        "num_negatives": 64,
        "classifier_num_heads": 4,
    },
    "base": {},
    "base-10s": {"window_samples": None},
}
"""Named sizes. ``base`` is the model of the strategies paper (2605.12241), which sees 2.5 s at a time; ``base-10s``
is ECG-CPC of the benchmark paper (2509.25095), the same network over whole records. ``micro`` is for tests."""


@strict
class EcgCpcConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.EcgCpcModel` and its heads.

    Defaults are those of the official configuration of 2605.12241 unless a line says "inferred".

    Args:
        num_samples: Longest record: 10 s. Shorter ones work too, and longer ones with a larger value or as a stream.
        window_samples: What the network sees at a time: 2.5 s. Pretraining takes one such window of each record,
            inference all of them, none overlapping. None: the whole record in one pass, of any length (ECG-CPC of
            2509.25095).
        hidden_size: Width of stem and context network.
        num_hidden_layers: S4 blocks.
        state_size: Real states per feature.
        stem_kernel_sizes: Of the stem's convolutions; odd.
        stem_strides: Their strides, none larger than the kernel.
        bidirectional: Give the S4 layers a kernel for the future. Not for CPC, whose answer it would reveal.
        hidden_dropout_prob: Tied dropout in the S4 blocks.
        layer_norm_eps: Epsilon of layer norms.
        dt_min: Smallest time step of the state spaces, in tokens.
        dt_max: Largest.
        steps_predicted: How many tokens ahead is predicted: 14 of 120 Hz, 117 ms. (The only distance.)
        num_negatives: Negatives for each position, from the same window.
        clip_mv: Pretraining clips signals to plus or minus this many millivolts; None does not clip. The authors clip
            HEEDB and MIMIC-IV-ECG to 3 mV when they prepare them, and nothing at inference.
        predictor_lr_factor: Factor on the learning rate of the context network; the head has the full rate.
        encoder_lr_factor: The same for the stem.
        classifier_pooling: ``attention`` here: mean-pooled CPC features are weak (PTB-XL superclasses 0.863 against
            0.919, frozen, in the authors' benchmark).
        classifier_num_heads: Heads of that attention.
        freeze_encoder: Classification trains the head alone: stem and context keep their weights, batch statistics
            and have no dropout, in training mode too.

    ``initializer_range`` is not used: convolutions and linear layers are initialised as torch does [inferred].

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "ecg-cpc"
    presets = PRESETS

    sampling_rate: float | int = 240
    num_samples: int = 2400
    window_samples: int | None = 600

    hidden_size: int = 512
    num_hidden_layers: int = 4
    state_size: int = 8
    stem_kernel_sizes: list[int] | tuple[int, ...] = (3, 1, 1, 1)
    stem_strides: list[int] | tuple[int, ...] = (2, 1, 1, 1)
    bidirectional: bool = False
    hidden_dropout_prob: float | int = 0.2
    layer_norm_eps: float = 1e-5
    dt_min: float = 1e-3
    dt_max: float = 0.1

    steps_predicted: int = 14
    num_negatives: int = 128
    clip_mv: float | int | None = None
    predictor_lr_factor: float | int = 0.1
    encoder_lr_factor: float | int = 0.01

    classifier_pooling: Literal["mean", "attention"] = "attention"
    classifier_num_heads: int = 16
    freeze_encoder: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that everything fits."""
        super().__post_init__(**kwargs)
        kernels, strides = tuple(self.stem_kernel_sizes), tuple(self.stem_strides)
        self.require(
            bool(kernels) and len(kernels) == len(strides),
            "stem kernels and strides differ in number",
            (kernels, strides),
        )
        fits = all(k % 2 == 1 and 0 < s <= k for k, s in zip(kernels, strides, strict=True))
        self.require(
            fits, f"stem kernels {kernels} must be odd and no smaller than the strides {strides}", kernels
        )
        self.require(self.num_samples > 0, "num_samples must be positive", self.num_samples)
        window = self.window_samples
        self.require(
            window is None or (window > 0 and window % self.patch_size == 0),
            f"window_samples {window} is not a positive multiple of the stem's stride {self.patch_size}",
            window,
        )
        self.require(self.num_hidden_layers > 0, "there must be a layer", self.num_hidden_layers)
        self.require(self.hidden_size > 0, "hidden_size must be positive", self.hidden_size)
        self.require(self.state_size > 0, "state_size must be positive", self.state_size)
        self.require(
            self.classifier_num_heads > 0 and self.hidden_size % self.classifier_num_heads == 0,
            f"{self.classifier_num_heads} heads do not divide hidden_size {self.hidden_size}",
            self.classifier_num_heads,
        )
        self.require(
            0.0 < self.dt_min <= self.dt_max,
            f"no time steps from {self.dt_min} to {self.dt_max}",
            self.dt_min,
        )
        self.require(
            0.0 <= self.hidden_dropout_prob < 1.0,
            "hidden_dropout_prob must be in [0, 1)",
            self.hidden_dropout_prob,
        )
        self.require(
            0 < self.steps_predicted < self.num_tokens - 1,
            f"steps_predicted {self.steps_predicted} does not fit into {self.num_tokens} tokens",
            self.steps_predicted,
        )
        self.require(self.num_negatives > 0, "there must be a negative", self.num_negatives)
        self.require(self.clip_mv is None or self.clip_mv > 0, "clip_mv must be positive", self.clip_mv)

    @property
    def patch_size(self) -> int:
        """Samples per token."""
        return prod(self.stem_strides)

    @property
    def num_tokens(self) -> int:
        """Tokens of one pass of the network."""
        return -(-(self.window_samples or self.num_samples) // self.patch_size)
