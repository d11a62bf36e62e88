"""Cutting long recordings to what the output depends on, so that ten seconds of a day cost ten seconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from transformers.utils import logging

from ecg_hf.processing.inputs import EcgInput
from ecg_hf.processing.report import ReportBuilder
from ecg_hf.processing.windows import Crop, input_window

__all__ = ["cut_to_window"]

# Margins on either side of the window: in seconds for resampling and R peaks, in periods of the cut-off frequency for
# filters to settle.
_MARGIN_S = 2.0
_MARGIN_PERIODS = 8.0
# A recording longer than the window by less than this share is cut without a warning: rounding, not a loss.
_SURPLUS = 0.01

logger = logging.get_logger(__name__)


def cut_to_window(
    item: EcgInput,
    positions: Iterable[int],
    *,
    sampling_rate: float,
    duration_s: float | None,
    crop: Crop,
    highpass_hz: float | None,
    report: ReportBuilder | None,
) -> EcgInput:
    """``item`` with no more samples than ``duration_s`` of output depend on, margins for filters included.

    Args:
        item: A checked input. Not changed.
        positions: Places of its records in the caller's batch.
        sampling_rate: Rate of the output in Hz.
        duration_s: Length of the output in seconds; ``None`` keeps the whole recording.
        crop: Which part of a longer recording is used.
        highpass_hz: Cut-off of the high-pass that follows, the slowest of the filters to settle.
        report: Where to note what was cut.

    Returns:
        The input with its ``window``. Cutting off more than rounding is announced by one warning.

    Raises:
        SamplingRateError: if the rates can't be related.
    """
    margin = _MARGIN_S if highpass_hz is None else max(_MARGIN_S, _MARGIN_PERIODS / highpass_hz)
    samples = int(item.signal.shape[-1])
    n_samples = None if duration_s is None else round(duration_s * sampling_rate)
    window = input_window(samples, item.sampling_rate, sampling_rate, n_samples, crop, margin)
    surplus = 0 if n_samples is None else window.length - n_samples
    where = "first" if crop == "start" else "middle"
    if surplus > 0 and report is not None:
        whole = samples / item.sampling_rate
        report.add(positions, "cropped", f"the {where} {duration_s:g} s of {whole:.4g} s are used")
    if n_samples is not None and surplus > _SURPLUS * n_samples:
        logger.warning_once(
            f"Recordings longer than {duration_s:g} s are cut: of each the {where} {duration_s:g} s are used "
            f"(crop={crop!r}), the rest is ignored."
        )
    return replace(item, signal=item.signal[..., window.first : window.last], window=window)
