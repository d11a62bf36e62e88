"""Configuration of MERL."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict

from ecg_hf.models.ecg_text.configuration import VARIANTS, EcgTextConfig
from ecg_hf.models.joint_embedding.configuration import MerlVitFields, as_entry

__all__ = ["MerlConfig"]


@strict
class MerlConfig(EcgTextConfig):
    """Configuration of :class:`~ecg_hf.MerlModel`; fields of the family are in :class:`EcgTextConfig`.

    Defaults are those of the official code: a ResNet-18 with an attention pool, 256 columns, temperature 0.07, the
    sum of both directions of each contrast, and a text tower of BERT's size that is not trained. At 100 Hz the stem's
    stride is 1 [inferred]; smaller presets are this package's.

    Args:
        unimodal_weight: Weight of the contrast of two views of each record (UMA) beside that of records and reports
            (CMA), whose is 1; with 0 there are no views.
        view_dropout: Share of each view's columns that is dropped.
    """

    model_type = "merl"
    variants = {
        **VARIANTS,
        "vit": {"backbone": as_entry(MerlVitFields(type="merl_vit")), "ecg_head": "mlp"},
        "without-uma": {"unimodal_weight": 0.0},
    }
    """``vit`` is the official ``vit_tiny``, ``without-uma`` a row of the paper's ablation."""

    ecg_head: Literal["attention", "mlp", "linear"] = "attention"
    text_head: Literal["mlp", "linear"] = "mlp"
    unimodal_weight: float | int = 1.0
    view_dropout: float | int = 0.1

    def __post_init__(self, **kwargs: Any) -> None:
        """Check that everything fits."""
        super().__post_init__(**kwargs)
        self.require(0.0 <= self.view_dropout < 1.0, "view_dropout must be in [0, 1)", self.view_dropout)
