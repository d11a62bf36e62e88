"""Configuration of TS-TCC."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_hf.models.joint_embedding.configuration import (
    BASE_100HZ,
    MICRO,
    MICRO_CONTEXT,
    TINY,
    VARIANTS,
    CnnFields,
    TemporalConfig,
    as_entry,
)

__all__ = ["TsTccConfig"]

WEAK: tuple[dict[str, Any], ...] = ({"op": "scaling", "std": 0.1},)
STRONG: tuple[dict[str, Any], ...] = (
    {"op": "permutation", "segments": 5},
    {"op": "noise", "std": 0.05},
)


@strict
class TsTccConfig(TemporalConfig):
    """Configuration of TS-TCC; the other fields are in :class:`TemporalConfig` and :class:`JointEmbeddingConfig`.

    From the official code: a weak view that is scaled and a strong one that is permuted and noisy, both losses and
    their weights, the projector, the temperature of 0.2; with the variant ``cnn`` its backbone. Inferred: the ranges
    of the views, milder than for its own signals, and the family's backbone.

    Differs from official code: a view is scaled about 1, not 2; a permutation moves each lead, where the code copies
    the first lead into all of them; one optimiser.

    Args:
        temperature: Divides the cosine similarities of the contexts.
        temporal_weight: Weight of the prediction, which is added over both directions.
        contextual_weight: Weight of the contrast of contexts.
    """

    model_type = "ts-tcc"
    presets = {
        "micro": {**MICRO, **MICRO_CONTEXT},
        "tiny": {**TINY, "projector_sizes": [64, 32], "context_layers": 2},
        "base-100hz": BASE_100HZ,
        "base": {},
    }
    variants = {
        **{name: VARIANTS[name] for name in ("full", "vit", "xresnet1d")},
        "cnn": {"backbone": as_entry(CnnFields(type="cnn")), "feature_size": None},
    }

    views: list[dict[str, Any]] | tuple[dict[str, Any], ...] = WEAK
    second_views: list[dict[str, Any]] | tuple[dict[str, Any], ...] | None = STRONG
    projector_sizes: list[int] | tuple[int, ...] = (64, 32)
    temperature: float | int = 0.2
    temporal_weight: float | int = 1.0
    contextual_weight: float | int = 0.7

    def __post_init__(self, **kwargs: object) -> None:
        """Check the temperature."""
        super().__post_init__(**kwargs)
        self.require(self.temperature > 0.0, "temperature must be positive", self.temperature)
