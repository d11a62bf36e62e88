"""Configuration of SimSiam."""

from huggingface_hub.dataclasses import strict

from ecg_hf.models.joint_embedding.configuration import BASE_100HZ, MICRO, TINY, JointEmbeddingConfig

__all__ = ["SimSiamConfig"]


@strict
class SimSiamConfig(JointEmbeddingConfig):
    """Configuration of SimSiam; fields of the family are in :class:`JointEmbeddingConfig`.

    From the paper: the loss, stop-gradient without a teacher, a projector of two hidden layers that ends with a
    batch norm, a predictor that is a bottleneck of a quarter of its width and whose learning rate stays constant.
    Inferred: widths of 512 and 128 (2048 and 512 in the paper, for a backbone four times as wide), views, backbone,
    AdamW.

    Nothing but the stop-gradient keeps SimSiam from collapsing: watch ``embedding_spread``, which is healthy
    between 0.5 and 1.1.
    """

    model_type = "simsiam"
    presets = {
        "micro": {**MICRO, "projector_sizes": [32, 32, 32], "predictor_sizes": [16]},
        "tiny": {**TINY, "projector_sizes": [192, 192, 192], "predictor_sizes": [48]},
        "base-100hz": BASE_100HZ,
        "base": {},
    }

    projector_sizes: list[int] | tuple[int, ...] = (512, 512, 512)
    projector_last_norm: bool = True
    predictor_sizes: list[int] | tuple[int, ...] | None = (128,)
