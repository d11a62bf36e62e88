"""Configuration of SimCLR."""

from huggingface_hub.dataclasses import strict

from ecg_hf.models.joint_embedding.configuration import JointEmbeddingConfig

__all__ = ["SimClrConfig"]


@strict
class SimClrConfig(JointEmbeddingConfig):
    """Configuration of SimCLR; fields of the family are in :class:`JointEmbeddingConfig`.

    From the paper: the loss, its temperature of 0.1, a projector of one hidden layer with an output of width 128 that
    is thrown away after pretraining. Inferred: views, backbone, and the hidden width of 512, that of the default
    backbone, as the paper's is that of its own.

    Args:
        temperature: Divides the cosine similarities.

    """

    model_type = "simclr"

    temperature: float | int = 0.1

    def __post_init__(self, **kwargs: object) -> None:
        """Check the temperature."""
        super().__post_init__(**kwargs)
        self.require(self.temperature > 0.0, "temperature must be positive", self.temperature)
