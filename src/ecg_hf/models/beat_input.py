"""Signals to beats inside a model, for methods whose tokens are beats."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.utils import logging

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.modeling import EcgPreTrainedModel
from ecg_hf.nn.beats import BeatTokens, slice_beats, without_missing_leads

__all__ = ["cut_beats"]

logger = logging.get_logger(__name__)


def cut_beats(
    model: EcgPreTrainedModel,
    input_values: Tensor,
    lead_mask: Tensor | None = None,
    sample_mask: Tensor | None = None,
    r_peaks: Tensor | None = None,
    *,
    beats_per_lead: int,
    evenly_spaced: int | None = None,
) -> BeatTokens:
    """Cut the beats; slots of missing leads are zeros and not marked as beats.

    Args:
        model: Whose inputs they are; its configuration has ``beat_length``.
        input_values: float ``(batch, leads, samples)``.
        lead_mask: ``(batch, leads)``, 0 for missing leads.
        sample_mask: ``(batch, samples)``, 0 for padding.
        r_peaks: int64 ``(batch, any)``, padded with -1. Without it records are cut evenly, with a warning.
        beats_per_lead: Slots per lead.
        evenly_spaced: See :func:`ecg_hf.nn.beats.slice_beats`.

    Raises:
        ConfigurationError: if the shapes do not fit.
    """
    config = model.config
    model.check_input_values(input_values)
    if input_values.shape[-1] < 1:
        raise ConfigurationError(
            f"{input_values.shape[-1]} samples are not within 1..{config.num_samples}",
            value=input_values.shape[-1],
        )
    if r_peaks is None and not torch.compiler.is_compiling():
        logger.warning_once(
            "No r_peaks were given: records are cut into windows of equal distance instead of beats. The feature "
            "extractor returns them."
        )
    tokens = slice_beats(
        input_values,
        r_peaks,
        beats_per_lead=beats_per_lead,
        beat_length=config.beat_length,
        sampling_rate=float(config.sampling_rate),
        sample_mask=sample_mask,
        evenly_spaced=evenly_spaced,
    )
    return without_missing_leads(tokens, lead_mask)
