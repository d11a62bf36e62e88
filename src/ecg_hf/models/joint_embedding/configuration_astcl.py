"""Configuration of ASTCL."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_hf.models.joint_embedding.configuration import (
    BASE_100HZ,
    MICRO,
    MICRO_CONTEXT,
    TINY,
    VARIANTS,
    TemporalConfig,
)

__all__ = ["AstclConfig"]

NOISY: tuple[dict[str, Any], ...] = (
    {"op": "wander", "snr_db": [6.0, 24.0], "p": 0.5},
    {"op": "noise", "above_hz": 20.0, "snr_db": [6.0, 24.0], "p": 0.5},
    {"op": "powerline", "snr_db": [6.0, 24.0], "p": 0.5},
)
DENOISED: tuple[dict[str, Any], ...] = ({"op": "bandpass", "low_hz": 0.5, "high_hz": 40.0},)


@strict
class AstclConfig(TemporalConfig):
    """Configuration of ASTCL; the other fields are in :class:`TemporalConfig` and :class:`JointEmbeddingConfig`.

    From the paper's abstract: a noisy and a denoised view; a discriminator that the encoder plays against;
    prediction in time; agreement of a patient's pairs alone, with a predictor and stop-gradient against collapse.
    **Inferred, for lack of the full text and of code: everything else.** Wander, noise of muscles and of the mains at
    6 to 24 dB, each in half of the records; a band-pass as denoising; SimSiam's heads and loss; TS-TCC's network of
    the contexts, whose predictions are compared by their cosine; gradient reversal with a constant weight.

    Args:
        discriminator_size: Hidden width of the network that tells noisy from denoised embeddings.
        patient_weight: Weight of the agreement of patients.
        temporal_weight: Weight of the prediction.
        adversarial_weight: Weight of the discriminator, and of what the encoder does against it.
    """

    model_type = "astcl"
    presets = {
        "micro": {
            **MICRO,
            **MICRO_CONTEXT,
            "projector_sizes": [32, 32, 32],
            "predictor_sizes": [16],
            "discriminator_size": 16,
        },
        "tiny": {**TINY, "projector_sizes": [192, 192, 192], "predictor_sizes": [48], "context_layers": 2},
        "base-100hz": BASE_100HZ,
        "base": {},
    }
    variants = {
        **{name: VARIANTS[name] for name in ("full", "vit", "xresnet1d")},
        "no-adversary": {"adversarial_weight": 0.0},
        "no-prediction": {"temporal_weight": 0.0},
    }

    views: list[dict[str, Any]] | tuple[dict[str, Any], ...] = NOISY
    second_views: list[dict[str, Any]] | tuple[dict[str, Any], ...] | None = DENOISED
    projector_sizes: list[int] | tuple[int, ...] = (512, 512, 512)
    projector_last_norm: bool = True
    predictor_sizes: list[int] | tuple[int, ...] | None = (128,)
    discriminator_size: int = 128
    patient_weight: float | int = 1.0
    temporal_weight: float | int = 1.0
    adversarial_weight: float | int = 0.1

    def __post_init__(self, **kwargs: object) -> None:
        """Check the discriminator's width."""
        super().__post_init__(**kwargs)
        fits = self.discriminator_size > 0
        self.require(fits, "discriminator_size must be positive", self.discriminator_size)
