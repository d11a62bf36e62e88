"""Configuration of ACL-ECG; everything the available sources leave open is a field."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from ecg_hf.models.acl_ecg.regions_acl_ecg import default_leads, group_leads
from ecg_hf.models.configuration import EcgConfig
from ecg_hf.processing.r_peaks import max_peaks_in

__all__ = ["VARIANTS", "AclEcgConfig"]

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "sampling_rate": 100,
        "num_samples": 1000,
        "channels": [4, 8, 16],
        "depths": [1, 1, 1],
        "stem_kernel_size": 9,
        "stem_stride": 4,
        "projector_sizes": [32, 32],
    },
    "tiny": {
        "sampling_rate": 100,
        "num_samples": 1000,
        "channels": [8, 16, 32, 64],
        "depths": [1, 1, 1, 1],
        "stem_kernel_size": 7,
        "stem_stride": 2,
        "projector_sizes": [256, 128],
    },
    "base": {},
}
"""Named sizes. ``base`` is the published method as far as we know it; ``tiny`` is for two CPU cores, ``micro`` for
tests."""

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "rate-safe": {"crop_ratio": [0.85, 1.0]},
    "random-regions": {"region_grouping": "random"},
    "clinical12": {"region_grouping": "clinical12"},
    "intra-only": {"gamma": 1.0},
    "inter-only": {"gamma": 0.0},
}
"""The method with other views or regions, or one of its two terms. ``rate-safe`` lowers the apparent heart rate by at
most 15 %; ``random-regions`` is the control for anatomy: the same leads in regions drawn by ``partition_seed``."""


@strict
class AclEcgConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.AclEcgModel` and its heads.

    No official code is public, and the paper's body was available only through third parties. [paper] marks what they
    report from its equations and tables; [inferred, family] what the same author's earlier code (LCD, LFBT,
    ELIC) does; [inferred] what this package chose. The optimiser is in the recipe
    (``ecg_hf/training/recipes/acl_ecg.yaml``).

    Args:
        sampling_rate: [inferred, family] Hertz; 2048 samples in 10 s.
        num_samples: [inferred, family] Samples per lead.
        lead_names: Leads, each in exactly one region; those of ``region_grouping`` if not given, for the paper's
            grouping II, III, V1 to V6 [paper].
        region_grouping: ``anatomical`` [paper, Eq. 7], ``clinical12`` [inferred] (11 leads, aVR in no region) or
            ``random``, a control.
        partition_seed: Which random partition.
        share_lead_encoder: [inferred] One encoder for all leads (as LCD) instead of one each (as LFBT and ELIC).
        channels: [inferred, family] Channels of each stage of a lead's encoder; the last is its embedding's width.
        depths: [inferred, family] Convolutions of each stage.
        kernel_size: [inferred, family] Width of the convolutions.
        stem_kernel_size: [inferred, family] Width of the first convolution.
        stem_stride: [inferred, family] Stride of the first convolution; above 1 in the small presets, to save time.
        projector_sizes: [inferred, family] Hidden widths and output width of each region's projector. That every
            region has its own is [paper, Eq. 8].
        temperature: tau, 0.1 [paper].
        gamma: Weight of the intra-region term; the inter-region term has 1 - gamma. 0.5 [paper].
        region_reduction: ``sum`` [paper, Eqs. 10 and 11: over regions, and over pairs divided by regions - 1] or
            ``mean``; they differ by the number of regions in both terms.
        gather_negatives: [inferred] Negatives from all processes, with exact gradients.
        views_together: [inferred] Encode both views as one batch, so that batch norm sees both; False is two passes.
        crop_ratio: [inferred, family] Range of the scale crop's length as a share of the record.
        mask_mode: [inferred] ``within`` masks a window of each cardiac cycle, ``cycle`` whole cycles.
        mask_ratio: [inferred] Range of the masked share of each cycle, one draw per view (``within``).
        cycle_probability: [inferred] Share of masked cycles (``cycle``).
        min_cycle_s: [inferred] Cycles shorter than this are not masked.
        r_peak_guard_s: [inferred] Unmasked seconds on both sides of each R peak, to allow for inexact detectors.
        min_cycle_coverage: [inferred] Views of which cycles cover less than this share are masked blindly ...
        fallback_windows: [inferred] ... once in each of this many equal parts, except where R peaks are known.
        max_shift_s: [inferred] Largest shift to either side.

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "acl-ecg"
    presets = PRESETS
    variants = VARIANTS

    sampling_rate: float | int = 204.8
    num_samples: int = 2048
    region_grouping: Literal["anatomical", "clinical12", "random"] = "anatomical"
    partition_seed: int = 0

    share_lead_encoder: bool = False
    channels: list[int] | tuple[int, ...] = (8, 16, 32, 64, 64)
    depths: list[int] | tuple[int, ...] = (2, 2, 3, 3, 3)
    kernel_size: int = 3
    stem_kernel_size: int = 3
    stem_stride: int = 1
    projector_sizes: list[int] | tuple[int, ...] = (2048, 2048, 2048)

    temperature: float | int = 0.1
    gamma: float | int = 0.5
    region_reduction: Literal["sum", "mean"] = "sum"
    gather_negatives: bool = True
    views_together: bool = True

    crop_ratio: list[float | int] | tuple[float | int, ...] = (0.5, 1.0)
    mask_mode: Literal["within", "cycle"] = "within"
    mask_ratio: list[float | int] | tuple[float | int, ...] = (0.1, 0.3)
    cycle_probability: float | int = 0.15
    min_cycle_s: float | int = 0.15
    r_peak_guard_s: float | int = 0.02
    min_cycle_coverage: float | int = 0.5
    fallback_windows: int = 4
    max_shift_s: float | int = 0.5

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in the grouping's leads and check that everything fits."""
        if self.lead_names is None:
            self.lead_names = default_leads(self.region_grouping)
        super().__post_init__(**kwargs)
        self._check()

    def _check(self) -> None:
        grouped = [lead for leads in self.regions.values() for lead in leads]
        homeless = [lead for lead in self.lead_names or () if lead not in grouped]
        self.require(
            not homeless, f"no region of {self.region_grouping} holds lead {', '.join(homeless)}", homeless
        )
        empty = [name for name, leads in self.regions.items() if not leads]
        self.require(not empty, f"no lead for region {', '.join(empty)}", empty)
        self.require(
            0 < len(self.channels) == len(self.depths), "channels and depths differ in length", self.depths
        )
        self.require(
            all(size > 0 for size in (*self.channels, *self.depths)), "channels and depths must be positive"
        )
        for name in ("kernel_size", "stem_kernel_size"):
            value = getattr(self, name)
            self.require(value > 0 and value % 2 == 1, f"{name} must be odd", value)
        self.require(self.stem_stride > 0, "stem_stride must be positive", self.stem_stride)
        self.require(
            self.num_samples >= self.samples_per_step,
            f"num_samples {self.num_samples} leaves no step after pooling by {self.samples_per_step}",
            self.num_samples,
        )
        self.require(
            len(self.projector_sizes) > 0 and all(size > 0 for size in self.projector_sizes),
            "projector_sizes must be positive",
            self.projector_sizes,
        )
        self.require(self.temperature > 0.0, "temperature must be positive", self.temperature)
        self.require(0.0 <= self.gamma <= 1.0, "gamma must be in [0, 1]", self.gamma)
        self.require(
            len(self.crop_ratio) == 2 and 0.0 < self.crop_ratio[0] <= self.crop_ratio[1] <= 1.0,
            "crop_ratio must be a range inside (0, 1]",
            self.crop_ratio,
        )
        self.require(
            len(self.mask_ratio) == 2 and 0.0 <= self.mask_ratio[0] <= self.mask_ratio[1] < 1.0,
            "mask_ratio must be a range inside [0, 1)",
            self.mask_ratio,
        )
        self.require(0.0 <= self.cycle_probability <= 1.0, "cycle_probability must be in [0, 1]")
        for name in ("min_cycle_s", "r_peak_guard_s", "max_shift_s"):
            value = getattr(self, name)
            self.require(value >= 0.0, f"{name} must not be negative", value)
        self.require(self.fallback_windows > 0, "fallback_windows must be positive", self.fallback_windows)

    @property
    def regions(self) -> dict[str, tuple[str, ...]]:
        """Leads of each region."""
        return group_leads(self.region_grouping, self.lead_names or (), self.partition_seed)

    @property
    def hidden_size(self) -> int:
        """Width of the pooled output: the embeddings of all leads, concatenated."""
        return self.num_leads * self.channels[-1]

    @property
    def num_hidden_layers(self) -> int:
        """Stages of a lead's encoder."""
        return len(self.channels)

    @property
    def samples_per_step(self) -> int:
        """Samples per step of the encoders' output."""
        return int(self.stem_stride * 2 ** len(self.channels))

    @property
    def max_r_peaks(self) -> int:
        """Most R peaks of one record, as the feature extractor counts them."""
        return max_peaks_in(self.num_samples, float(self.sampling_rate))

    @property
    def intra_region_weight(self) -> float:
        """Weight of the intra-region term in the loss."""
        return float(self.gamma)

    @property
    def inter_region_weight(self) -> float:
        """Weight of the inter-region term in the loss."""
        return 1.0 - float(self.gamma)
