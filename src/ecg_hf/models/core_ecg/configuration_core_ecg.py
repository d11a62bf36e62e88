"""Configuration of CoRe-ECG; everything the sources leave open is a field."""

from math import pi
from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from ecg_hf.models.configuration import EcgConfig

__all__ = ["INDEPENDENT_LEADS", "VARIANTS", "CoreEcgConfig"]

INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
"""Leads none of which can be computed from the others; III, aVR, aVL and aVF follow from I and II."""

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "no-fda": {"frequency_views": False},
    "no-stdm": {"mask_strategy": "random"},
    "no-contrast": {"contrastive_weight": 0.0},
    "no-reconstruction": {"reconstruction_weight": 0.0},
}
"""Ablations: the method without one of its parts. All of them encode two masked views per record, so that the encoder
sees equally much per step."""

PRESETS: dict[str, dict[str, Any]] = {
    "micro": {
        "sampling_rate": 100,
        "num_samples": 1000,
        "patch_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "initializer_range": 0.1,
        "decoder_hidden_size": 32,
        "decoder_num_layers": 1,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 64,
        "projection_hidden_size": 64,
        "projection_dim": 32,
        "contrastive_weight": 1.0,
    },
    "tiny": {
        "sampling_rate": 100,
        "num_samples": 1000,
        "patch_size": 25,
        "hidden_size": 128,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "initializer_range": 0.05,
        "decoder_hidden_size": 64,
        "decoder_num_layers": 2,
        "decoder_intermediate_size": 256,
        "projection_hidden_size": 256,
        "projection_dim": 128,
    },
    "small": {},
    "base": {
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
}
"""Named sizes. The size of the published model is not known to us; ``small`` is the default of this package.
``micro`` is for tests, ``tiny`` for CPUs, both at 100 Hz."""


@strict
class CoreEcgConfig(EcgConfig):
    """Configuration of :class:`~ecg_hf.CoreEcgModel` and its heads.

    No official code is public, and of the paper (arXiv 2604.11359) only the abstract and what readers of it report
    were available. [paper] marks statements of the abstract, [quoted] those of the readers; **every other value, and
    how the parts work in detail, is inferred**.

    [paper] Contrast and reconstruction are optimised together, the global representation being aligned while
    reconstructing; Frequency Dynamic Augmentation (FDA) perturbs by importance in the frequency domain;
    Spatio-Temporal Dual Masking (STDM) breaks linear dependencies between leads. [quoted] A transformer encoder and
    decoder; STDM drops temporal segments and leads.

    Args:
        sampling_rate: Inferred: 250 Hz.
        num_samples: Inferred: 10 s.
        lead_names: Inferred: the 8 independent leads. 12 leads have rank 8: patches masked lead by lead could be
            computed from other leads. Naming 12 works, but only columns hidden in all leads prevent this.
        patch_size: Samples per patch. Inferred: 0.2 s, a QRS complex and its surroundings.
        normalize_patches: Layer norm on the samples of each patch before the projection, as in ST-MEM. Inferred. It
            hides amplitudes from the encoder.
        hidden_size: Inferred.
        num_hidden_layers: Inferred.
        num_attention_heads: Inferred.
        intermediate_size: Inferred.
        hidden_dropout_prob: Inferred.
        attention_probs_dropout_prob: Inferred.
        layer_norm_eps: Inferred.
        lead_embedding_std: Standard deviation the lead embeddings start with. Inferred; see ``CgDmerConfig``.
        pooled_feature: What ``pooler_output`` is: ``cls`` (the contrasted token) or ``mean`` (of the patch tokens).
            Inferred.
        decoder_hidden_size: Inferred.
        decoder_num_layers: Inferred.
        decoder_num_attention_heads: Inferred.
        decoder_intermediate_size: Inferred.
        reconstruction_source: Reconstruct the ``clean`` record (denoising) or the augmented ``view``. Inferred.
        reconstruction_target: ``patch_zscore`` (MAE, ST-MEM), ``lead_zscore`` or ``raw``. Inferred.
        mask_strategy: ``stdm``, or, as an ablation, ``random`` tokens of all leads and times.
        time_mask_ratio: Share of time columns hidden in all leads; 0.5 [quoted]; inferred: a fixed number.
        lead_drop_probability: Probability of dropping a lead altogether; 0.2 [quoted].
        min_leads_kept: Leads that are never dropped. Inferred.
        stdm_mode: ``union`` hides columns and leads; ``alternate`` one or the other in each step. Inferred.
        random_mask_ratio: Share of tokens hidden by ``random``. Inferred: the share STDM hides on average,
            1 - 0.5 * 0.8.
        frequency_views: Make the two views with FDA; otherwise they differ in their masks only.
        fda_gain_strength: Standard deviation of the log gain of a frequency without importance. Inferred.
        fda_phase_strength: Standard deviation of its phase, in radians. Inferred.
        fda_correlation_hz: Width of the smoothing of gains and phases over frequency. Inferred.
        contrastive_weight: Inferred: gives both terms the same scale at the start (ln(2B - 1) against 1).
        reconstruction_weight: Inferred.
        temperature: Inferred.
        projection_hidden_size: Hidden width of the projector. Inferred.
        projection_dim: Width of the contrasted embeddings. Inferred.

    Raises:
        ConfigurationError: if values contradict each other.
    """

    model_type = "core-ecg"
    presets = PRESETS
    variants = VARIANTS

    sampling_rate: float | int = 250
    num_samples: int = 2500

    patch_size: int = 50
    normalize_patches: bool = True
    hidden_size: int = 384
    num_hidden_layers: int = 12
    num_attention_heads: int = 6
    intermediate_size: int = 1536
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    layer_norm_eps: float = 1e-6
    lead_embedding_std: float | int = 0.5
    pooled_feature: Literal["cls", "mean"] = "cls"

    decoder_hidden_size: int = 256
    decoder_num_layers: int = 4
    decoder_num_attention_heads: int = 4
    decoder_intermediate_size: int = 1024
    reconstruction_source: Literal["clean", "view"] = "clean"
    reconstruction_target: Literal["patch_zscore", "lead_zscore", "raw"] = "patch_zscore"

    mask_strategy: Literal["stdm", "random"] = "stdm"
    time_mask_ratio: float | int = 0.5
    lead_drop_probability: float | int = 0.2
    min_leads_kept: int = 2
    stdm_mode: Literal["union", "alternate"] = "union"
    random_mask_ratio: float | int = 0.6

    frequency_views: bool = True
    fda_gain_strength: float | int = 1.0
    fda_phase_strength: float | int = 0.2 * pi
    fda_correlation_hz: float | int = 1.0

    contrastive_weight: float | int = 0.1
    reconstruction_weight: float | int = 1.0
    temperature: float | int = 0.1
    projection_hidden_size: int = 2048
    projection_dim: int = 256

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in the independent leads and check that everything fits."""
        if self.lead_names is None:
            self.lead_names = list(INDEPENDENT_LEADS)
        super().__post_init__(**kwargs)
        self._check()

    def _check(self) -> None:
        self.require(self.patch_size > 1, "patch_size must be above 1", self.patch_size)
        self.require(
            self.num_samples > 0 and self.num_samples % self.patch_size == 0,
            f"num_samples {self.num_samples} is not a positive multiple of patch_size {self.patch_size}",
            self.num_samples,
        )
        for width, heads in (
            (self.hidden_size, self.num_attention_heads),
            (self.decoder_hidden_size, self.decoder_num_attention_heads),
        ):
            self.require(
                width % heads == 0 and width % 2 == 0, f"width {width} is odd or does not fit {heads} heads"
            )
        for name in ("time_mask_ratio", "random_mask_ratio"):
            ratio = getattr(self, name)
            self.require(0.0 < ratio < 1.0, f"{name} must be in (0, 1)", ratio)
        self.require(
            0.0 <= self.lead_drop_probability < 1.0,
            "lead_drop_probability must be in [0, 1)",
            self.lead_drop_probability,
        )
        spare = 1 if self.stdm_mode == "alternate" else 0
        self.require(
            1 <= self.min_leads_kept <= self.num_leads - spare,
            f"min_leads_kept must be in 1..{self.num_leads - spare}",
            self.min_leads_kept,
        )
        self.require(self.temperature > 0.0, "temperature must be positive", self.temperature)
        for name in (
            "fda_gain_strength",
            "fda_phase_strength",
            "contrastive_weight",
            "reconstruction_weight",
        ):
            self.require(getattr(self, name) >= 0.0, f"{name} must not be negative", getattr(self, name))
        self.require(self.fda_correlation_hz > 0.0, "fda_correlation_hz must be positive")
        self.require(
            self.contrastive_weight > 0.0 or self.reconstruction_weight > 0.0, "both losses are switched off"
        )

    @property
    def num_patches(self) -> int:
        """Patches per lead."""
        return self.num_samples // self.patch_size
