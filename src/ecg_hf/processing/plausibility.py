"""Whether amplitudes can be those of an ECG in millivolts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from transformers.utils import logging

from ecg_hf.errors import SignalError
from ecg_hf.processing.backend import Array, ArrayBackend
from ecg_hf.processing.inputs import EcgStack
from ecg_hf.processing.report import ReportBuilder

__all__ = ["MAX_HALF", "check_amplitude", "check_half_precision", "without_variation"]

MAX_HALF = 65504.0
"""Largest finite float16: what is fed to a model must survive being cast to half precision."""

# A signal whose typical peak-to-peak range, in mV, is outside these is hardly an ECG in millivolts.
_PLAUSIBLE_MV = (0.01, 30.0)
# A lead whose whole range is below this (mV, or relative to its offset) carries no signal.
_FLAT = 1e-6

logger = logging.get_logger(__name__)


def check_amplitude(ranges: npt.NDArray[np.float32], stack: EcgStack, report: ReportBuilder | None) -> None:
    """Warn about records that are probably not in millivolts.

    Args:
        ranges: float32 ``(records, leads)``: peak-to-peak range of each lead in mV.
        stack: The records.
        report: Where to note them.
    """
    typical = np.median(ranges, axis=-1)
    # Flat records are refused elsewhere, with a message that fits them better.
    odd = (typical > _PLAUSIBLE_MV[1]) | ((typical > _FLAT) & (typical < _PLAUSIBLE_MV[0]))
    if not odd.any():
        return
    logger.warning_once(
        "An ECG whose leads typically range over less than 0.01 or more than 30 mV is not plausible: raw ADC "
        "values, or another unit? Pass unit=, or divide by the gain first."
    )
    if report is not None:
        detail = "typical peak-to-peak range of the leads is outside 0.01 to 30 mV"
        report.add(stack.positions[odd], "amplitude_implausible", detail)


def check_half_precision(signal: Array, extremes: tuple[Array, Array] | None, backend: ArrayBackend) -> None:
    """Refuse amplitudes that would become infinite in half precision.

    Args:
        signal: float32 ``(records, leads, samples)`` in mV.
        extremes: Minimum and maximum of each lead ``(records, leads)``, if they are known already.
        backend: Array library in use.

    Raises:
        SignalError: naming the largest amplitude.
    """
    low, high = extremes or (backend.minimum(signal), backend.maximum(signal))
    largest = max(float(high.max()), -float(low.min()))
    if largest > MAX_HALF:
        raise SignalError(
            f"amplitudes up to {largest:.3g} mV can't be an ECG; convert raw values to millivolts or choose a "
            "normalization",
            value=largest,
        )


def without_variation(low: Array, high: Array, backend: ArrayBackend) -> Array:
    """Which leads, given by their minima and maxima, do not vary relative to their offset."""
    return (high - low) <= _FLAT * (1.0 + backend.where(high > -low, high, -low))
