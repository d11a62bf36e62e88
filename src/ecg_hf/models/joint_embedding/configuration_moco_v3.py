"""Configuration of MoCo v3."""

from huggingface_hub.dataclasses import strict

from ecg_hf.models.joint_embedding.configuration import (
    BASE_100HZ,
    MICRO,
    TINY,
    VARIANTS,
    JointEmbeddingConfig,
)

__all__ = ["MoCoV3Config"]


@strict
class MoCoV3Config(JointEmbeddingConfig):
    """Configuration of MoCo v3; fields of the family are in :class:`JointEmbeddingConfig`.

    From the official code: the loss, batch norms at the ends of the heads, and which heads have them: with a ResNet
    the projector, of one hidden layer; with a transformer (variant ``vit``) the projector, of two, and the
    predictor, and the projection of patches stays as it was drawn. The teacher's momentum rises from 0.99 to 1 by a
    cosine. Inferred: hidden widths of 2048 (4096 in the paper), the temperature of 0.2 also for the ResNet (1 in
    the paper), views, backbone.

    Differs from official code: the teacher moves after the optimiser step, not before the next one's forward pass,
    which is the same but for gradient accumulation, where the official code would move it for every micro-batch.
    Where the predictor does not end with a batch norm its last layer has a bias.

    Args:
        temperature: Divides the cosine similarities.
        freeze_patch_embedding: Keep the layer that reads the signal as it was drawn.
    """

    model_type = "moco-v3"
    presets = {
        "micro": {**MICRO, "predictor_sizes": [32]},
        "tiny": {**TINY, "predictor_sizes": [384]},
        "base-100hz": BASE_100HZ,
        "base": {},
    }
    variants = {
        **VARIANTS,
        "vit": {
            **VARIANTS["vit"],
            "projector_sizes": [2048, 2048, 256],
            "predictor_sizes": [2048],
            "predictor_last_norm": True,
            "freeze_patch_embedding": True,
        },
    }

    projector_sizes: list[int] | tuple[int, ...] = (2048, 256)
    projector_last_norm: bool = True
    predictor_sizes: list[int] | tuple[int, ...] | None = (2048,)
    ema_start: float | int | None = 0.99
    temperature: float | int = 0.2
    freeze_patch_embedding: bool = False

    def __post_init__(self, **kwargs: object) -> None:
        """Check the temperature."""
        super().__post_init__(**kwargs)
        self.require(self.temperature > 0.0, "temperature must be positive", self.temperature)
