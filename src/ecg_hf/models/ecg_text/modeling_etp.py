"""ETP: a convolutional network and a clinical BERT, aligned by linear projections (arXiv 2309.07145)."""

from __future__ import annotations

from ecg_hf.models.ecg_text.configuration_etp import EtpConfig
from ecg_hf.models.ecg_text.modeling import (
    EcgTextForEcgClassification,
    EcgTextForPreTraining,
    EcgTextModel,
)

__all__ = ["EtpForEcgClassification", "EtpForPreTraining", "EtpModel"]


class EtpModel(EcgTextModel):
    """Backbone, text tower and two linear projections."""

    config_class = EtpConfig


class EtpForPreTraining(EcgTextForPreTraining):
    """The symmetric contrast of records and reports."""

    config_class = EtpConfig
    model_class = EtpModel


class EtpForEcgClassification(EcgTextForEcgClassification):
    """The backbone with a linear head."""

    config_class = EtpConfig
    model_class = EtpModel
