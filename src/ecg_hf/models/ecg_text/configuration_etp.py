"""Configuration of ETP."""

from huggingface_hub.dataclasses import strict

from ecg_hf.models.ecg_text.configuration import EcgTextConfig

__all__ = ["EtpConfig"]


@strict
class EtpConfig(EcgTextConfig):
    """Configuration of :class:`~ecg_hf.EtpModel`; fields are those of :class:`EcgTextConfig`.

    Re-derived: no official code is known. From the paper: a ResNet-18 in one dimension, a frozen clinical BERT,
    linear projections and the symmetric contrast of records and reports. Inferred: the width of 256 and the
    temperature of 0.07, both MERL's, and the stem and stages of the network, which are MERL's too.
    """

    model_type = "etp"
