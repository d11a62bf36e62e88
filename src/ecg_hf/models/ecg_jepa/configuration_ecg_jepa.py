"""Configuration of ECG-JEPA."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from ecg_hf.models.configuration import EcgConfig
from ecg_hf.signal.leads import normalize_lead_names

__all__ = ["JEPA_LEADS", "EcgJepaConfig"]

JEPA_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
"""The leads of the published model; the other four are linear combinations of I and II."""

MASK_SCALES = {"random": (0.6, 0.7), "block": (0.175, 0.225)}
"""Published range of the share of moments that is hidden: in all, and by each block."""

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "sampling_rate": 100,
        "num_samples": 1000,
        "patch_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "predictor_hidden_size": 32,
        "predictor_num_layers": 1,
        "predictor_num_attention_heads": 4,
        "predictor_intermediate_size": 64,
        "drop_path_rate": 0.0,
        "initializer_range": 0.1,
    },
    "tiny": {
        "hidden_size": 192,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "intermediate_size": 768,
        "predictor_hidden_size": 96,
        "predictor_num_layers": 3,
        "predictor_num_attention_heads": 3,
        "predictor_intermediate_size": 384,
        "initializer_range": 0.04,
    },
    "base": {},
}
"""Named sizes. ``base`` is the published one. The others start with weights that keep the gain which 0.02 has at a
width of 768 (0.02 * sqrt(768 / width)); everything about them is our choice."""


@strict
class EcgJepaConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.EcgJepaModel` and its heads.

    Defaults are those of the official pretraining script with ``--mask_type block``, unless marked inferred.

    Args:
        table_lead_names: Leads the position table has rows for, in its order. ``lead_names`` may be any of them: a
            pretrained model takes fewer leads, or another order, by ``lead_names`` alone. If not given, the eight of
            the published model if they include ``lead_names``, else ``lead_names`` themselves (inferred; the
            authors use only the eight).
        patch_size: Samples per patch.
        hidden_size: Token width, a multiple of 4.
        num_hidden_layers: Encoder layers.
        num_attention_heads: Encoder heads.
        intermediate_size: Width of the encoder's MLPs.
        patch_initializer_range: Standard deviation of the patch projection's first weights; ``initializer_range`` if
            not given, as published. Positions of size 0.7 are added before every block, beside which the signal
            almost vanishes at 0.02: the first few hundred steps then learn to predict positions. Larger values
            (inferred) give small, short runs targets that depend on the record from the start.
        layer_norm_eps: Epsilon of layer norms, that of the targets included.
        drop_path_rate: Stochastic depth of the last layer of encoder and predictor; linear from 0 at the first.
        attention_layout: ``masked`` (any kernel, with a boolean mask), ``factorised`` (the same numbers without
            computing pairs that do not attend) or ``auto``: factorised on the CPU for grids from about 8 x 40 on,
            masked otherwise, see :func:`ecg_hf.nn.cropa.factorised_is_faster`. With the eager kernel, or if
            attention weights are asked for, it is always masked.
        predictor_hidden_size: Width of the predictor, a multiple of 4.
        predictor_num_layers: Its layers.
        predictor_num_attention_heads: Its heads.
        predictor_intermediate_size: Width of its MLPs.
        mask_strategy: ``block`` (union of some blocks of time) or ``random``.
        mask_scale: Range of the share of moments hidden in all (``random``) or by each block (``block``); the
            published one of the strategy if not given.
        num_mask_blocks: Blocks of ``block``.
        mask_last_patch: Let blocks reach the last patch. False matches the official code, which has an off-by-one
            error.
        mask_per: One mask for the whole ``batch`` (official) or one for each ``sample`` (inferred), see
            :func:`ecg_hf.nn.masks.time.draw_time_mask`.
        ema_momentum: Momentum of the teacher at the first step ...
        ema_momentum_end: ... and at the last; linear in between.
        target_drop_path: Whether the teacher drops paths while training. True is the published training, by an
            oversight of the official code; False is the convention elsewhere.

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "ecg-jepa"
    presets = PRESETS

    sampling_rate: float | int = 250
    num_samples: int = 2500
    table_lead_names: list[str] | tuple[str, ...] | None = None

    patch_size: int = 50
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 16
    intermediate_size: int = 3072
    patch_initializer_range: float | int | None = None
    layer_norm_eps: float = 1e-5
    drop_path_rate: float | int = 0.1
    attention_layout: Literal["auto", "masked", "factorised"] = "auto"

    predictor_hidden_size: int = 384
    predictor_num_layers: int = 6
    predictor_num_attention_heads: int = 12
    predictor_intermediate_size: int = 1536

    mask_strategy: Literal["block", "random"] = "block"
    mask_scale: list[float] | tuple[float, ...] | None = None
    num_mask_blocks: int = 4
    mask_last_patch: bool = False
    mask_per: Literal["batch", "sample"] = "batch"
    ema_momentum: float | int = 0.996
    ema_momentum_end: float | int = 1.0
    target_drop_path: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in derived values and check that everything fits."""
        if self.lead_names is None:
            self.lead_names = self.table_lead_names or JEPA_LEADS
        super().__post_init__(**kwargs)
        if self.table_lead_names is None:
            known = set(self.lead_names) <= set(JEPA_LEADS)
            self.table_lead_names = JEPA_LEADS if known else self.lead_names
        self.table_lead_names = list(normalize_lead_names(self.table_lead_names))
        if self.mask_scale is None:
            self.mask_scale = MASK_SCALES[self.mask_strategy]
        self.mask_scale = [float(share) for share in self.mask_scale]
        self._check()

    def _check(self) -> None:
        self.require(self.patch_size > 0, "patch_size must be positive", self.patch_size)
        self.require(
            self.num_samples > 0 and self.num_samples % self.patch_size == 0,
            f"num_samples {self.num_samples} is not a positive multiple of patch_size {self.patch_size}",
            self.num_samples,
        )
        for part in ("", "predictor_"):
            width, heads = getattr(self, f"{part}hidden_size"), getattr(self, f"{part}num_attention_heads")
            self.require(width > 0 and width % 4 == 0, f"{part}hidden_size must be a multiple of 4", width)
            self.require(heads > 0 and width % heads == 0, f"{heads} heads do not divide {width}", heads)
        self.require(
            0.0 <= self.drop_path_rate < 1.0, "drop_path_rate must be in [0, 1)", self.drop_path_rate
        )
        self.require(
            0.0 <= self.ema_momentum <= self.ema_momentum_end <= 1.0,
            f"ema_momentum must rise from {self.ema_momentum} to ema_momentum_end within [0, 1]",
            self.ema_momentum_end,
        )
        assert self.mask_scale is not None
        scale = self.mask_scale
        self.require(
            len(scale) == 2 and 0.0 < scale[0] <= scale[1] < 1.0,
            f"mask_scale must be two rising shares in (0, 1), got {scale}",
            scale,
        )
        self.require(self.num_mask_blocks > 0, "num_mask_blocks must be positive", self.num_mask_blocks)
        self.require(
            int(scale[0] * self.num_patches) > 0,
            f"mask_scale {scale} hides nothing of {self.num_patches} patches",
            scale,
        )
        most = int(scale[1] * self.num_patches) * (self.num_mask_blocks if self.mask_last_patch else 1)
        self.require(
            self.mask_strategy == "random" or most < self.num_patches,
            f"{self.num_mask_blocks} blocks of mask_scale {scale} may hide all of {self.num_patches} patches",
            scale,
        )
        _ = self.lead_rows

    @property
    def num_patches(self) -> int:
        """Patches per lead."""
        return self.num_samples // self.patch_size

    @property
    def lead_rows(self) -> list[int]:
        """Row of each lead of ``lead_names`` in the position table.

        Raises:
            ConfigurationError: if one of them is not in the table.
        """
        table, names = list(self.table_lead_names or ()), normalize_lead_names(self.lead_names or ())
        for name in names:
            self.require(name in table, f"no position for lead {name}; known: {', '.join(table)}", name)
        return [table.index(name) for name in names]
