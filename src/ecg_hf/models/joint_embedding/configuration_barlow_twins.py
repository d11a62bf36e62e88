"""Configuration of Barlow Twins."""

from huggingface_hub.dataclasses import strict

from ecg_hf.models.joint_embedding.configuration import BASE_100HZ, MICRO, TINY, JointEmbeddingConfig

__all__ = ["BarlowTwinsConfig"]


@strict
class BarlowTwinsConfig(JointEmbeddingConfig):
    """Configuration of Barlow Twins; fields of the family are in :class:`JointEmbeddingConfig`.

    From the paper: the loss and its weight, a wide projector of two hidden layers. Inferred: widths of 2048 (8192
    in the paper), views, backbone.

    Args:
        invariance_weight: Of the diagonal.
        redundancy_weight: Of what is off the diagonal; lambda, 0.0051 in the paper.

    """

    model_type = "barlow-twins"
    presets = {
        "micro": {**MICRO, "projector_sizes": [32, 32]},
        "tiny": {**TINY, "projector_sizes": [512, 512, 512]},
        "base-100hz": BASE_100HZ,
        "base": {},
    }

    projector_sizes: list[int] | tuple[int, ...] = (2048, 2048, 2048)
    projector_last_norm: bool = True
    invariance_weight: float | int = 1.0
    redundancy_weight: float | int = 0.0051
