"""Configuration of 3KG."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_hf.models.joint_embedding.configuration import VARIANTS, JointEmbeddingConfig

__all__ = ["ThreeKgConfig"]

ROTATED_AND_MASKED: tuple[dict[str, Any], ...] = (
    {"op": "vcg", "degrees": [-45.0, 45.0], "scale": [1.0, 1.5]},
    {"op": "lead_time_out", "share": 0.5},
)


@strict
class ThreeKgConfig(JointEmbeddingConfig):
    """Configuration of 3KG; fields of the family are in :class:`JointEmbeddingConfig`.

    From the paper's code in fairseq-signals: both views are the record's dipole, rotated by up to 45 degrees and
    scaled by up to 1.5, of which half of each lead is hidden; all records of a patient are positives, each with a
    softmax of its own; a temperature of 0.1. Inferred: projector, backbone (a transformer behind convolutions there).

    Args:
        temperature: Divides the cosine similarities.
    """

    model_type = "3kg"
    variants = {name: VARIANTS[name] for name in ("full", "vit", "xresnet1d")}

    views: list[dict[str, Any]] | tuple[dict[str, Any], ...] = ROTATED_AND_MASKED
    temperature: float | int = 0.1

    def __post_init__(self, **kwargs: object) -> None:
        """Check the temperature."""
        super().__post_init__(**kwargs)
        self.require(self.temperature > 0.0, "temperature must be positive", self.temperature)
