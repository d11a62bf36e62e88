"""Configuration of CLOCS."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from ecg_hf.models.joint_embedding.configuration import (
    VARIANTS,
    CnnFields,
    JointEmbeddingConfig,
    as_entry,
)

__all__ = ["ClocsConfig"]

FIRST_HALF: dict[str, Any] = {"op": "segment", "start": [0.0, 0.0], "length": 0.5}
SECOND_HALF: dict[str, Any] = {"op": "segment", "start": [0.5, 0.5], "length": 0.5}
ANY_HALF: dict[str, Any] = {"op": "segment", "start": [0.0, 0.5], "length": 0.5}

LEADWISE: dict[str, Any] = {
    "backbone": as_entry(
        CnnFields(
            type="cnn",
            channels=[4, 16, 32],
            kernel_size=7,
            strides=[3, 3, 3],
            dropout=0.1,
            leadwise=True,
            width=256,
        )
    ),
    "projector_sizes": [256],
}


@strict
class ClocsConfig(JointEmbeddingConfig):
    """Configuration of CLOCS; fields of the family are in :class:`JointEmbeddingConfig`.

    From the paper: what is compared, that all recordings of a patient are positives, no other augmentation, the
    temperature of 0.1, and for ``cmlc`` and ``cmsmlc`` one small network that reads each lead by itself, with
    embeddings of width 256. Inferred: ``cmsc`` as the default, on all leads at once, with the family's backbone and a
    projector; that ``cmlc`` takes another half of a record each time.

    Differs from official code: convolutions are padded, and the last layer is applied to each step and averaged
    instead of reading a flattened signal of 5 s, so that signals of any length fit.

    Args:
        contrast: ``segments`` compares the two views of a record, ``leads`` the leads of the first,
            ``segments_leads`` the leads of both; the latter two need a ``leadwise`` backbone.
        temperature: Divides the cosine similarities.
    """

    model_type = "clocs"
    variants = {
        **{name: VARIANTS[name] for name in ("full", "vit", "xresnet1d")},
        "cmsc": {},
        "cmlc": {**LEADWISE, "contrast": "leads", "views": [ANY_HALF]},
        "cmsmlc": {**LEADWISE, "contrast": "segments_leads"},
    }

    views: list[dict[str, Any]] | tuple[dict[str, Any], ...] = (FIRST_HALF,)
    second_views: list[dict[str, Any]] | tuple[dict[str, Any], ...] | None = (SECOND_HALF,)
    projector_sizes: list[int] | tuple[int, ...] = (512, 256)
    contrast: Literal["segments", "leads", "segments_leads"] = "segments"
    temperature: float | int = 0.1

    def __post_init__(self, **kwargs: object) -> None:
        """Check the temperature, and that leads are compared where they are read one by one."""
        super().__post_init__(**kwargs)
        self.require(self.temperature > 0.0, "temperature must be positive", self.temperature)
        leadwise = getattr(self.backbone_fields, "leadwise", False)
        self.require(
            self.contrast == "segments" or leadwise,
            f"contrast {self.contrast} needs a leadwise backbone",
            self.contrast,
        )
