"""Configuration of BYOL."""

from huggingface_hub.dataclasses import strict

from ecg_hf.models.joint_embedding.configuration import BASE_100HZ, MICRO, TINY, JointEmbeddingConfig

__all__ = ["ByolConfig"]


@strict
class ByolConfig(JointEmbeddingConfig):
    """Configuration of BYOL; fields of the family are in :class:`JointEmbeddingConfig`.

    From the paper: the loss, projector and predictor of one hidden layer with batch norm and an output of width
    256, a teacher that follows with a momentum of 0.996, which rises to 1 by a cosine. Inferred: hidden widths of
    1024 (4096 in the paper, for a backbone four times as wide), views, backbone. For small batches a momentum of
    0.99 is common.

    The teacher's batch norms go by the batch, as the paper's. Its parameters follow, and its running statistics are
    the student's.
    """

    model_type = "byol"
    presets = {
        "micro": {**MICRO, "predictor_sizes": [32]},
        "tiny": {**TINY, "predictor_sizes": [384], "ema_start": 0.99},
        "base-100hz": BASE_100HZ,
        "base": {},
    }

    projector_sizes: list[int] | tuple[int, ...] = (1024, 256)
    predictor_sizes: list[int] | tuple[int, ...] | None = (1024,)
    ema_start: float | int | None = 0.996
